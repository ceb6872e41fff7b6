//! What the cases of the hand-off's contract are made of.

use super::Fixture;
use crate::contract::{Ids, QUIET, soon};
use crate::handoff::{Consumer, Delivery, Handoff, Queues, Ready, Want};
use crate::{Clock, SystemClock};
use callboard_domain::{Band, TaskId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// As many as come.
pub(super) const MANY: Want = Want { tasks: 64, alone: false };
/// One task, of any sort.
pub(super) const ONE: Want = Want { tasks: 1, alone: true };

pub(super) struct Kit<F> {
    pub(super) fixture: F,
    pub(super) handoff: Arc<dyn Handoff>,
    pub(super) ids: Ids,
    /// What was taken: a hand-off may deliver it again.
    seen: Mutex<BTreeSet<(TaskId, u64)>>,
}

impl<F: Fixture> Kit<F> {
    pub(super) fn new(fixture: F) -> Self {
        Self { handoff: fixture.handoff(), fixture, ids: Ids::default(), seen: Mutex::default() }
    }

    pub(super) fn ready(&self, queue: &str, band: Band) -> Ready {
        let id = self.ids.next(SystemClock.now());
        Ready { id, handoff: 1, queue: queue.into(), band, alone: false, not_before: None }
    }

    pub(super) fn many(&self, queue: &str, band: Band, count: usize) -> Vec<Ready> {
        (0..count).map(|_| self.ready(queue, band)).collect()
    }

    /// Publishes all of it.
    pub(super) async fn publish(&self, batch: &[Ready]) {
        let answers = soon("publishing", self.handoff.publish(batch.to_vec())).await;
        assert_eq!(answers, vec![Ok(()); batch.len()]);
    }

    pub(super) async fn consume(&self, queues: Queues) -> Box<dyn Consumer> {
        self.handoff.consume(queues).await.expect("a hand-off is consumed")
    }

    /// Takes and acknowledges until `wanted` came that it has not taken before, in the order they came.
    pub(super) async fn drain(
        &self,
        consumer: &mut Box<dyn Consumer>,
        want: Want,
        wanted: usize,
    ) -> Vec<Ready> {
        let mut got = Vec::new();
        while got.len() < wanted {
            let delivery = next(consumer, want).await;
            let mut seen = self.seen.lock().expect("nobody panicked");
            got.extend(delivery.tasks().iter().filter(|r| seen.insert((r.id, r.handoff))).cloned());
            drop(seen);
            delivery.ack();
        }
        got
    }

    pub(super) async fn consume_all(&self) -> Box<dyn Consumer> {
        self.consume(Queues::All).await
    }
}

pub(super) async fn next(consumer: &mut Box<dyn Consumer>, want: Want) -> Delivery {
    soon("a delivery", consumer.next(want)).await.expect("an open hand-off delivers")
}

/// That nothing is delivered for a while.
pub(super) async fn quiet(consumer: &mut Box<dyn Consumer>, want: Want) {
    if let Ok(delivery) = tokio::time::timeout(QUIET, consumer.next(want)).await {
        panic!("delivered, though nothing should be: {delivery:?}");
    }
}

pub(super) fn ids(tasks: &[Ready]) -> BTreeSet<TaskId> {
    tasks.iter().map(|r| r.id).collect()
}

pub(super) fn queues(names: &[&str]) -> Queues {
    Queues::Only(names.iter().map(|n| Arc::from(*n)).collect())
}
