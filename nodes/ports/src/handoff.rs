//! The durable hand-off from admission to workers.
//!
//! Guarantees every backend gives:
//! - Every published task is delivered at least once while somebody consumes its queue.
//! - A delivery dropped without [`Delivery::ack`] returns its tasks.
//! - Bands are drawn by their weights, so that the lowest always moves.
//! - Delivering a task twice is harmless: the claim in the store decides.

use async_trait::async_trait;
use callboard_domain::{Band, TaskId, Timestamp, TraceContext};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A task that waits for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The task.
    pub id: TaskId,
    /// Raised by every way into QUEUED: tells this hand-off from an older one.
    pub handoff: u64,
    /// The queue it waits in.
    pub queue: Arc<str>,
    /// The band it waits in.
    pub band: Band,
    /// Whether it must be delivered by itself and run beside no other such task: it may be what
    /// ends its nodes.
    pub alone: bool,
    /// Do not deliver it before this.
    pub not_before: Option<Timestamp>,
}

/// Why a hand-off did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be reached.
    #[error("the hand-off is unavailable: {0}")]
    Unavailable(String),
    /// The queue is at its bound.
    #[error("the queue is full")]
    Full,
    /// It was closed.
    #[error("the hand-off is closed")]
    Closed,
}

/// Which queues to consume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queues {
    /// All of them, also those that come later.
    All,
    /// These.
    Only(Vec<Arc<str>>),
}

/// How much a worker can take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// How many tasks. A hand-off that cannot count may deliver more; the claim gives back the rest.
    pub tasks: usize,
    /// Whether tasks that must be alone are wanted.
    pub alone: bool,
}

/// What becomes of a delivery: its tasks, and whether they were acknowledged.
type Settle = Box<dyn FnOnce(Vec<Ready>, bool) + Send>;

/// Tasks for a worker. Dropped without [`ack`](Self::ack), they are delivered again.
pub struct Delivery {
    tasks: Vec<Ready>,
    sent: HashMap<TaskId, TraceContext>,
    returns: Option<Settle>,
}

impl Delivery {
    /// A delivery. `settle` is called once, with the tasks and whether they were acknowledged.
    #[must_use]
    pub fn new(tasks: Vec<Ready>, settle: impl FnOnce(Vec<Ready>, bool) + Send + 'static) -> Self {
        Self { tasks, sent: HashMap::new(), returns: Some(Box::new(settle)) }
    }

    /// The same, with the spans of the messages that its tasks came in.
    #[must_use]
    pub fn sent_by(mut self, sent: HashMap<TaskId, TraceContext>) -> Self {
        self.sent = sent;
        self
    }

    /// The spans of the messages that its tasks came in, as far as they are known. Told once.
    pub fn take_sent(&mut self) -> HashMap<TaskId, TraceContext> {
        std::mem::take(&mut self.sent)
    }

    /// The tasks.
    #[must_use]
    pub fn tasks(&self) -> &[Ready] {
        &self.tasks
    }

    /// Says that the claim of these tasks has committed.
    pub fn ack(mut self) {
        self.settle(true);
    }

    fn settle(&mut self, acked: bool) {
        if let Some(settle) = self.returns.take() {
            settle(std::mem::take(&mut self.tasks), acked);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(false);
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

/// Whether nothing waits for a consumer, as far as it knows. What is on its way to it does not count.
#[derive(Debug, Default)]
pub struct Dry(Mutex<Findings>);

#[derive(Debug, Default)]
struct Findings {
    /// How many say so now.
    now: usize,
    /// When the last of them ended.
    ended: Option<Instant>,
}

/// Says that nothing waits, until it is dropped.
#[derive(Debug)]
pub struct FoundDry<'d>(&'d Dry);

impl Dry {
    fn lock(&self) -> MutexGuard<'_, Findings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing waits, or nothing any more: what did is being delivered.
    #[must_use]
    pub fn found(&self) -> FoundDry<'_> {
        self.lock().now += 1;
        FoundDry(self)
    }

    /// Whether nothing waits, or did not so long before `now`: while what came last is dealt with nobody asks.
    #[must_use]
    pub fn was_within(&self, since: Duration, now: Instant) -> bool {
        let findings = self.lock();
        findings.now > 0 || findings.ended.is_some_and(|at| now.saturating_duration_since(at) < since)
    }
}

impl Drop for FoundDry<'_> {
    fn drop(&mut self) {
        let mut findings = self.0.lock();
        findings.now = findings.now.saturating_sub(1);
        findings.ended = Some(Instant::now());
    }
}

/// Takes deliveries.
#[async_trait]
pub trait Consumer: Send {
    /// The next delivery, as soon as there is one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::Closed`] at the end; [`Error::Unavailable`] is worth another call.
    async fn next(&mut self, want: Want) -> Result<Delivery, Error>;

    /// Tells whenever this consumer, asked for more, knows that nothing waits for it beyond what it delivers. One
    /// that never knows tells nothing.
    fn tell(&mut self, dry: Arc<Dry>) {
        let _ = dry;
    }

    /// Says that nothing more is wanted for a while: what was sent here ahead goes to others now, and not once it is
    /// noticed that nobody asks. The next question ends it.
    fn rest(&mut self) {}
}

/// Moves tasks from those who queue them to those who run them.
#[async_trait]
pub trait Handoff: Send + Sync + 'static {
    /// Publishes tasks. An outcome per item, in order: `Ok` once the hand-off answers for it.
    async fn publish(&self, batch: Vec<Ready>) -> Vec<Result<(), Error>>;

    /// Whether it can be reached and takes tasks now.
    ///
    /// # Errors
    /// [`Error::Unavailable`], with why.
    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Starts to consume.
    async fn consume(&self, queues: Queues) -> Result<Box<dyn Consumer>, Error>;
}
