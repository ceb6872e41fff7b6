//! What happens to tasks, counted as it is committed.

use callboard_domain::Happening;
use callboard_ports::metrics::Counter;
use callboard_ports::store::{Commit, CommitObserver};

const NAMES: [&str; 12] = [
    "submitted",
    "due",
    "claimed",
    "started",
    "progressed",
    "attempt_failed",
    "lost",
    "returned",
    "cancel_requested",
    "succeeded",
    "failed",
    "cancelled",
];

/// Counts what this node's commits say.
#[derive(Debug, Default)]
pub(in crate::node) struct TaskEvents([Counter; NAMES.len()]);

const fn place(what: &Happening) -> usize {
    match what {
        Happening::Submitted { .. } => 0,
        Happening::Due => 1,
        Happening::Claimed { .. } => 2,
        Happening::Started { .. } => 3,
        Happening::Progressed(_) => 4,
        Happening::AttemptFailed { .. } => 5,
        Happening::Lost { .. } => 6,
        Happening::Returned => 7,
        Happening::CancelRequested => 8,
        Happening::Succeeded => 9,
        Happening::Failed { .. } => 10,
        Happening::Cancelled => 11,
    }
}

impl TaskEvents {
    pub(super) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.0.iter().map(Counter::get))
    }
}

impl CommitObserver for TaskEvents {
    fn committed(&self, commit: &Commit) {
        // Summed up first: whoever writes in groups takes each counter once.
        let mut counts = [0; NAMES.len()];
        for event in &commit.events {
            if let Some(count) = counts.get_mut(place(&event.what)) {
                *count += 1;
            }
        }
        for (counter, count) in self.0.iter().zip(counts).filter(|(_, count)| *count > 0) {
            counter.add(count);
        }
    }
}
