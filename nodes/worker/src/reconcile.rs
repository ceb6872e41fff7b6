//! Compares what runs here with what the store says this node holds.

use crate::engine::Engine;
use callboard_ports::store::Error;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The most tasks looked at in one read.
const BATCH: usize = 1_000;

/// Runs at once (the actor may have been restarted), then by its period.
pub(crate) async fn reconcile(engine: Arc<Engine>, life: CancellationToken) {
    let work = async {
        loop {
            if let Err(error) = once(&engine).await {
                tracing::warn!(%error, "cannot compare what runs with the store");
            }
            tokio::time::sleep(engine.options.reconcile_every).await;
        }
    };
    life.run_until_cancelled(work).await;
}

async fn once(engine: &Engine) -> Result<(), Error> {
    let Some(session) = engine.session() else { return Ok(()) };
    let held = engine.deps.store.held_by(session).await?;
    // Ids enter the claims before their claim is sent, so what is unknown here has no runner. One that
    // has ended since the read is refused by the fence.
    let lost: Vec<_> = held.into_iter().filter(|attempt| !engine.claims.knows(attempt.task_id)).collect();
    if !lost.is_empty() {
        tracing::warn!(count = lost.len(), "giving back attempts that no runner owns");
        engine.deps.store.give_back(session, lost).await?;
    }
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
