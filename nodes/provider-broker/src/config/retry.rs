//! When a call is made again at the same provider.

use super::span;
use callboard_domain::limits;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Retries at the same provider: only where no other provider can be tried, only for what passes by itself,
/// and never beyond the time of the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How often a call is made again, 0 to 10. 0: never.
    pub max: u32,
    /// Before the first retry a random time up to this is waited, before each further one up to twice the last.
    #[serde(with = "span")]
    pub backoff: Duration,
    /// The longest that is waited. A rate limit that names a longer wait is not waited for.
    #[serde(with = "span")]
    pub max_backoff: Duration,
    /// For each provider, at most this share of the calls of the last minute is made again, 0 to 100; and three
    /// a minute in any case, so that a single failure at a low rate can be mended.
    pub budget_percent: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max: 1,
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(5),
            budget_percent: 10,
        }
    }
}

impl Retry {
    /// Every key that is wrong, and why.
    pub(super) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let span = |span: Duration| span.is_zero() || span > limits::TIMEOUT;
        [
            ("retry.max", self.max > 10, "must be at most 10"),
            ("retry.backoff", span(self.backoff), "must be over zero and at most 24h"),
            ("retry.max_backoff", span(self.max_backoff), "must be over zero and at most 24h"),
            ("retry.budget_percent", self.budget_percent > 100, "must be at most 100"),
        ]
        .into_iter()
        .filter_map(|(key, wrong, description)| wrong.then_some((key, description)))
        .collect()
    }
}
