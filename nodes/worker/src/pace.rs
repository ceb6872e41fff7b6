use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a worker claims ahead should start within this.
const AHEAD: Duration = Duration::from_millis(50);
/// What ends within this ends soon: to let go of what was sent here and to ask for it again takes some of it.
const SOON: Duration = Duration::from_millis(50);
/// Attempts up to this long are short.
const SHORT: Duration = Duration::from_millis(50);
/// The most tasks claimed ahead: two claims, so that one is under way while the tasks of the other end.
const AHEAD_TASKS: usize = 1_000;
/// The weight of a new measurement.
const WEIGHT: f64 = 0.1;

/// How long attempts take of late, to tell how many may be claimed before a slot is free: none where
/// tasks are long, hundreds where they are tiny.
pub(crate) struct Pace {
    /// A decaying average, in seconds.
    average: Mutex<f64>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        // Nothing is claimed ahead until runs were seen to be short.
        Self { average: Mutex::new(1.0) }
    }

    /// An attempt took so long.
    pub(crate) fn ran(&self, took: Duration) {
        let mut average = self.average.lock().unwrap_or_else(PoisonError::into_inner);
        *average += WEIGHT * (took.as_secs_f64() - *average);
    }

    /// A claim found no slot in time: the average is wrong, be it that long tasks hold every slot.
    pub(crate) fn stalled(&self) {
        *self.average.lock().unwrap_or_else(PoisonError::into_inner) = 1.0;
    }

    /// Whether one of the attempts that run is expected to end soon, of which the oldest was claimed at `oldest`. One
    /// that is over its time may end at any moment.
    pub(crate) fn ends_soon(&self, oldest: Option<Instant>, now: Instant) -> bool {
        let average = self.average();
        let left = |at: Instant| average - now.saturating_duration_since(at).as_secs_f64();
        oldest.is_none_or(|at| left(at) <= SOON.as_secs_f64())
    }

    /// How many tasks may be claimed beyond the slots.
    pub(crate) fn ahead(&self, slots: usize) -> usize {
        rounds(AHEAD, self.average()).saturating_mul(slots).min(AHEAD_TASKS)
    }

    /// How many tasks beyond the slots would start within so long, where attempts are short. `None` where they are
    /// not.
    pub(crate) fn ahead_within(&self, within: Duration, slots: usize) -> Option<usize> {
        let average = self.average();
        (average <= SHORT.as_secs_f64())
            .then(|| rounds(within, average).saturating_mul(slots).min(AHEAD_TASKS))
    }

    /// In seconds.
    fn average(&self) -> f64 {
        *self.average.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many attempts of that length, in seconds, follow one another within so long.
fn rounds(within: Duration, average: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the limit")]
    let rounds = (within.as_secs_f64() / average.max(1e-6)).min(AHEAD_TASKS as f64) as usize;
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_that_have_just_begun_do_not_end_soon_where_tasks_are_long() {
        let (pace, now) = (Pace::new(), Instant::now());
        for _ in 0..200 {
            pace.ran(Duration::from_millis(200));
        }
        let after = |millis| pace.ends_soon(Some(now), now + Duration::from_millis(millis));
        assert_eq!([0, 100, 160, 1_000].map(after), [false, false, true, true]);
        assert!(pace.ends_soon(None, now), "nothing is known");
    }

    #[test]
    fn only_short_tasks_are_claimed_ahead() {
        let pace = Pace::new();
        assert_eq!(pace.ahead(64), 0);
        for _ in 0..100 {
            pace.ran(Duration::from_micros(50));
        }
        assert_eq!(pace.ahead(64), AHEAD_TASKS);
        pace.stalled();
        assert_eq!(pace.ahead(64), 0);
        for _ in 0..100 {
            pace.ran(Duration::from_millis(10));
        }
        assert!((2..=5).contains(&pace.ahead(1)));
    }

    #[test]
    fn only_where_attempts_are_short_are_some_taken_at_once() {
        let (pace, within) = (Pace::new(), Duration::from_millis(2));
        assert_eq!(pace.ahead_within(within, 8), None, "nothing is known yet");
        for _ in 0..100 {
            pace.ran(Duration::from_millis(40));
        }
        assert_eq!(pace.ahead_within(within, 8), Some(0), "as many as there are slots");
        for _ in 0..200 {
            pace.ran(Duration::from_micros(100));
        }
        assert!((100..=200).contains(&pace.ahead_within(within, 8).unwrap_or_default()));
        pace.stalled();
        assert_eq!(pace.ahead_within(within, 8), None);
    }
}
