//! Counting on the hot path: what costs some nanoseconds, takes no lock and allocates nothing.
//!
//! Whoever does something owns its counters and histograms, as fields; nothing is registered, and nothing is looked up
//! by name. Somebody else reads them now and then and gives them their names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds for what takes microseconds to seconds, in nanoseconds: 100 us to 10 s.
pub const FAST: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];

/// Upper bounds for what takes milliseconds to an hour, in nanoseconds: 1 ms to 3,600 s.
pub const SLOW: &[u64] = &[
    1_000_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
    3_600_000_000_000,
];

/// Upper bounds for how many items a batch has: 1 to 2,000.
pub const ITEMS: &[u64] = &[1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_000];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often values fell between fixed bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is beyond the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one. `bounds` are the largest values of its buckets, ascending.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Takes a value in.
    pub fn observe(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Takes a span of time in, as nanoseconds.
    pub fn took(&self, span: Duration) {
        self.observe(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What it has taken in so far.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let buckets = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        Distribution { bounds: self.bounds, buckets, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// What a [`Histogram`] had taken in at some moment. Values that came in that moment may be missing from its sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The largest value of each bucket but the last, which has no bound.
    pub bounds: &'static [u64],
    /// How many values fell into each.
    pub buckets: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

impl Distribution {
    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// How batches are written: their sizes, how long each took, and what waits to be in one.
#[derive(Debug)]
pub struct Batches {
    /// The rows of each.
    pub rows: Histogram,
    /// From when it was taken to when it was committed or had failed.
    pub took: Histogram,
}

impl Default for Batches {
    fn default() -> Self {
        Self { rows: Histogram::new(ITEMS), took: Histogram::new(FAST) }
    }
}

impl Batches {
    /// A batch was written, or could not be.
    pub fn wrote(&self, rows: usize, took: Duration) {
        self.rows.observe(u64::try_from(rows).unwrap_or(u64::MAX));
        self.took.took(took);
    }

    /// How they are written so far, with `waiting` rows in the queue before the next.
    #[must_use]
    pub fn read(&self, waiting: usize) -> BatchesRead {
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        BatchesRead { rows: self.rows.read(), took: self.took.read(), waiting }
    }
}

/// What [`Batches`] had taken in at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchesRead {
    /// The rows of each.
    pub rows: Distribution,
    /// How long each took, in nanoseconds.
    pub took: Distribution,
    /// Rows that wait for the next.
    pub waiting: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[10, 20]);
        [0, 10, 11, 20, 21, 1_000].into_iter().for_each(|value| histogram.observe(value));
        let read = histogram.read();
        assert_eq!(read.buckets, [2, 2, 2]);
        assert_eq!((read.count(), read.sum), (6, 1_062));
    }

    #[test]
    fn nothing_is_lost_when_many_threads_observe_at_once() {
        let histogram = Histogram::new(FAST);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| histogram.took(Duration::from_millis(1))));
            }
        });
        let read = histogram.read();
        assert_eq!((read.count(), read.sum), (40_000, 40_000 * 1_000_000));
        assert_eq!(read.buckets[3], 40_000, "1 ms is in the bucket that ends with it");
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [FAST, SLOW, ITEMS] {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
        }
    }
}
