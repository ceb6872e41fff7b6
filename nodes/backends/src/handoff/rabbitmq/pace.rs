//! How many tasks fit into a message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long one worker should take to start the tasks of a message.
const STARTED_WITHIN: Duration = Duration::from_millis(20);
/// How many tasks a worker is taken to run at once.
const SLOTS: u64 = 16;
/// From here on every task has a message of its own: with long tasks, the rest of a message waits.
const LONG: Duration = Duration::from_millis(100);
/// The most ids of a message.
const MOST: u64 = 500;
/// The most queues whose pace is remembered.
const QUEUES: usize = 1_000;
/// How much of the mean a new run makes: a sixteenth.
const WEIGHT: u64 = 16;

/// The mean run time of each queue, in microseconds, as this process has seen it.
#[derive(Default)]
pub(super) struct Pace(Mutex<HashMap<Arc<str>, u64>>);

impl Pace {
    fn times(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task of a queue ran so long.
    pub(super) fn ran(&self, queue: &Arc<str>, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut times = self.times();
        if let Some(mean) = times.get_mut(queue) {
            *mean = (*mean / WEIGHT).saturating_mul(WEIGHT - 1).saturating_add(took / WEIGHT).max(1);
        } else if times.len() < QUEUES {
            times.insert(queue.clone(), took.max(1));
        }
    }

    /// How many ids a message of a queue should have: one while nothing is known of it.
    pub(super) fn ids(&self, queue: &str) -> usize {
        let Some(mean) = self.times().get(queue).copied() else { return 1 };
        if Duration::from_micros(mean) >= LONG {
            return 1;
        }
        let within = u64::try_from(STARTED_WITHIN.as_micros()).unwrap_or(u64::MAX);
        usize::try_from((within * SLOTS / mean).clamp(1, MOST)).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_what_is_started_soon() {
        let (pace, queue) = (Pace::default(), Arc::from("q"));
        assert_eq!(pace.ids("q"), 1, "nothing is known");
        pace.ran(&queue, Duration::from_millis(5));
        assert_eq!(pace.ids("q"), 64);
        for _ in 0..100 {
            pace.ran(&queue, Duration::from_secs(1));
        }
        assert_eq!(pace.ids("q"), 1);
        for _ in 0..400 {
            pace.ran(&queue, Duration::from_micros(20));
        }
        assert_eq!(pace.ids("q"), 500);
    }
}
