//! The contract of [`Handoff`].

mod kit;

use super::{DEADLINE, QUIET, soon};
use crate::handoff::{Delivery, Dry, Error, Handoff, Ready, Want};
use crate::{Clock, SystemClock};
use async_trait::async_trait;
use callboard_domain::{Band, TaskId, Timestamp};
use kit::{Kit, MANY, ONE, ids, next, queues, quiet};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A fresh, empty hand-off on the operating system's clock.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The hand-off. Always the same one.
    fn handoff(&self) -> Arc<dyn Handoff>;

    /// How many tasks one band of one queue holds before it is full: at least 2,000. A backend may go
    /// over it by a half.
    fn bound(&self) -> usize;

    /// Loses a lane's queue behind the hand-off's back, with all it holds. Where the queues are in the process
    /// itself there is none to lose.
    async fn lose(&self, queue: &str, band: Band) {
        let _ = (queue, band);
    }
}

/// What is published is delivered as it was published, and once it is acknowledged no more.
pub async fn delivers_what_is_published(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut batch = Vec::new();
    for band in Band::ALL {
        batch.extend(kit.many("fast", band, 3));
        batch.push(Ready { handoff: u64::from(u32::MAX) + 1, ..kit.ready("slow", band) });
    }
    kit.publish(&batch).await;
    let mut consumer = kit.consume_all().await;
    let mut got = kit.drain(&mut consumer, MANY, batch.len()).await;
    got.sort_by_key(|r| r.id);
    assert_eq!(got, batch);
    quiet(&mut consumer, MANY).await;
    assert_eq!(kit.handoff.publish(Vec::new()).await, []);
}

/// A consumer that waits is woken, also one that waited before its queue existed.
pub async fn wakes_who_waits(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut consumer = kit.consume_all().await;
    for _ in 0..20 {
        let ready = kit.ready("fast", Band::Middle);
        let batch = [ready.clone()];
        let (delivery, ()) = futures::future::join(next(&mut consumer, MANY), kit.publish(&batch)).await;
        assert_eq!(delivery.tasks(), batch);
        delivery.ack();
    }
}

/// A delivery that is dropped returns all its tasks.
pub async fn a_dropped_delivery_returns(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let batch = kit.many("fast", Band::Middle, 10);
    kit.publish(&batch).await;
    let (mut first, mut second) = (kit.consume_all().await, kit.consume_all().await);
    for _ in 0..3 {
        let mut held = Vec::new();
        while held.iter().map(|d: &Delivery| d.tasks().len()).sum::<usize>() < batch.len() {
            held.push(next(&mut first, MANY).await);
        }
        drop(held);
    }
    assert_eq!(ids(&kit.drain(&mut second, MANY, batch.len()).await), ids(&batch));
    quiet(&mut second, MANY).await;
}

/// Tasks that were taken with a consumer come back when it is dropped with them.
pub async fn a_consumer_that_goes_away_keeps_nothing(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let batch = kit.many("fast", Band::Middle, 100);
    kit.publish(&batch).await;
    let mut first = kit.consume_all().await;
    let delivery = next(&mut first, MANY).await;
    drop(first);
    drop(delivery);
    let mut second = kit.consume_all().await;
    assert_eq!(ids(&kit.drain(&mut second, MANY, batch.len()).await), ids(&batch));
}

/// Dropping a call for the next delivery, at whatever moment, loses nothing.
pub async fn a_dropped_call_loses_nothing(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let batch = kit.many("fast", Band::Middle, 200);
    let mut consumer = kit.consume_all().await;
    let mut got = BTreeSet::new();
    let (publish, consume) = (
        async {
            for part in batch.chunks(5) {
                kit.publish(part).await;
                tokio::task::yield_now().await;
            }
        },
        async {
            let start = Instant::now();
            for round in 0u32.. {
                assert!(start.elapsed() < DEADLINE, "{} of {} came", got.len(), batch.len());
                let patience = Duration::from_micros(u64::from(round % 40) * 50);
                if let Ok(delivery) = tokio::time::timeout(patience, consumer.next(MANY)).await {
                    let delivery = delivery.expect("an open hand-off delivers");
                    got.extend(delivery.tasks().iter().map(|r| r.id));
                    delivery.ack();
                }
                if got.len() == batch.len() {
                    break;
                }
            }
        },
    );
    futures::future::join(publish, consume).await;
    assert_eq!(got, ids(&batch));
}

/// A consumer that was told to says when nothing waits for it, for as long as it is asked.
pub async fn tells_when_nothing_waits(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (mut consumer, dry) = (kit.consume_all().await, Arc::new(Dry::default()));
    consumer.tell(dry.clone());
    let is_dry = || dry.was_within(Duration::ZERO, Instant::now());
    assert!(!is_dry(), "it was not asked yet");
    kit.publish(&kit.many("fast", Band::Middle, 1)).await;
    kit.drain(&mut consumer, MANY, 1).await;
    let told = async {
        while !is_dry() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        delivery = consumer.next(MANY) => panic!("delivered, though nothing should be: {delivery:?}"),
        () = soon("what a consumer finds", told) => {}
    }
    assert!(!is_dry(), "nobody asks any more");
}

/// Several consumers share the tasks: all of them come, few twice.
pub async fn consumers_share_the_tasks(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let batch = kit.many("fast", Band::Middle, 500);
    let mut consumers = Vec::new();
    for _ in 0..4 {
        consumers.push(kit.consume_all().await);
    }
    let (left, done) = (std::sync::Mutex::new(ids(&batch)), tokio::sync::Notify::new());
    let is_through = || left.lock().is_ok_and(|left| left.is_empty());
    let takers = consumers.iter_mut().map(|consumer| async {
        let mut got = Vec::new();
        loop {
            let ended = done.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if is_through() {
                return got;
            }
            tokio::select! {
                () = &mut ended => {}
                delivery = consumer.next(Want { tasks: 7, alone: false }) => {
                    let delivery = delivery.expect("an open hand-off delivers");
                    got.extend_from_slice(delivery.tasks());
                    let came = ids(delivery.tasks());
                    left.lock().expect("nobody panicked").retain(|id| !came.contains(id));
                    delivery.ack();
                    done.notify_waiters();
                }
            }
        }
    });
    let all = futures::future::join(futures::future::join_all(takers), kit.publish(&batch));
    let (got, ()) = soon("all of them", all).await;
    let got: Vec<Ready> = got.into_iter().flatten().collect();
    assert_eq!(ids(&got), ids(&batch));
    // A busy broker may forget what was acknowledged over a channel that closes.
    let twice = got.len() - batch.len();
    assert!(twice <= batch.len() / 20, "{twice} came twice");
}

/// Within one band of one queue, what came first is delivered first, unless a consumer gave it back.
pub async fn a_band_is_first_in_first_out(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut in_order = false;
    // A consumer whose process stands still for a moment is taken for busy, and what it was sent goes back: that
    // only ever disturbs the order, so that once is enough to show that it is kept.
    for _ in 0..3 {
        let mut batch = kit.many("fast", Band::Middle, 300);
        batch.reverse();
        for part in batch.chunks(50) {
            kit.publish(part).await;
        }
        let mut consumer = kit.consume_all().await;
        let got = kit.drain(&mut consumer, MANY, batch.len()).await;
        assert_eq!(ids(&got), ids(&batch));
        in_order |= got == batch;
        if in_order {
            break;
        }
    }
    assert!(in_order, "a band is drawn in its order");
}

/// While all three bands of a queue are full they are drawn 1 : 4 : 16, evenly enough that the lowest always
/// moves.
pub async fn bands_are_drawn_by_weight(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    // A broker that has other things to do sends late what is due: what else it does only ever makes the shares
    // worse, so that once is enough to show that they are kept.
    let mut drawn = Err(String::new());
    for _ in 0..3 {
        drawn = shares_of_full_bands(&kit).await;
        if drawn.is_ok() {
            break;
        }
    }
    assert_eq!(drawn, Ok(()));
}

async fn shares_of_full_bands(kit: &Kit<impl Fixture>) -> Result<(), String> {
    const ALL: usize = 3 * 4 * 475;
    const DRAWS: usize = 2_100;
    for band in Band::ALL {
        for _ in 0..4 {
            let part = kit.many("fast", band, 475);
            kit.publish(&part).await;
        }
    }
    let mut consumer = kit.consume_all().await;
    let (mut drawn, mut since_low, mut longest) = ([0usize; 3], 0, 0);
    for _ in 0..DRAWS {
        for ready in kit.drain(&mut consumer, Want { tasks: 1, alone: false }, 1).await {
            drawn[usize::from(ready.band.index())] += 1;
            since_low = if ready.band == Band::Low { 0 } else { since_low + 1 };
            longest = longest.max(since_low);
        }
        // At a worker's pace: who sends what is due must be able to keep up.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    kit.drain(&mut consumer, MANY, ALL - DRAWS).await;
    let shares = [(100, 20), (400, 80), (1_600, 100)];
    let kept = drawn.iter().zip(shares).all(|(got, (share, slack))| got.abs_diff(share) <= slack);
    if !kept {
        return Err(format!("{drawn:?} instead of 100 : 400 : 1600"));
    }
    if longest < 5 * 21 { Ok(()) } else { Err(format!("the lowest band stood still for {longest} draws")) }
}

/// A band is not held up by others that are empty.
pub async fn one_band_alone_takes_it_all(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut consumer = kit.consume_all().await;
    for band in Band::ALL {
        let batch = kit.many("fast", band, 100);
        kit.publish(&batch).await;
        // In any order: while they were published the consumer did not ask, and gave back what it had by then.
        assert_eq!(ids(&kit.drain(&mut consumer, MANY, 100).await), ids(&batch));
    }
}

/// A consumer gets the tasks of its queues, all of them, and no others. Who consumes all gets those of a
/// queue that comes later too.
pub async fn consumes_only_its_queues(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut one = kit.consume(queues(&["fast"])).await;
    let mut two = kit.consume(queues(&["fast", "slow", "nobody's"])).await;
    let (fast, slow) = (kit.many("fast", Band::Low, 5), kit.many("slow", Band::High, 5));
    kit.publish(&slow).await;
    quiet(&mut one, MANY).await;
    kit.publish(&fast).await;
    assert_eq!(ids(&kit.drain(&mut one, MANY, 5).await), ids(&fast));
    quiet(&mut one, MANY).await;
    assert_eq!(ids(&kit.drain(&mut two, MANY, 5).await), ids(&slow));
    let mut all = kit.consume_all().await;
    let later = kit.many("later", Band::Middle, 5);
    kit.publish(&later).await;
    assert_eq!(ids(&kit.drain(&mut all, MANY, 5).await), ids(&later));
    quiet(&mut two, MANY).await;
}

/// A queue with many tasks does not hold up another.
pub async fn queues_do_not_starve_each_other(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (busy, calm) = (kit.many("busy", Band::High, 1_500), kit.many("calm", Band::Low, 5));
    kit.publish(&busy).await;
    kit.publish(&calm).await;
    let mut consumer = kit.consume_all().await;
    let (mut left, mut before) = (ids(&calm), 0);
    while !left.is_empty() {
        let delivery = next(&mut consumer, Want { tasks: 1, alone: false }).await;
        for ready in delivery.tasks() {
            left.remove(&ready.id);
            before += usize::from(&*ready.queue == "busy");
        }
        delivery.ack();
    }
    assert!(before < busy.len(), "the calm queue came when the busy one was through");
}

/// A task is not delivered before its time, is delivered soon after, and holds up nobody meanwhile.
pub async fn a_task_is_not_delivered_before_its_time(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut consumer = kit.consume_all().await;
    let at = |millis| Some(SystemClock.now().after(Duration::from_millis(millis)));
    let past = Ready { not_before: Some(Timestamp::from_micros(1)), ..kit.ready("fast", Band::Middle) };
    let late = Ready { not_before: at(1_200), ..kit.ready("fast", Band::Middle) };
    let soon = Ready { not_before: at(800), ..kit.ready("fast", Band::Middle) };
    let now = kit.ready("fast", Band::Middle);
    kit.publish(&[late.clone(), soon.clone(), past.clone(), now.clone()]).await;
    let got = kit.drain(&mut consumer, MANY, 2).await;
    assert_eq!(ids(&got), ids(&[past, now]));
    for wanted in [soon, late] {
        let got = kit.drain(&mut consumer, MANY, 1).await;
        assert_eq!(ids(&got), ids(std::slice::from_ref(&wanted)));
        let (due, now) = (wanted.not_before.expect("it waits"), SystemClock.now());
        assert!(now >= due, "{} too early", due.since(now).as_millis());
        assert!(now.since(due) < Duration::from_secs(2), "{} ms late", now.since(due).as_millis());
    }
}

/// A task that must be alone comes by itself, and only to who wants such a task; the others pass it by.
pub async fn a_task_that_must_be_alone_comes_alone(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut batch = kit.many("fast", Band::Middle, 20);
    for i in [0, 1, 10] {
        batch[i].alone = true;
    }
    let (alone, others): (Vec<_>, Vec<_>) = batch.iter().cloned().partition(|r| r.alone);
    kit.publish(&batch).await;
    let mut consumer = kit.consume_all().await;
    assert_eq!(ids(&kit.drain(&mut consumer, MANY, others.len()).await), ids(&others));
    quiet(&mut consumer, MANY).await;
    let more = kit.many("fast", Band::Middle, 5);
    kit.publish(&more).await;
    let (mut got, wanted) = (Vec::new(), alone.len() + more.len());
    while got.len() < wanted {
        let delivery = next(&mut consumer, Want { tasks: 64, alone: true }).await;
        let tasks = delivery.tasks();
        assert!(tasks.len() == 1 || tasks.iter().all(|r| !r.alone), "{tasks:?}");
        got.extend_from_slice(tasks);
        delivery.ack();
    }
    assert_eq!(ids(&got), &ids(&alone) | &ids(&more));
    // One that is dropped comes back as it was.
    let suspect = Ready { alone: true, ..kit.ready("fast", Band::Low) };
    kit.publish(std::slice::from_ref(&suspect)).await;
    drop(next(&mut consumer, ONE).await);
    quiet(&mut consumer, MANY).await;
    assert_eq!(kit.drain(&mut consumer, ONE, 1).await, [suspect]);
}

/// A task that is handed off anew while an older delivery of it is out is delivered anew, whatever becomes of
/// the older one.
pub async fn a_newer_handoff_survives_an_older_ack(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let mut consumer = kit.consume_all().await;
    for acked in [true, false] {
        let old = kit.ready("fast", Band::Middle);
        let new = Ready { handoff: 2, ..old.clone() };
        kit.publish(std::slice::from_ref(&old)).await;
        let delivery = next(&mut consumer, ONE).await;
        kit.publish(std::slice::from_ref(&new)).await;
        if acked {
            delivery.ack();
        } else {
            drop(delivery);
        }
        let mut newest = 0;
        while newest < new.handoff {
            // The older one may come once more, which is harmless.
            newest = kit.drain(&mut consumer, ONE, 1).await.iter().map(|r| r.handoff).fold(newest, u64::max);
        }
    }
    // Nor does the order of the two matter.
    while let Ok(delivery) = tokio::time::timeout(QUIET, consumer.next(ONE)).await {
        let delivery = delivery.expect("an open hand-off delivers");
        assert!(
            delivery.tasks().iter().all(|r| r.handoff == 1),
            "the newer one was acknowledged: {delivery:?}"
        );
        delivery.ack();
    }
}

/// A band at its bound takes no more and says so; what it took is delivered, and what it refused may be
/// published again.
pub async fn a_full_band_refuses(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (bound, mut answers) = (kit.fixture.bound(), HashMap::new());
    let batch = kit.many("fast", Band::Middle, 2 * bound);
    for part in batch.chunks(500) {
        let told = soon("publishing", kit.handoff.publish(part.to_vec())).await;
        answers.extend(part.iter().map(|r| r.id).zip(told));
    }
    let (taken, refused): (Vec<_>, Vec<_>) = batch.iter().cloned().partition(|r| answers[&r.id].is_ok());
    assert!((bound..=bound + bound / 2).contains(&taken.len()), "{} taken, bound {bound}", taken.len());
    assert!(refused.iter().all(|r| answers[&r.id] == Err(Error::Full)));
    kit.publish(&kit.many("slow", Band::Middle, 1)).await;
    let mut slow = kit.consume(queues(&["slow"])).await;
    kit.drain(&mut slow, MANY, 1).await;
    let mut consumer = kit.consume(queues(&["fast"])).await;
    let got = kit.drain(&mut consumer, MANY, taken.len()).await;
    assert_eq!(ids(&got), ids(&taken));
    let again = &refused[..100];
    let start = Instant::now();
    let mut left: HashSet<TaskId> = again.iter().map(|r| r.id).collect();
    while !left.is_empty() {
        assert!(start.elapsed() < DEADLINE, "{} are still refused", left.len());
        let part: Vec<_> = again.iter().filter(|r| left.contains(&r.id)).cloned().collect();
        for (ready, told) in part.iter().zip(kit.handoff.publish(part.clone()).await) {
            if told.is_ok() {
                left.remove(&ready.id);
            }
        }
    }
    assert_eq!(ids(&kit.drain(&mut consumer, MANY, again.len()).await), ids(again));
}

/// What the hand-off answers for is in a queue, also when the queue was just lost.
pub async fn what_is_answered_for_is_in_a_queue(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    kit.publish(&kit.many("fast", Band::Middle, 3)).await;
    kit.fixture.lose("fast", Band::Middle).await;
    let batch = kit.many("fast", Band::Middle, 300);
    let answers = soon("publishing", kit.handoff.publish(batch.clone())).await;
    let answered = batch.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
    let answered: BTreeSet<TaskId> = answered.map(|(ready, _)| ready.id).collect();
    let mut consumer = kit.consume_all().await;
    let (mut got, mut later, start) = (BTreeSet::new(), BTreeSet::new(), Instant::now());
    // First in, first out: when one has come that was published later, all of these have.
    while got.is_disjoint(&later) {
        assert!(start.elapsed() < DEADLINE, "nothing is delivered any more");
        let one = kit.ready("fast", Band::Middle);
        later.insert(one.id);
        // Refused or lost, another follows.
        let _ = kit.handoff.publish(vec![one]).await;
        while let Ok(delivery) = tokio::time::timeout(QUIET, consumer.next(MANY)).await {
            let delivery = delivery.expect("an open hand-off delivers");
            got.extend(ids(delivery.tasks()));
            delivery.ack();
        }
    }
    let missing = answered.difference(&got).count();
    assert_eq!(missing, 0, "of {} that were answered for, so many are in no queue", answered.len());
}

/// Runs the contract of `Handoff` as one test for each property.
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::handoff::Fixture).
#[macro_export]
macro_rules! handoff_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            handoff,
            [
                delivers_what_is_published,
                wakes_who_waits,
                a_dropped_delivery_returns,
                a_consumer_that_goes_away_keeps_nothing,
                a_dropped_call_loses_nothing,
                tells_when_nothing_waits,
                consumers_share_the_tasks,
                a_band_is_first_in_first_out,
                bands_are_drawn_by_weight,
                one_band_alone_takes_it_all,
                consumes_only_its_queues,
                queues_do_not_starve_each_other,
                a_task_is_not_delivered_before_its_time,
                a_task_that_must_be_alone_comes_alone,
                a_newer_handoff_survives_an_older_ack,
                a_full_band_refuses,
                what_is_answered_for_is_in_a_queue,
            ]
        );
    };
}
