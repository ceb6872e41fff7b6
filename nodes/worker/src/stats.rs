//! What the worker counts. Kinds are those that the node hosts, so that names have an end.

use callboard_domain::{Task, Timestamp};
use callboard_ports::metrics::{Counter, Distribution, Histogram, SLOW};
use std::collections::HashMap;
use std::time::Duration;

/// How an attempt ends, as far as this worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Succeeded,
    Failed,
    Cancelled,
    Returned,
    Lost,
}

impl Ended {
    const ALL: [Self; 5] = [Self::Succeeded, Self::Failed, Self::Cancelled, Self::Returned, Self::Lost];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Returned => "returned",
            Self::Lost => "lost",
        }
    }
}

#[derive(Debug)]
struct Kind {
    ended: [Counter; Ended::ALL.len()],
    took: Histogram,
}

/// What a worker has counted since its node started.
#[derive(Debug)]
pub struct Stats {
    kinds: HashMap<String, Kind>,
    waited: Histogram,
    pub(crate) stale: Counter,
    pub(crate) gone: Counter,
    pub(crate) not_mine: Counter,
}

/// The attempts of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindRead {
    /// The kind.
    pub kind: String,
    /// How many attempts ended here, by outcome: `succeeded`, `failed`, `cancelled`, `returned` (handed off again),
    /// `lost` (its session had ended).
    pub ended: [(&'static str, u64); Ended::ALL.len()],
    /// How long their handlers ran, in nanoseconds.
    pub took: Distribution,
}

/// What [`Stats`] had counted at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsRead {
    /// The attempts of each kind that is hosted here, by name.
    pub kinds: Vec<KindRead>,
    /// From when a task may run to its claim, in nanoseconds: of tasks that were never given back nor lost.
    pub waited: Distribution,
    /// Ends of attempts that the store refused: another attempt holds the task, or it has ended.
    pub stale: u64,
    /// Tasks that were delivered and were somebody else's, or had ended.
    pub gone: u64,
    /// Tasks that were delivered and whose kind is not hosted here.
    pub not_mine: u64,
}

impl Stats {
    pub(crate) fn new<'a>(kinds: impl Iterator<Item = &'a String>) -> Self {
        let kind = || Kind { ended: Default::default(), took: Histogram::new(SLOW) };
        Self {
            kinds: kinds.map(|name| (name.clone(), kind())).collect(),
            waited: Histogram::new(SLOW),
            stale: Counter::default(),
            gone: Counter::default(),
            not_mine: Counter::default(),
        }
    }

    /// A task was claimed. What was given back or lost says no more when it was queued again.
    pub(crate) fn claimed(&self, task: &Task, now: Timestamp) {
        if task.life.attempt <= task.life.failures + 1 {
            self.waited.took(now.since(task.life.run_at));
        }
    }

    /// An attempt ended, after its handler ran so long; `None`: it did not run.
    pub(crate) fn ended(&self, kind: &str, outcome: Ended, ran: Option<Duration>) {
        let Some(counted) = self.kinds.get(kind) else { return };
        if let Some(counter) = counted.ended.get(outcome as usize) {
            counter.one();
        }
        if let Some(ran) = ran {
            counted.took.took(ran);
        }
    }

    pub(crate) fn read(&self) -> StatsRead {
        let read = |(name, kind): (&String, &Kind)| KindRead {
            kind: name.clone(),
            ended: Ended::ALL
                .map(|outcome| (outcome.name(), kind.ended.get(outcome as usize).map_or(0, Counter::get))),
            took: kind.took.read(),
        };
        let mut kinds: Vec<_> = self.kinds.iter().map(read).collect();
        kinds.sort_unstable_by(|a, b| a.kind.cmp(&b.kind));
        StatsRead {
            kinds,
            waited: self.waited.read(),
            stale: self.stale.get(),
            gone: self.gone.get(),
            not_mine: self.not_mine.get(),
        }
    }
}
