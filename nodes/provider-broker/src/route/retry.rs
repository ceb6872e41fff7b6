//! Making a call again at the same provider.

use crate::broker::{Deps, Jitter};
use crate::config::Retry as Rules;
use crate::window::Window;
use callboard_domain::RetryPolicy;
use callboard_domain::llm::{Error, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Over which time calls and retries are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// So many retries in that time are allowed though there were few calls.
const FEW: u64 = 3;

/// How many calls were made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Made again.
    pub(crate) made: u64,
    /// Not made again, as too many had been.
    pub(crate) refused: u64,
    /// Made again, there or elsewhere, though it may have billed them.
    pub(crate) after_billing: u64,
}

/// What one provider may be asked again. In an outage nearly every call fails: made again, they would double
/// what a provider gets that has too much already.
#[derive(Debug)]
struct Budget {
    /// The calls; marked are those that were made again.
    window: Window,
    counts: Counts,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { window: Window::new(WINDOW, now), counts: Counts::default() }
    }

    /// Takes one retry, if there is one left.
    fn take(&mut self, percent: u32, now: Instant) -> bool {
        let counts = self.window.read(now);
        let first = counts.all - counts.marked;
        let left = counts.marked < FEW + first * u64::from(percent) / 100;
        if left {
            self.window.add(true, now);
            self.counts.made += 1;
        } else {
            self.counts.refused += 1;
        }
        left
    }
}

/// When a call is made again at the same provider.
pub(super) struct Retries {
    rules: Rules,
    jitter: Jitter,
    /// One for each provider, in their order.
    budgets: Vec<Mutex<Budget>>,
}

impl Retries {
    pub(super) fn new(rules: Rules, providers: usize, deps: &Deps) -> Self {
        let now = Instant::now();
        let budgets = (0..providers).map(|_| Mutex::new(Budget::new(now))).collect();
        Self { rules, jitter: Arc::clone(&deps.jitter), budgets }
    }

    /// A call goes to a provider for the first time.
    pub(super) fn call(&self, provider: usize) {
        if let Some(mut budget) = self.budget(provider) {
            budget.window.add(false, Instant::now());
        }
    }

    /// How long to wait before a call that has failed so often at a provider is made again; `None` if that
    /// could not help, or would take too long. It costs nothing yet: see [`Self::take`].
    pub(super) fn pause(&self, error: &Error, failures: u32) -> Option<Duration> {
        let helps = match error.kind {
            ErrorKind::Overloaded | ErrorKind::ServerFault | ErrorKind::Connection | ErrorKind::Timeout => {
                true
            }
            ErrorKind::RateLimited => error.retry_after.is_some(),
            _ => false,
        };
        let fits = error.retry_after.is_none_or(|wait| wait <= self.rules.max_backoff);
        let policy = RetryPolicy { base: self.rules.backoff, cap: self.rules.max_backoff };
        (helps && fits && failures <= self.rules.max)
            .then(|| policy.delay(failures, (self.jitter)(), error.retry_after))
    }

    /// Takes one retry from a provider's budget. Whether there was one.
    pub(super) fn take(&self, provider: usize) -> bool {
        let now = Instant::now();
        self.budget(provider).is_some_and(|mut budget| budget.take(self.rules.budget_percent, now))
    }

    /// A call is made that this provider, if any, may have billed before.
    pub(super) fn sent_again(&self, provider: Option<usize>) {
        if let Some(mut budget) = provider.and_then(|provider| self.budget(provider)) {
            budget.counts.after_billing += 1;
        }
    }

    /// How many calls to a provider were made again.
    pub(super) fn counts(&self, provider: usize) -> Counts {
        self.budget(provider).map(|budget| budget.counts).unwrap_or_default()
    }

    fn budget(&self, provider: usize) -> Option<MutexGuard<'_, Budget>> {
        Some(self.budgets.get(provider)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn retries_are_a_tenth_of_the_calls_and_a_few(
            steps in prop::collection::vec((0_u64..3_000, any::<bool>()), 1..500),
        ) {
            let mut now = Instant::now();
            let mut budget = Budget::new(now);
            let (mut calls, mut taken) = (Vec::new(), Vec::new());
            for (gap, retry) in steps {
                now += Duration::from_millis(gap);
                if !retry {
                    budget.window.add(false, now);
                    calls.push(now);
                } else if budget.take(10, now) {
                    taken.push(now);
                } else {
                    prop_assert!(taken.len() >= 3, "refused too early");
                }
                let lately = |all: &[Instant], span| all.iter().filter(|at| now - **at < span).count() as u64;
                // Each was taken while the window held all that were taken in this span, and no call older than
                // twice its own.
                let (taken, calls) = (lately(&taken, WINDOW - WINDOW / 12), lately(&calls, WINDOW + WINDOW));
                prop_assert!(taken <= FEW + calls / 10, "{taken} of {calls}");
            }
        }
    }
}
