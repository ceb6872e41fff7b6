//! Token buckets inside one process.
//!
//! Time is measured on tokio's monotonic clock. A bucket that would be full is the same as one that was never
//! used, so those are forgotten; at most so many buckets as were asked for are kept. One that is not full is
//! never forgotten, for that would let more pass than its limit: past the bound a new bucket is refused.

use async_trait::async_trait;
use callboard_ports::token_buckets::{self, Decision, Error, Level};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How many buckets are kept unless told otherwise.
pub const BUCKETS: usize = 100_000;

/// Full buckets are looked for once there are so many, then each time their number has doubled.
const SWEEP: usize = 1_024;
/// Past the bound, full buckets are looked for no more often than this.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Less than this of a token is lost in rounding. It is carried over, so it never adds up.
const ROUNDING: f64 = 1e-6;

/// Token buckets inside one process.
#[derive(Debug)]
pub struct TokenBuckets {
    buckets: Mutex<Buckets>,
}

impl Default for TokenBuckets {
    fn default() -> Self {
        Self::new(BUCKETS)
    }
}

impl TokenBuckets {
    /// Buckets that are all full, of which at most `most` are kept.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { buckets: Mutex::new(Buckets::new(most)) }
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl token_buckets::TokenBuckets for TokenBuckets {
    async fn take(&self, levels: &[Level], cost: f64) -> Result<Decision, Error> {
        self.buckets().take(levels, cost, Instant::now())
    }

    async fn settle(&self, levels: &[Level], cost: f64) -> Result<(), Error> {
        self.buckets().settle(levels, cost, Instant::now())
    }

    fn take_now(&self, levels: &[Level], cost: f64) -> Option<Result<Decision, Error>> {
        Some(self.buckets().take(levels, cost, Instant::now()))
    }

    fn settle_now(&self, levels: &[Level], cost: f64) -> Option<Result<(), Error>> {
        Some(self.buckets().settle(levels, cost, Instant::now()))
    }

    fn left(&self, level: &Level) -> Option<f64> {
        Some(self.buckets().tokens(level, Instant::now()))
    }
}

/// When a level will have enough. Rounded up to a microsecond: who waits so long finds them.
fn wait(level: &Level, cost: f64, tokens: f64) -> Option<Duration> {
    let fits = cost <= level.burst + ROUNDING;
    let micros = ((cost - tokens) / level.rate * 1e6).ceil();
    Duration::try_from_secs_f64(micros / 1e6).ok().filter(|_| fits)
}

#[derive(Debug)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    most: usize,
    sweep_at: usize,
    swept: Option<Instant>,
}

/// What a bucket held at a moment, and how it fills up. A call may name another rate or burst than the one
/// before: its own counts from then on.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
    rate: f64,
    burst: f64,
}

impl Bucket {
    fn tokens(&self, rate: f64, burst: f64, now: Instant) -> f64 {
        let span = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + span * rate).min(burst)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.tokens(self.rate, self.burst, now) >= self.burst
    }
}

impl Buckets {
    fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { by_key: HashMap::new(), most, sweep_at: SWEEP.min(most), swept: None }
    }

    fn take(&mut self, levels: &[Level], cost: f64, now: Instant) -> Result<Decision, Error> {
        for level in levels {
            let tokens = self.tokens(level, now);
            // Said this way round, a cost that is no number is denied.
            let enough = tokens + ROUNDING >= cost;
            if !enough {
                let retry_after = wait(level, cost, tokens);
                return Ok(Decision::Denied { level: level.key.clone(), retry_after });
            }
        }
        self.settle(levels, cost, now).map(|()| Decision::Allowed)
    }

    fn settle(&mut self, levels: &[Level], cost: f64, now: Instant) -> Result<(), Error> {
        // An infinite debt would never be paid off.
        if !cost.is_finite() {
            return Ok(());
        }
        self.make_room(levels, now)?;
        for level in levels {
            self.debit(level, cost, now);
        }
        Ok(())
    }

    fn tokens(&self, level: &Level, now: Instant) -> f64 {
        self.by_key.get(&level.key).map_or(level.burst, |b| b.tokens(level.rate, level.burst, now))
    }

    fn debit(&mut self, level: &Level, cost: f64, now: Instant) {
        let (rate, burst) = (level.rate, level.burst);
        let tokens = (self.tokens(level, now) - cost).min(burst);
        let bucket = Bucket { tokens, at: now, rate, burst };
        match self.by_key.get_mut(&level.key) {
            Some(known) => *known = bucket,
            None => {
                self.by_key.insert(level.key.clone(), bucket);
            }
        }
    }

    /// Makes sure that the buckets of all levels can be kept.
    fn make_room(&mut self, levels: &[Level], now: Instant) -> Result<(), Error> {
        let new = levels.iter().filter(|l| !self.by_key.contains_key(&l.key)).count();
        if new == 0 || self.by_key.len() + new <= self.sweep_at {
            return Ok(());
        }
        if self.sweep_at < self.most || self.swept.is_none_or(|at| now >= at + SWEEP_EVERY) {
            self.by_key.retain(|_, bucket| !bucket.is_full(now));
            self.sweep_at = self.by_key.len().saturating_mul(2).max(SWEEP).min(self.most);
            self.swept = Some(now);
        }
        if self.by_key.len() + new > self.most {
            return Err(Error::Unavailable(format!("{} buckets are in use already", self.most)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(key: &str, rate: f64, burst: f64) -> [Level; 1] {
        [Level { key: key.into(), rate, burst }]
    }

    fn passes(buckets: &mut Buckets, level: &[Level], cost: f64, now: Instant) -> bool {
        buckets.take(level, cost, now) == Ok(Decision::Allowed)
    }

    fn denied(buckets: &mut Buckets, level: &[Level], cost: f64, now: Instant) -> Option<Duration> {
        match buckets.take(level, cost, now) {
            Ok(Decision::Denied { retry_after, .. }) => retry_after,
            other => panic!("{cost} of {level:?}: {other:?}"),
        }
    }

    #[test]
    fn exactly_the_burst_and_the_rate_pass() {
        let (mut buckets, mut now) = (Buckets::new(10), Instant::now());
        let (a, mut passed) = (level("a", 3.0, 10.0), 0);
        for _ in 0..100_000 {
            passed += u32::from(passes(&mut buckets, &a, 1.0, now));
            now += Duration::from_millis(1);
        }
        assert_eq!(passed, 10 + 299, "10 at once, then 3 a second for 99.999 s");
    }

    #[test]
    fn the_named_wait_is_exact() {
        let (mut buckets, mut now) = (Buckets::new(10), Instant::now());
        for rate in [0.1, 0.3, 1.0, 3.0, 7.0, 1_000.0, 123_456.7] {
            for cost in [1.0, 0.1, 9.9] {
                let a = level("a", rate, 10.0);
                let all = buckets.tokens(&a[0], now);
                buckets.settle(&a, all, now).unwrap();
                let wait = denied(&mut buckets, &a, cost, now).unwrap();
                assert!((wait.as_secs_f64() - cost / rate).abs() < 1.1e-6, "{wait:?} for {cost} at {rate}");
                if rate < 10.0 {
                    let early = now + wait - Duration::from_micros(20);
                    assert!(!passes(&mut buckets, &a, cost, early), "{cost} at {rate} passed too early");
                }
                now += wait;
                assert!(passes(&mut buckets, &a, cost, now), "{cost} at {rate} after the wait");
            }
        }
    }

    #[test]
    fn nonsense_is_denied_and_changes_nothing() {
        let (mut buckets, now) = (Buckets::new(10), Instant::now());
        let (a, stopped) = (level("a", 1.0, 10.0), level("stopped", 0.0, 1.0));
        for cost in [f64::NAN, f64::INFINITY, 10.1] {
            assert_eq!(denied(&mut buckets, &a, cost, now), None);
        }
        for cost in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(buckets.settle(&a, cost, now), Ok(()));
        }
        assert!(passes(&mut buckets, &a, 10.0, now));
        assert!(passes(&mut buckets, &stopped, 1.0, now));
        assert_eq!(denied(&mut buckets, &stopped, 1.0, now), None, "without a rate nothing comes back");
    }

    #[test]
    fn full_buckets_are_forgotten_and_no_other() {
        let (mut buckets, mut now) = (Buckets::new(2_000), Instant::now());
        let names: Vec<_> = (0..2_000).map(|i| level(&i.to_string(), 1.0, 10.0)).collect();
        for (i, name) in names.iter().enumerate() {
            // Every second one is full again after a second, the others after ten.
            assert!(passes(&mut buckets, name, if i % 2 == 0 { 1.0 } else { 10.0 }, now));
        }
        let new = level("new", 1.0, 10.0);
        assert!(matches!(buckets.take(&new, 1.0, now), Err(Error::Unavailable(_))));
        assert!(passes(&mut buckets, &names[0], 1.0, now), "those that are known go on");
        now += Duration::from_secs(2);
        assert!(passes(&mut buckets, &new, 1.0, now));
        assert_eq!(buckets.by_key.len(), 1_001);
        for name in names.iter().skip(1).step_by(2) {
            assert!(!passes(&mut buckets, name, 3.0, now), "{name:?} was forgotten");
        }
        now += Duration::from_secs(20);
        for i in 0..100_000 {
            let brief = level(&format!("brief-{i}"), 1_000.0, 1.0);
            assert!(passes(&mut buckets, &brief, 1.0, now));
            now += Duration::from_millis(1);
        }
        assert!(buckets.by_key.len() <= 2 * SWEEP, "{} are kept", buckets.by_key.len());
    }
}
