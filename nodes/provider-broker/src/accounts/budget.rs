use crate::config::money;
use callboard_domain::{Money, Timestamp, limits};
use serde::{Deserialize, Serialize};

/// The namespace of calls that nobody gave one.
pub const DEFAULT_NAMESPACE: &str = "default";

/// How much the calls of a namespace may cost in a calendar day, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The namespace.
    pub namespace: String,
    /// US dollars a day.
    #[serde(with = "money")]
    pub usd_per_day: Money,
}

/// How a budget stands, over all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetStatus {
    /// The namespace.
    pub namespace: String,
    /// How much is spent, calls that are not answered yet included by estimate.
    pub spent: Money,
    /// How much may be.
    pub limit: Money,
    /// When it begins anew.
    pub resets: Timestamp,
    /// When it is spent at the rate of late, if that is before it begins anew.
    pub spent_at: Option<Timestamp>,
}

impl Budget {
    /// What is wrong with it, by field.
    pub(crate) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        if self.namespace.is_empty() || self.namespace.len() > limits::NAME_CHARS {
            problems.push(("namespace", "must be 1 to 64 characters; calls that have none are of `default`"));
        }
        if self.usd_per_day == Money::ZERO {
            problems.push(("usd_per_day", "must be over zero"));
        }
        problems
    }
}
