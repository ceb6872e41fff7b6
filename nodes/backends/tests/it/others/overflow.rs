//! The embedded hand-off in front of a store that holds more than its lanes do.

use super::queued::{Queued, readies, ready};
use callboard_backends::handoff::embedded::{Handoff, Options, Stats};
use callboard_domain::{Band, TaskId};
use callboard_ports::handoff::{Consumer, Delivery, Handoff as _, Queues, Ready, Want};
use callboard_ports::store::{Commit, CommitObserver};
use callboard_ports::{Clock, SystemClock};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

fn handoff(store: &Arc<Queued>, lane_capacity: usize) -> Arc<Handoff> {
    Handoff::new(Options { source: store.clone(), clock: Arc::new(SystemClock), lane_capacity })
}

/// Tasks come into QUEUED: they are stored, then the hand-off is told.
fn commit(store: &Queued, handoff: &Handoff, ready: Vec<Ready>) {
    ready.iter().for_each(|r| store.queue(r));
    handoff.committed(&Commit { ready, ..Commit::default() });
}

async fn next(consumer: &mut Box<dyn Consumer>, tasks: usize) -> Delivery {
    let next = consumer.next(Want { tasks, alone: true });
    tokio::time::timeout(DEADLINE, next).await.expect("a delivery in time").unwrap()
}

/// Waits until the hand-off is as full as said.
async fn until(handoff: &Handoff, stats: Stats) {
    let settled = async {
        while handoff.stats() != stats {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, settled).await.unwrap_or_else(|_| panic!("{:?}", handoff.stats()));
}

#[tokio::test]
async fn far_more_than_fits_comes_through_in_order() {
    let store = Arc::new(Queued::default());
    let handoff = handoff(&store, 8);
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    let mut got = Vec::new();
    for part in 0..20 {
        commit(&store, &handoff, readies(part * 50..part * 50 + 50));
        // Slower than they come in, then the rest.
        let wanted = if part < 19 { got.len() + 20 } else { 1_000 };
        while got.len() < wanted {
            let delivery = next(&mut consumer, 3).await;
            let claimed = delivery.tasks().iter().filter(|r| store.claim(r.id));
            got.extend(claimed.cloned());
            delivery.ack();
        }
        assert!(handoff.stats().waiting <= 2 * 8, "{:?}", handoff.stats());
    }
    assert_eq!(got, readies(0..1_000));
    // The last refill finds nothing, and the lane takes offers again.
    until(&handoff, Stats::default()).await;
    let reads = store.reads();
    commit(&store, &handoff, vec![ready(5_000)]);
    assert_eq!(next(&mut consumer, 3).await.tasks(), [ready(5_000)]);
    assert_eq!(store.reads(), reads, "what fits needs no read");
}

#[tokio::test]
async fn a_start_takes_in_what_the_store_holds() {
    let store = Arc::new(Queued::default());
    readies(0..100).iter().for_each(|r| store.queue(r));
    let handoff = handoff(&store, 10);
    commit(&store, &handoff, vec![ready(100)]);
    assert_eq!(handoff.refill_all().await, Ok(9));
    assert_eq!(handoff.refill_all().await, Ok(0), "again, nothing is new");
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    let mut got = HashSet::new();
    while got.len() < 101 {
        let delivery = next(&mut consumer, 7).await;
        got.extend(delivery.tasks().iter().map(|r| r.id).filter(|id| store.claim(*id)));
        delivery.ack();
    }
    until(&handoff, Stats::default()).await;
    store.go_down(true);
    assert!(handoff.refill_all().await.is_err());
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_again() {
    let store = Arc::new(Queued::default());
    let handoff = handoff(&store, 4);
    commit(&store, &handoff, readies(0..40));
    store.go_down(true);
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    let mut got = 0;
    while got < 40 {
        let delivery = next(&mut consumer, 4).await;
        got += delivery.tasks().iter().filter(|r| store.claim(r.id)).count();
        delivery.ack();
        if got == 4 {
            let asked = async {
                while store.reads() < 2 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(DEADLINE, asked).await.expect("it is asked again");
            store.go_down(false);
        }
    }
    until(&handoff, Stats::default()).await;
}

#[tokio::test]
async fn a_refill_that_finds_only_what_is_known_does_not_spin() {
    let store = Arc::new(Queued::default());
    let handoff = handoff(&store, 4);
    // All that fits is delivered and never acknowledged; twenty more wait for their time, of which four fit.
    let mut late = readies(100..120);
    for ready in &mut late {
        ready.not_before = Some(SystemClock.now().after(Duration::from_secs(3_600)));
    }
    commit(&store, &handoff, [readies(0..4), late].concat());
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    let held = next(&mut consumer, 4).await;
    let before = store.reads();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let reads = store.reads() - before;
    assert!((1..=6).contains(&reads), "{reads} reads in 0.7 s");
    // What comes meanwhile is found, though it is behind all those.
    commit(&store, &handoff, vec![ready(200)]);
    assert_eq!(next(&mut consumer, 4).await.tasks(), [ready(200)]);
    drop(held);
    assert_eq!(next(&mut consumer, 4).await.tasks(), readies(0..4));
}

/// Many producers and consumers on lanes that are far too small, with returned deliveries, tasks handed off
/// anew, suspects and tasks for later: each task is claimed once and nothing is left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_left_behind_under_load() {
    const TASKS: u32 = 20_000;
    let store = Arc::new(Queued::default());
    let handoff = handoff(&store, 16);
    let claimed = Arc::new(AtomicUsize::new(0));
    let mut work = tokio::task::JoinSet::new();
    for producer in 0..4 {
        let (store, handoff) = (store.clone(), handoff.clone());
        work.spawn(async move {
            let mine: Vec<u32> = (0..TASKS).filter(|n| n % 4 == producer).collect();
            for part in mine.chunks(25) {
                commit(&store, &handoff, part.iter().map(|n| mixed(*n)).collect());
                tokio::task::yield_now().await;
            }
        });
    }
    for worker in 0..4u32 {
        let (store, handoff, claimed) = (store.clone(), handoff.clone(), claimed.clone());
        work.spawn(async move {
            let queues =
                if worker == 0 { Queues::Only(vec!["odd".into(), "even".into()]) } else { Queues::All };
            let mut consumer = handoff.consume(queues).await.unwrap();
            let mut round = worker;
            while claimed.load(Ordering::SeqCst) < TASKS as usize {
                round += 1;
                let want = Want { tasks: 1 + round as usize % 20, alone: true };
                let next = tokio::time::timeout(Duration::from_millis(20), consumer.next(want));
                let Ok(delivery) = next.await else { continue };
                let delivery = delivery.unwrap();
                if round.is_multiple_of(7) {
                    continue; // Dropped: it comes again.
                }
                let (again, take): (Vec<_>, Vec<_>) =
                    delivery.tasks().iter().cloned().partition(|r| r.handoff == 1 && is_odd(r.id));
                let taken = take.iter().filter(|r| store.claim(r.id)).count();
                // Given back by the claim: handed off anew before the acknowledgement. Only what still waits.
                let again = again.into_iter().filter(|r| store.claim(r.id));
                commit(&store, &handoff, again.map(|r| Ready { handoff: 2, ..r }).collect());
                delivery.ack();
                claimed.fetch_add(taken, Ordering::SeqCst);
            }
        });
    }
    let all = tokio::time::timeout(3 * DEADLINE, work.join_all()).await;
    let count = claimed.load(Ordering::SeqCst);
    assert!(all.is_ok(), "{count} of {TASKS} were claimed: {:?}", handoff.stats());
    assert_eq!(count, TASKS as usize, "each was claimed once");
    // What is left are hand-offs of tasks that are gone. Acknowledged, they do not come again.
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    let want = Want { tasks: 100, alone: true };
    while let Ok(delivery) = tokio::time::timeout(Duration::from_millis(200), consumer.next(want)).await {
        delivery.unwrap().ack();
    }
    until(&handoff, Stats::default()).await;
}

/// A task of any sort: queue, band, alone or not, now or a little later.
fn mixed(n: u32) -> Ready {
    Ready {
        queue: if n.is_multiple_of(2) { "even".into() } else { "odd".into() },
        band: Band::ALL[n as usize % 3],
        alone: n.is_multiple_of(50),
        not_before: n
            .is_multiple_of(11)
            .then(|| SystemClock.now().after(Duration::from_millis(u64::from(n % 30)))),
        ..ready(n)
    }
}

fn is_odd(id: TaskId) -> bool {
    id.as_bytes()[15] % 2 == 1
}
