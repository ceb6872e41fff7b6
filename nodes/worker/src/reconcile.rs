//! Compares what runs here with what the store says this node holds.

use crate::engine::Engine;
use callboard_ports::store::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The most tasks looked at in one read.
const BATCH: usize = 1_000;
/// The wait after the store did not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs at once (the actor may have been restarted), by its period, and when asked to: after a claim in doubt,
/// an attempt that could not be given back, and once the store answers again.
pub(crate) async fn reconcile(engine: Arc<Engine>, life: CancellationToken) {
    let work = async {
        loop {
            let every = engine.options.reconcile_every;
            if let Err(error) = once(&engine).await {
                tracing::warn!(%error, "cannot compare what runs with the store");
                tokio::time::sleep(PAUSE.min(every)).await;
                continue;
            }
            let _ = tokio::time::timeout(every, engine.look.notified()).await;
        }
    };
    life.run_until_cancelled(work).await;
}

async fn once(engine: &Engine) -> Result<(), Error> {
    let Some(session) = engine.session() else { return Ok(()) };
    let (held, doubtful) = {
        // With no claim under way, what is held and has no runner never gets one.
        let _none = engine.claiming.write().await;
        let doubtful = engine.claims.doubtful();
        let held = engine.deps.store.held_by(session).await;
        engine.heard(&held);
        (held?, doubtful)
    };
    // One that has ended since the read is refused by the fence.
    let lost: Vec<_> = held.into_iter().filter(|attempt| !engine.claims.holds(*attempt)).collect();
    for lost in lost.chunks(BATCH) {
        tracing::warn!(count = lost.len(), "giving back attempts that no runner owns");
        let given = engine.deps.store.give_back(session, lost.to_vec()).await;
        engine.heard(&given);
        given?;
    }
    engine.claims.resolve(&doubtful);
    // A backstop: a cancel request that was not passed on.
    for ids in engine.claims.ids().chunks(BATCH) {
        for task in engine.deps.store.get(ids.to_vec()).await? {
            if task.life.cancel_requested {
                engine.claims.cancel(task.spec.id);
            }
        }
    }
    Ok(())
}
