//! How slow a model of a provider is lately.

use std::time::Duration;
use tokio::time::Instant;

/// How fast it is forgotten: after so long a third of it is left.
const DECAY: Duration = Duration::from_secs(10);
/// What a call that failed counts for, if it did not take longer.
const FAILED: Duration = Duration::from_secs(10);
/// What one counts for that is tried for the first time, until it has answered: others have answered already.
const UNTRIED: Duration = Duration::from_secs(1);

/// A moving average of latencies that rises at once and falls slowly ("peak EWMA", as in Finagle and linkerd), times the
/// calls that are under way.
///
/// It decays while nothing is heard too, so that one that was slow is tried again.
#[derive(Clone, Copy, Debug)]
pub(in crate::route) struct PeakEwma {
    /// In seconds, as it was then.
    average: f64,
    at: Instant,
    heard: bool,
    under_way: u32,
}

impl PeakEwma {
    pub(in crate::route) const fn new(now: Instant) -> Self {
        Self { average: 0.0, at: now, heard: false, under_way: 0 }
    }

    /// A call begins.
    pub(in crate::route) const fn begin(&mut self) {
        self.under_way = self.under_way.saturating_add(1);
    }

    /// A call was answered after so long.
    pub(in crate::route) fn answered(&mut self, took: Duration, now: Instant) {
        self.end();
        self.hear(took.as_secs_f64(), now);
    }

    /// A call failed after so long.
    pub(in crate::route) fn failed(&mut self, took: Duration, now: Instant) {
        self.end();
        self.hear(took.max(FAILED).as_secs_f64(), now);
    }

    /// A call failed for its own sake: nothing is known from it.
    pub(in crate::route) const fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// A call was given up after so long: it would have taken at least that.
    pub(in crate::route) fn given_up(&mut self, took: Duration, now: Instant) {
        self.end();
        let took = took.as_secs_f64();
        if took > self.decayed(now) {
            self.hear(took, now);
        }
    }

    fn hear(&mut self, took: f64, now: Instant) {
        let left = self.left(now);
        self.average =
            if took > self.average * left { took } else { self.average * left + took * (1.0 - left) };
        (self.at, self.heard) = (now, true);
    }

    /// The share of the average that is left by now.
    fn left(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.at).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }

    fn decayed(&self, now: Instant) -> f64 {
        self.average * self.left(now)
    }

    /// How slow another call would be, in seconds; `None` if it was never called.
    pub(in crate::route) fn slowness(&self, now: Instant) -> Option<f64> {
        match (self.heard, self.under_way) {
            (false, 0) => None,
            (false, _) => Some(UNTRIED.as_secs_f64()),
            (true, under_way) => Some(self.decayed(now) * (f64::from(under_way) + 1.0)),
        }
    }

    /// When something was heard last.
    pub(in crate::route) const fn at(&self) -> Instant {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn after(calls: &[(u64, u64)]) -> (PeakEwma, Instant) {
        let mut now = Instant::now();
        let mut average = PeakEwma::new(now);
        for (gap, took) in calls {
            now += ms(*gap);
            average.begin();
            average.answered(ms(*took), now);
        }
        (average, now)
    }

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let (average, now) = after(&[(0, 100), (100, 100), (100, 900)]);
        assert!((average.slowness(now).unwrap() - 0.9).abs() < 1e-9);
        let (average, now) = after(&[(0, 900), (1_000, 100)]);
        let fallen = average.slowness(now).unwrap();
        assert!(fallen > 0.8 && fallen < 0.9, "{fallen}");
        let long = average.slowness(now + Duration::from_secs(60)).unwrap();
        assert!(long < 0.01, "{long}");
    }

    #[test]
    fn failures_are_slow_and_calls_under_way_count() {
        let now = Instant::now();
        let mut average = PeakEwma::new(now);
        assert_eq!(average.slowness(now), None);
        average.begin();
        assert_eq!(average.slowness(now), Some(1.0));
        average.failed(ms(1), now);
        assert_eq!(average.slowness(now), Some(10.0));
        let (mut average, now) = after(&[(0, 100)]);
        average.begin();
        assert!((average.slowness(now).unwrap() - 0.2).abs() < 1e-9);
        average.given_up(ms(5), now);
        assert!((average.slowness(now).unwrap() - 0.1).abs() < 1e-9, "a call that was cut says nothing");
        average.begin();
        average.given_up(ms(5_000), now);
        assert!((average.slowness(now).unwrap() - 5.0).abs() < 1e-9);
        average.begin();
        average.end();
        assert!((average.slowness(now).unwrap() - 5.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn it_is_at_least_the_last_and_at_most_the_slowest(calls in prop::collection::vec((0_u64..20_000, 1_u64..20_000), 1..50)) {
            let (average, now) = after(&calls);
            let slowness = average.slowness(now).unwrap();
            let (most, last) = (calls.iter().map(|(_, took)| *took).max().unwrap(), calls.last().unwrap().1);
            prop_assert!(slowness <= most as f64 / 1_000.0 + 1e-9);
            prop_assert!(slowness >= last as f64 / 1_000.0 - 1e-9);
        }
    }
}
