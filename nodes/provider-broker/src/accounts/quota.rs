use super::Span;
use callboard_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// How much may be asked of a provider in a calendar hour and day, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// The provider.
    pub provider: String,
    /// Calls an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_hour: Option<u64>,
    /// Calls a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// Tokens an hour, of prompts and answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_hour: Option<u64>,
    /// Tokens a day, of prompts and answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Calls.
    Requests,
    /// Tokens, of prompts and answers together.
    Tokens,
}

impl Measure {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

/// How a quota of a provider stands, over all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaStatus {
    /// What it counts.
    pub measure: Measure,
    /// For how long.
    pub span: Span,
    /// How much is used, calls that are not answered yet included by estimate.
    pub used: u64,
    /// How much may be.
    pub limit: u64,
    /// When it begins anew.
    pub resets: Timestamp,
    /// When it is spent at the rate of late, if that is before it begins anew.
    pub spent_at: Option<Timestamp>,
}

impl QuotaStatus {
    /// Its name, as in the configuration: `tokens_per_day`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}_per_{}", self.measure.name(), self.span.name())
    }
}

impl Quota {
    pub(super) fn parts(&self) -> impl Iterator<Item = (Measure, Span, u64)> {
        [
            (Measure::Requests, Span::Hour, self.requests_per_hour),
            (Measure::Requests, Span::Day, self.requests_per_day),
            (Measure::Tokens, Span::Hour, self.tokens_per_hour),
            (Measure::Tokens, Span::Day, self.tokens_per_day),
        ]
        .into_iter()
        .filter_map(|(measure, span, limit)| Some((measure, span, limit?)))
    }

    /// What is wrong with it, by field.
    pub(crate) fn problems(&self) -> Vec<(String, &'static str)> {
        let mut problems = Vec::new();
        if self.parts().next().is_none() {
            problems.push((
                "requests_per_day".into(),
                "must be given, or requests_per_hour, tokens_per_hour or tokens_per_day",
            ));
        }
        for (measure, span, limit) in self.parts() {
            let key = format!("{}_per_{}", measure.name(), span.name());
            if limit == 0 {
                problems.push((key, "must be over zero; leave a provider out to switch it off"));
            } else if i64::try_from(limit).is_err() {
                problems.push((key, "is too large"));
            }
        }
        problems
    }
}
