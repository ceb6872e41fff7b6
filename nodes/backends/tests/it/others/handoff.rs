use super::queued::Queued;
use callboard_backends::handoff::embedded::{self, Options};
use callboard_ports::contract::handoff::Fixture;
use callboard_ports::handoff::{Error, Queues, Want};
use callboard_ports::store::{Commit, CommitObserver};
use callboard_ports::{Handoff, SystemClock};
use std::sync::Arc;

/// A hand-off before a store that holds nothing.
struct Embedded(Arc<embedded::Handoff>);

const BOUND: usize = 3_000;

impl Embedded {
    fn new() -> Self {
        let options = Options::new(Arc::new(Queued::default()), Arc::new(SystemClock));
        Self(embedded::Handoff::new(Options { lane_capacity: BOUND, ..options }))
    }
}

impl Fixture for Embedded {
    fn handoff(&self) -> Arc<dyn Handoff> {
        self.0.clone()
    }

    fn bound(&self) -> usize {
        BOUND
    }
}

callboard_ports::handoff_contract!(|| async { Embedded::new() });

#[tokio::test]
async fn a_worker_gets_no_more_than_it_wants() {
    let handoff = Embedded::new().0;
    handoff.committed(&Commit { ready: super::queued::readies(0..10), ..Commit::default() });
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    for (tasks, wanted) in [(3, 3), (1, 1), (100, 6)] {
        let delivery = consumer.next(Want { tasks, alone: true }).await.unwrap();
        assert_eq!(delivery.tasks().len(), wanted);
        delivery.ack();
    }
    assert_eq!(handoff.stats(), embedded::Stats::default());
}

#[tokio::test]
async fn closing_ends_who_waits_and_who_comes_later() {
    let handoff = Embedded::new().0;
    let mut consumer = handoff.consume(Queues::All).await.unwrap();
    let want = Want { tasks: 1, alone: true };
    let (ended, ()) = tokio::join!(consumer.next(want), handoff.close());
    assert_eq!(ended.err(), Some(Error::Closed));
    assert_eq!(consumer.next(want).await.err(), Some(Error::Closed));
    assert_eq!(handoff.publish(super::queued::readies(0..1)).await, [Err(Error::Closed)]);
    assert_eq!(handoff.consume(Queues::All).await.err(), Some(Error::Closed));
}
