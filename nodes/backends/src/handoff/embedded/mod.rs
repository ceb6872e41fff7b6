//! The hand-off inside one process: bounded lanes in memory in front of the store.
//!
//! It learns of tasks as a [`CommitObserver`] and hands them to its consumers. A lane (one band of one
//! queue) holds so many ids and no more: past that, ids stay in the store alone, and the lane is read from
//! there once it has run low. So memory is bounded, a long queue keeps its order, and losing this process
//! loses nothing: [`Handoff::refill_all`] reads it all again.
//!
//! Invariants:
//! - A task that is QUEUED in the store is in a lane, in a delivery, or in the store behind a lane that
//!   knows it has overflowed.
//! - An id is in one lane or delivery at a time; a later hand-off of it replaces an earlier one.
//! - The mutex is held for short pure sections, never across an await.
//!
//! It does not decide who runs a task: it may offer one that is taken already, and the claim drops it.

mod draw;
mod lanes;
mod refill;

use async_trait::async_trait;
use callboard_ports::clock::Clock;
use callboard_ports::handoff::{self, Consumer, Delivery, Dry, Error, Queues, Ready, Want};
use callboard_ports::store::{Commit, CommitObserver, TaskReader};
use lanes::{Lanes, Offer};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many ids a lane holds unless told otherwise.
pub const LANE_CAPACITY: usize = 10_000;

/// No sleeper trusts the wall clock for longer than this: it may step.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What a hand-off is made of.
pub struct Options {
    /// Where QUEUED tasks are read from.
    pub source: Arc<dyn TaskReader>,
    /// What `not_before` is compared with.
    pub clock: Arc<dyn Clock>,
    /// How many ids each lane holds in memory, for each of: those that wait, those that must be alone and
    /// those whose time has not come. At least 1. Once twenty lanes' worth is known in all, every lane
    /// holds a small part of it.
    pub lane_capacity: usize,
}

impl Options {
    /// With the default capacity.
    #[must_use]
    pub fn new(source: Arc<dyn TaskReader>, clock: Arc<dyn Clock>) -> Self {
        Self { source, clock, lane_capacity: LANE_CAPACITY }
    }
}

/// How full a hand-off is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Ids that wait for a consumer.
    pub waiting: usize,
    /// Ids whose time has not come.
    pub parked: usize,
    /// Ids delivered and not yet acknowledged.
    pub in_flight: usize,
    /// Lanes that have more in the store than in memory.
    pub overflowed: usize,
}

/// The hand-off inside one process.
pub struct Handoff {
    shared: Arc<Shared>,
    tracker: TaskTracker,
}

impl Handoff {
    /// An empty hand-off. It must be made inside a tokio runtime: it keeps a task that refills its lanes.
    /// Register it as an observer of its store, then call [`refill_all`](Self::refill_all).
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        let shared = Arc::new(Shared {
            lanes: Mutex::new(Lanes::new(options.lane_capacity)),
            source: options.source,
            clock: options.clock,
            changed: Notify::new(),
            runs_low: Notify::new(),
            one_refill: tokio::sync::Mutex::new(()),
            closing: CancellationToken::new(),
        });
        let tracker = TaskTracker::new();
        tracker.spawn(refill::keep_full(shared.clone()));
        tracker.close();
        Arc::new(Self { shared, tracker })
    }

    /// Takes in what the store holds as QUEUED and is not known here, and returns how many that was.
    /// Idempotent: for the start, and for a reconciler that trusts no event.
    ///
    /// # Errors
    /// What the store answers; then nothing changed.
    pub async fn refill_all(&self) -> Result<usize, callboard_ports::store::Error> {
        refill::all(&self.shared).await
    }

    /// How full it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.lanes().stats()
    }

    /// Ends every consumer with [`Error::Closed`] and stops refilling.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        self.tracker.wait().await;
    }
}

impl Drop for Handoff {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

/// What the handle, its consumers, their deliveries and the refilling task hold together.
struct Shared {
    lanes: Mutex<Lanes>,
    source: Arc<dyn TaskReader>,
    clock: Arc<dyn Clock>,
    /// Something can be taken that could not be before.
    changed: Notify,
    /// A lane wants to be refilled.
    runs_low: Notify,
    /// Held while a refill reads the store: two at once would take turns in losing what came meanwhile.
    one_refill: tokio::sync::Mutex<()>,
    closing: CancellationToken,
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Whatever panicked did not do so in the middle of a change: the lanes call nothing foreign.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer(&self, batch: &[Ready]) -> Vec<Offer> {
        if batch.is_empty() {
            return Vec::new();
        }
        let now = || self.clock.now();
        let (offers, low) = {
            let mut lanes = self.lanes();
            let offers = batch.iter().map(|ready| lanes.offer(ready, &now)).collect();
            (offers, lanes.runs_low())
        };
        self.wake(low);
        offers
    }

    /// Wakes who may go on after the lanes have changed.
    fn wake(&self, low: bool) {
        self.changed.notify_waiters();
        if low {
            self.runs_low.notify_one();
        }
    }

    fn deliver(self: &Arc<Self>, tasks: Vec<Ready>) -> Delivery {
        let shared = self.clone();
        Delivery::new(tasks, move |tasks, acked| {
            let low = {
                let mut lanes = shared.lanes();
                lanes.settle(tasks, acked);
                lanes.runs_low()
            };
            if acked && !low {
                return;
            }
            shared.wake(low);
        })
    }
}

impl CommitObserver for Handoff {
    fn committed(&self, commit: &Commit) {
        self.shared.offer(&commit.ready);
    }
}

#[async_trait]
impl handoff::Handoff for Handoff {
    async fn publish(&self, batch: Vec<Ready>) -> Vec<Result<(), Error>> {
        if self.shared.closing.is_cancelled() {
            return vec![Err(Error::Closed); batch.len()];
        }
        let told = |offer| match offer {
            Offer::Taken | Offer::Known => Ok(()),
            Offer::Full => Err(Error::Full),
        };
        self.shared.offer(&batch).into_iter().map(told).collect()
    }

    async fn consume(&self, queues: Queues) -> Result<Box<dyn Consumer>, Error> {
        if self.shared.closing.is_cancelled() {
            return Err(Error::Closed);
        }
        Ok(Box::new(Subscription { shared: self.shared.clone(), queues, dry: Arc::default() }))
    }
}

/// One consumer of some queues.
struct Subscription {
    shared: Arc<Shared>,
    queues: Queues,
    dry: Arc<Dry>,
}

impl Subscription {
    /// What there is to take now, and whether that is all; else how long to wait at most for a task whose time comes.
    fn take(&self, want: Want) -> (Result<Vec<Ready>, Option<Duration>>, bool) {
        let mut lanes = self.shared.lanes();
        let mut sleep = None;
        if lanes.has_parked() {
            let now = self.shared.clock.now();
            sleep = lanes.release(now).map(|due| due.since(now).min(LONGEST_SLEEP));
        }
        let tasks = lanes.take(&self.queues, want);
        if lanes.runs_low() {
            self.shared.runs_low.notify_one();
        }
        (if tasks.is_empty() { Err(sleep) } else { Ok(tasks) }, lanes.are_dry())
    }
}

#[async_trait]
impl Consumer for Subscription {
    async fn next(&mut self, want: Want) -> Result<Delivery, Error> {
        loop {
            // Made before the lanes are looked at: it counts every `notify_waiters` from here on, polled or not.
            let changed = self.shared.changed.notified();
            if self.shared.closing.is_cancelled() {
                return Err(Error::Closed);
            }
            let (taken, is_dry) = self.take(want);
            let _dry = is_dry.then(|| self.dry.found());
            let sleep = match taken {
                // No await from here on: a call that is dropped holds nothing.
                Ok(tasks) => return Ok(self.shared.deliver(tasks)),
                Err(sleep) => sleep,
            };
            tokio::select! {
                () = changed => {}
                () = self.shared.closing.cancelled() => {}
                () = tokio::time::sleep(sleep.unwrap_or(LONGEST_SLEEP)), if sleep.is_some() => {}
            }
        }
    }

    fn tell(&mut self, dry: Arc<Dry>) {
        self.dry = dry;
    }
}
