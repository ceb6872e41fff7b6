//! When a provider that fails is left out, and for how long.

use super::span;
use callboard_domain::limits;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The circuit breakers: one for each model of each provider, and of each of its keys. What is the fault of the call itself is never
/// counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Whether providers are left out at all.
    pub enabled: bool,
    /// A breaker opens after so many failures in a row, at least 1.
    pub failures: u32,
    /// It opens too if this share of calls has failed within `window`, 1 to 100.
    pub error_percent: u32,
    /// The share is looked at from so many calls on, at least 1.
    pub min_calls: u32,
    /// Of how long a time the share is taken.
    #[serde(with = "span")]
    pub window: Duration,
    /// How long a provider is left out at first. Doubled each time that the call which tries it again fails.
    #[serde(with = "span")]
    pub cool_down: Duration,
    /// The same for what does not mend itself: a spent quota, a refused key. It opens the breaker at once.
    #[serde(with = "span")]
    pub hard_cool_down: Duration,
    /// The longest a provider is left out. No wait that a provider names is taken to be longer.
    #[serde(with = "span")]
    pub max_cool_down: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 5,
            error_percent: 50,
            min_calls: 20,
            window: Duration::from_secs(60),
            cool_down: Duration::from_secs(30),
            hard_cool_down: Duration::from_secs(300),
            max_cool_down: Duration::from_secs(1_800),
        }
    }
}

impl Breaker {
    /// Every key that is wrong, and why.
    pub(super) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let span = |span: Duration| span.is_zero() || span > limits::TIMEOUT;
        let cool_down = self.cool_down.max(self.hard_cool_down);
        [
            ("breaker.failures", self.failures == 0, "must be at least 1"),
            ("breaker.error_percent", !(1..=100).contains(&self.error_percent), "must be 1 to 100"),
            ("breaker.min_calls", self.min_calls == 0, "must be at least 1"),
            ("breaker.window", span(self.window), "must be over zero and at most 24h"),
            ("breaker.cool_down", span(self.cool_down), "must be over zero and at most 24h"),
            ("breaker.hard_cool_down", span(self.hard_cool_down), "must be over zero and at most 24h"),
            ("breaker.max_cool_down", span(self.max_cool_down), "must be over zero and at most 24h"),
            ("breaker.max_cool_down", self.max_cool_down < cool_down, "must not be shorter than a cool-down"),
        ]
        .into_iter()
        .filter_map(|(key, wrong, description)| wrong.then_some((key, description)))
        .collect()
    }
}
