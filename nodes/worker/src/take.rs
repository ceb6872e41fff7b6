//! The take loop: delivery -> claim -> ack -> run.

use crate::engine::Engine;
use crate::run;
use callboard_domain::Attempt;
use callboard_ports::handoff::{self, Consumer, Delivery, Want};
use callboard_ports::store::{self, Claim, ClaimRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The most tasks of one claim.
const BATCH: usize = 500;
/// The wait after the store or the hand-off could not be reached.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn take(engine: Arc<Engine>, life: CancellationToken) {
    while !life.is_cancelled() && !engine.is_draining() {
        match engine.deps.handoff.consume(engine.options.queues.clone()).await {
            Ok(mut consumer) => match consume(&engine, &life, consumer.as_mut()).await {
                Ok(()) | Err(handoff::Error::Closed) => return,
                Err(error) => tracing::warn!(%error, "cannot take tasks"),
            },
            Err(error) => tracing::warn!(%error, "cannot take tasks"),
        }
        life.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
    }
}

async fn consume(
    engine: &Arc<Engine>,
    life: &CancellationToken,
    consumer: &mut dyn Consumer,
) -> Result<(), handoff::Error> {
    loop {
        let next = async {
            let want = wanted(engine).await;
            let mut session = engine.deps.session.clone();
            // Without a session nothing is claimed. The sender lives as long as the node.
            if session.wait_for(Option::is_some).await.is_err() {
                return Err(handoff::Error::Closed);
            }
            consumer.next(want).await
        };
        // Dropping `next` loses nothing; what follows it runs to its end, so that no claim is forgotten.
        let Some(delivery) = life.run_until_cancelled(next).await else { return Ok(()) };
        let delivery = delivery?;
        if engine.is_draining() {
            return Ok(());
        }
        claim(engine, delivery).await;
    }
}

/// How much can be taken, as soon as it is worth a claim.
async fn wanted(engine: &Engine) -> Want {
    loop {
        let ahead = engine.pace.ahead(engine.options.slots);
        let room = (engine.options.slots + ahead).saturating_sub(engine.claims.len());
        // Where much is claimed ahead, a few more are not worth a claim yet.
        if room > ahead / 4 {
            return Want { tasks: room.min(BATCH), alone: engine.alone.available_permits() > 0 };
        }
        engine.claims.one_left().await;
    }
}

async fn claim(engine: &Arc<Engine>, delivery: Delivery) {
    let Some(session) = engine.session() else { return };
    let claiming = engine.claims.begin(delivery.tasks().iter().map(|ready| ready.id));
    if claiming.ids().is_empty() {
        return delivery.ack();
    }
    let request = ClaimRequest {
        session,
        node: Arc::clone(&engine.options.node),
        hosted: Arc::clone(&engine.hosted),
        take: claiming.ids().to_vec(),
        give_back: Vec::new(),
    };
    let outcomes = match engine.deps.store.claim(request).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            // The delivery is dropped and comes again. A claim that committed all the same is given back
            // by the reconcile loop.
            tracing::warn!(%error, "cannot claim tasks");
            if error == store::Error::SessionEnded {
                (engine.deps.on_session_ended)(session);
            }
            drop(delivery);
            return tokio::time::sleep(PAUSE).await;
        }
    };
    delivery.ack();
    for outcome in outcomes {
        match outcome {
            Claim::Claimed(claimed) => {
                let life = &claimed.task.life;
                let hold = claiming.hold(Attempt { task_id: claimed.task.spec.id, number: life.attempt });
                if life.cancel_requested {
                    hold.cancel.cancel();
                }
                engine.deps.tracker.spawn(run::run(Arc::clone(engine), session, *claimed, hold));
            }
            Claim::Gone(id) => tracing::debug!(task.id = %id, "a task that was handed off is gone"),
            Claim::NotMine(id) => tracing::warn!(task.id = %id, "this node does not host the task's kind"),
        }
    }
}
