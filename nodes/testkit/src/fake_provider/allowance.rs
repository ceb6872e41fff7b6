//! Limits of its own, and the headers that tell of them.

use super::wire::Wire;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use chrono::{DateTime, SecondsFormat, Utc};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// How many requests over one key to one model are answered in a window; the others get a 429. Every answer says how
/// many are left, in the headers of its wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// So many.
    pub requests: u64,
    /// The window, from the first of them on: whole seconds.
    pub window: Duration,
}

/// What was used of it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    allowance: Option<Allowance>,
    /// How many, and until when, by key and model.
    used: HashMap<(String, String), (u64, SystemTime)>,
    refused: u64,
}

/// What is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    limit: u64,
    remaining: u64,
    reset: Duration,
    at: SystemTime,
    pub(super) refused: bool,
}

impl Ledger {
    pub(super) fn new(allowance: Option<Allowance>) -> Self {
        Self { allowance, ..Self::default() }
    }

    /// How many requests were refused.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Counts a request.
    pub(super) fn take(&mut self, key: &str, model: &str) -> Option<Left> {
        let Allowance { requests: limit, window } = self.allowance?;
        let now = SystemTime::now();
        let (used, at) = self.used.entry((key.to_owned(), model.to_owned())).or_insert((0, now + window));
        if *at <= now {
            (*used, *at) = (0, now + window);
        }
        let refused = *used >= limit;
        *used += u64::from(!refused);
        self.refused += u64::from(refused);
        let reset = at.duration_since(now).unwrap_or_default();
        Some(Left { limit, remaining: limit - *used, reset, at: *at, refused })
    }
}

impl Left {
    /// Says so in headers.
    pub(super) fn tell(self, wire: Wire, headers: &mut HeaderMap) {
        let Self { limit, remaining, reset, at, refused } = self;
        let mut tell = |name: &'static str, value: String| {
            headers.extend(HeaderValue::try_from(value).ok().map(|v| (HeaderName::from_static(name), v)));
        };
        match wire {
            Wire::OpenAi => {
                tell("x-ratelimit-limit-requests", limit.to_string());
                tell("x-ratelimit-remaining-requests", remaining.to_string());
                tell("x-ratelimit-reset-requests", format!("{}ms", reset.as_millis() + 1));
            }
            Wire::Anthropic => {
                let reset = DateTime::<Utc>::from(at + Duration::from_secs(1));
                tell("anthropic-ratelimit-requests-limit", limit.to_string());
                tell("anthropic-ratelimit-requests-remaining", remaining.to_string());
                tell("anthropic-ratelimit-requests-reset", reset.to_rfc3339_opts(SecondsFormat::Secs, true));
            }
            Wire::Gemini | Wire::Ollama => {}
        }
        if refused {
            headers.insert(header::RETRY_AFTER, (reset.as_secs() + 1).into());
        }
    }
}
