//! When a failed attempt is tried again.

use std::time::Duration;

/// Exponential backoff with full jitter and a cap, as in "Exponential Backoff And Jitter"
/// (AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest wait after the first failure.
    pub base: Duration,
    /// The longest wait after any failure.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// One second, doubled up to five minutes.
    fn default() -> Self {
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(300) }
    }
}

impl RetryPolicy {
    /// How long to wait after the `failures`-th failure (counted from 1): a share of
    /// `base * 2^(failures - 1)`, at most `cap`. `jitter` is a random number in `0.0..1.0`;
    /// anything else counts as the nearest end.
    ///
    /// A wait that the other side named (`at_least`) is honoured, up to `cap`.
    #[must_use]
    pub fn delay(&self, failures: u32, jitter: f64, at_least: Option<Duration>) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.cap);
        let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
        ceiling.mul_f64(jitter).max(at_least.unwrap_or_default().min(self.cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_never_passes_the_cap_and_honours_the_other_side(
            failures in 0u32..1_000, jitter in proptest::num::f64::ANY, named in 0u64..10_000,
        ) {
            let policy = RetryPolicy::default();
            let named = Duration::from_secs(named);
            let delay = policy.delay(failures, jitter, Some(named));
            prop_assert!(delay <= policy.cap);
            prop_assert!(delay >= named.min(policy.cap));
        }

        #[test]
        fn the_ceiling_doubles(failures in 1u32..8) {
            let policy = RetryPolicy::default();
            prop_assert_eq!(policy.delay(failures + 1, 1.0, None), policy.delay(failures, 1.0, None) * 2);
        }
    }
}
