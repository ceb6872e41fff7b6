//! Repair: hands off again what the broker has lost.
//!
//! A task that is QUEUED without an outbox row is *suspect*: the broker answered for it, and may have lost it
//! since. The oldest suspects of a lane are noted with their hand-off numbers, then a marker is published into
//! the lane's queue. Queues are first in, first out: when the marker has been consumed, so has everything that
//! was published before it. What is suspect at the same number still, a while later, is lost. So a long queue
//! never causes duplicates, however long it takes.
//!
//! The while is for what is being claimed: [`AFTER`]; [`AFTER_IDLE`] where the queue is empty and its consumers
//! wait. A worker that holds its messages longer (it is paused) loses them to others, which is harmless.

use async_trait::async_trait;
use callboard_ports::epochs::Epoch;
use callboard_ports::outbox::{Lane, Suspect};
use callboard_ports::{Outbox, handoff, store};
use futures::FutureExt as _;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How often the store is looked at for suspects.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long after its marker a suspect is lost.
pub const AFTER: Duration = Duration::from_secs(5);
/// The same, where the queue is empty and its consumers wait.
pub const AFTER_IDLE: Duration = Duration::from_secs(2);
/// The most suspects of a lane noted at once.
const NOTED: usize = 1_000;
/// How long a marker may take before it is taken for lost, at first and at most. A lane without a consumer keeps
/// its markers.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// What a repairer hears of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The marker of this number was consumed.
    Passed(u64),
    /// The queue of this lane was gone, with all it held.
    Lost(Lane),
}

/// Markers in the queues of a broker.
#[async_trait]
pub trait Markers: Send {
    /// Publishes a marker behind everything that is in the lane's queue, and answers its number.
    async fn mark(&mut self, lane: &Lane) -> Result<u64, handoff::Error>;

    /// What is heard next. Dropping the future loses nothing.
    async fn heard(&mut self) -> Result<Heard, handoff::Error>;

    /// Whether the lane's queue is empty and somebody consumes it.
    async fn is_idle(&self, lane: &Lane) -> Result<bool, handoff::Error>;
}

struct Marked {
    number: u64,
    suspects: Vec<Suspect>,
    at: Instant,
    passed: Option<Instant>,
}

/// Why a step of the repair ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused. [`store::Error::Fenced`]: another node repairs.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The broker failed: the markers are gone, begin with new ones.
    #[error(transparent)]
    Handoff(#[from] handoff::Error),
}

/// Repairs lanes, a step at a time. It remembers its markers between steps and nothing else.
pub struct Repair<M> {
    markers: M,
    marked: BTreeMap<Lane, Marked>,
    patience: BTreeMap<Lane, Duration>,
    next_look: Instant,
}

impl<M: Markers> Repair<M> {
    /// Begins with these markers.
    pub fn new(markers: M) -> Self {
        Self { markers, marked: BTreeMap::new(), patience: BTreeMap::new(), next_look: Instant::now() }
    }

    /// Does what is due now, and answers how many tasks were handed off again. To be called every second or so.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn step(&mut self, outbox: &dyn Outbox, fence: &Epoch) -> Result<usize, Error> {
        self.hear()?;
        let repaired = self.settle(outbox, fence).await?;
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            for lane in outbox.suspect_lanes().await? {
                self.note(outbox, lane).await?;
            }
        }
        Ok(repaired)
    }

    fn hear(&mut self) -> Result<(), Error> {
        while let Some(heard) = self.markers.heard().now_or_never() {
            match heard? {
                Heard::Passed(number) => {
                    let marked = self.marked.values_mut().find(|marked| marked.number == number);
                    // Those of an earlier holder, or given up on, mean nothing.
                    if let Some(marked) = marked {
                        marked.passed.get_or_insert_with(Instant::now);
                    }
                }
                Heard::Lost(lane) => {
                    // Its marker is gone too, unless it was seen before.
                    if self.marked.get(&lane).is_some_and(|marked| marked.passed.is_none()) {
                        self.marked.remove(&lane);
                    }
                    self.next_look = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// Hands off again what is lost by now, and gives up on markers that do not come.
    async fn settle(&mut self, outbox: &dyn Outbox, fence: &Epoch) -> Result<usize, Error> {
        let (mut due, mut late) = (Vec::new(), Vec::new());
        for (lane, marked) in &self.marked {
            let Some(passed) = marked.passed else {
                let patience = self.patience.get(lane).copied().unwrap_or(PATIENCE.0);
                if marked.at.elapsed() >= patience {
                    late.push((lane.clone(), patience));
                }
                continue;
            };
            let since = passed.elapsed();
            if since >= AFTER || (since >= AFTER_IDLE && self.markers.is_idle(lane).await?) {
                due.push(lane.clone());
            }
        }
        for (lane, patience) in late {
            tracing::debug!(queue = %lane.0, seconds = patience.as_secs(), "a marker did not come back");
            self.patience.insert(lane.clone(), (patience * 2).min(PATIENCE.1));
            self.marked.remove(&lane);
        }
        let mut repaired = 0;
        for lane in due {
            let Some(marked) = self.marked.get(&lane) else { continue };
            // Remembered until it is done: a step that fails here is done again.
            let count = outbox.repair(marked.suspects.clone(), fence).await?;
            self.marked.remove(&lane);
            self.patience.remove(&lane);
            if count > 0 {
                tracing::warn!(queue = %lane.0, band = ?lane.1, count, "tasks were lost by the broker: handed off again");
                // There may be more than were noted.
                self.next_look = Instant::now();
            }
            repaired += count;
        }
        Ok(repaired)
    }

    async fn note(&mut self, outbox: &dyn Outbox, lane: Lane) -> Result<(), Error> {
        if self.marked.contains_key(&lane) {
            return Ok(());
        }
        // Noted before the marker is published: it comes behind all of them.
        let suspects = outbox.suspects(&lane, NOTED).await?;
        if !suspects.is_empty() {
            let number = match self.markers.mark(&lane).await {
                // A full queue is not lost.
                Err(handoff::Error::Full) => return Ok(()),
                told => told?,
            };
            self.marked.insert(lane, Marked { number, suspects, at: Instant::now(), passed: None });
        }
        Ok(())
    }
}
