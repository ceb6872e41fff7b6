//! The take loop: delivery -> claim -> ack -> run.

use crate::claims::Claiming;
use crate::engine::Engine;
use crate::run;
use callboard_domain::{Attempt, TraceContext};
use callboard_ports::handoff::{self, Consumer, Delivery, Want};
use callboard_ports::planted::Bug;
use callboard_ports::store::{Claim, ClaimRequest, Claimed, Error};
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    consumer.tell(Arc::clone(&engine.dry));
    loop {
        // Dropping `next` loses nothing; what follows it runs to its end, so that no claim is forgotten.
        let next = next(engine, consumer);
        let Some(taken) = life.run_until_cancelled(next).await else { return Ok(()) };
        let (want, delivery) = taken?;
        if engine.is_draining() {
            return Ok(());
        }
        if may_claim(engine) {
            claim(engine, delivery, want).await;
        }
    }
}

/// The next delivery that may be claimed, and what was wanted of it.
async fn next(engine: &Engine, consumer: &mut dyn Consumer) -> Result<(Want, Delivery), handoff::Error> {
    loop {
        let want = match wants(engine) {
            Some(want) => want,
            None => {
                if !engine.pace.ends_soon(engine.claims.oldest(), Instant::now()) {
                    consumer.rest();
                }
                wanted(engine).await
            }
        };
        let mut session = engine.deps.session.clone();
        // Without a session nothing is claimed. The senders live as long as the node.
        let open = session.wait_for(Option::is_some).await.is_ok();
        let mut may = engine.cluster.may_claim.clone();
        if !open || may.wait_for(|may| *may).await.is_err() {
            return Err(handoff::Error::Closed);
        }
        tokio::select! {
            biased;
            // Whoever waits for a delivery now would take it from a node that may claim.
            Ok(_) = may.wait_for(|may| !*may) => {}
            // What was wanted while a suspect ran would leave the next one waiting for other traffic.
            Ok(_) = engine.alone.acquire(), if !want.alone => {}
            delivery = consumer.next(want) => return Ok((want, delivery?)),
        }
    }
}

pub(crate) fn may_claim(engine: &Engine) -> bool {
    *engine.cluster.may_claim.borrow() && engine.session().is_some()
}

/// How many more tasks can be claimed now.
pub(crate) fn room(engine: &Engine, ahead: usize) -> usize {
    (engine.options.slots + ahead).saturating_sub(engine.claims.len())
}

/// Whether there is room for more results that the store cannot take yet.
pub(crate) fn results_fit(engine: &Engine) -> bool {
    engine.results.bytes() < engine.cluster.held_bytes
}

/// How much can be taken now, if it is worth a claim.
fn wants(engine: &Engine) -> Option<Want> {
    let ahead = engine.pace.ahead(engine.options.slots);
    let room = room(engine, ahead);
    // Where much is claimed ahead, a few more are not worth a claim yet.
    let is_worth = results_fit(engine) && room > ahead / 4;
    is_worth.then(|| Want { tasks: room.min(BATCH), alone: engine.alone.available_permits() > 0 })
}

/// How much can be taken, as soon as it is worth a claim.
async fn wanted(engine: &Engine) -> Want {
    loop {
        if let Some(want) = wants(engine) {
            return want;
        }
        engine.claims.one_left().await;
    }
}

async fn claim(engine: &Arc<Engine>, mut delivery: Delivery, want: Want) {
    let under_way = engine.claiming.read().await;
    let Some(session) = engine.session() else { return };
    let fences = engine.fences();
    // A hand-off that cannot count delivers more than is wanted. Where tasks are short it is taken all the same:
    // to hand each off again costs more than the moment that it waits here.
    let most = 2 * engine.pace.ahead(engine.options.slots);
    let room = room(engine, most).clamp(want.tasks, want.tasks.max(BATCH));
    let claiming = engine.claims.begin(session, delivery.tasks(), room);
    if claiming.ids().is_empty() && claiming.rest().is_empty() {
        return delivery.ack();
    }
    let request = ClaimRequest {
        session,
        node: Arc::clone(&engine.options.node),
        hosted: Arc::clone(&engine.hosted),
        take: claiming.ids(),
        give_back: claiming.rest().to_vec(),
    };
    let (take, rest, began) = (request.take.len(), request.give_back.len(), Instant::now());
    if Bug::AckBeforeClaimCommits.is_planted() {
        std::mem::replace(&mut delivery, Delivery::new(Vec::new(), |_, _| ())).ack();
    }
    let mut sent = delivery.take_sent();
    let answer = engine.deps.store.claim(request).await;
    tracing::debug!(take, rest, wanted = want.tasks, took = ?began.elapsed(), "claimed");
    engine.heard(&answer);
    let outcomes = match answer {
        Ok(outcomes) => outcomes,
        Err(error) => {
            drop(under_way);
            return not_claimed(engine, &error, claiming, delivery).await;
        }
    };
    delivery.ack();
    let now = engine.deps.clock.now();
    for outcome in outcomes {
        match outcome {
            Claim::Claimed(claimed) => {
                engine.stats.claimed(&claimed.task, now);
                let sent = sent.remove(&claimed.task.spec.id);
                start(engine, &claiming, *claimed, sent, fences);
            }
            Claim::Gone(id) => {
                engine.stats.gone.one();
                tracing::debug!(task.id = %id, "a task that was handed off is gone");
            }
            Claim::NotMine(id) => {
                engine.stats.not_mine.one();
                tracing::warn!(task.id = %id, "this node does not host the task's kind");
            }
        }
    }
}

pub(crate) fn start(
    engine: &Arc<Engine>,
    claiming: &Claiming,
    claimed: Claimed,
    sent: Option<TraceContext>,
    fences: u64,
) {
    let life = &claimed.task.life;
    let hold = claiming.hold(Attempt { task_id: claimed.task.spec.id, number: life.attempt });
    if life.cancel_requested {
        hold.cancel.cancel();
    }
    if engine.fences() != fences {
        // Attempts were given up while this claim was under way, and it may be one of those meant. If its
        // session lives, it is found to have no runner and given back.
        engine.look.notify_one();
        return;
    }
    engine.deps.tracker.spawn(run::run(Arc::clone(engine), claimed, hold, sent));
}

/// The delivery is dropped and comes again. What a claim in doubt may hold all the same is found by the
/// reconcile loop.
async fn not_claimed(engine: &Engine, error: &Error, claiming: Claiming, delivery: Delivery) {
    tracing::warn!(%error, "cannot claim tasks");
    let session = claiming.session();
    match error {
        // Nothing was taken.
        Error::Overloaded => drop(claiming),
        // Whoever ended it has handed off again what was taken.
        Error::SessionEnded => {
            drop(claiming);
            engine.session_ended(session);
        }
        // One row may be refused where those beside it were taken.
        _ => {
            claiming.doubt();
            engine.look.notify_one();
        }
    }
    drop(delivery);
    tokio::time::sleep(PAUSE).await;
}
