use crate::config::optional_span;
use callboard_domain::limits;
use callboard_ports::token_buckets::Level;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How much of a minute's calls may be made at once, unless a limit says otherwise.
const BURST: Duration = Duration::from_secs(6);
/// The same of its tokens: a single long call must fit.
const BURST_OF_TOKENS: Duration = Duration::from_secs(60);
const MINUTE: f64 = 60.0;

/// A limit of the calls it covers, in a sliding minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The provider it covers; all together if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The key of the provider it covers, by its id; all of them together if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The model it covers; all of the provider together if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The namespace whose calls it covers; those of all together if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How many calls a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// How many tokens a minute, of prompts and answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
    /// How much may be used at once: what comes back in this time. If `None`, six seconds for calls, and a minute for
    /// tokens.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_span")]
    pub burst: Option<Duration>,
}

/// What the names of all buckets begin with.
pub const PREFIX: &str = "llm:";

/// What begins the name of a namespace in that of a bucket.
const NAMESPACE: &str = "namespace=";

/// What a limit is called where it is measured: what it counts, and what it covers.
pub(super) fn name(key: &str) -> &str {
    key.strip_prefix(PREFIX).unwrap_or(key)
}

/// A bucket's name, for people.
pub(super) fn describe(key: &str) -> String {
    let name = name(key);
    match name.split_once(':') {
        Some((what, of)) => format!("{what} a minute ({of})"),
        None => format!("{name} a minute"),
    }
}

impl Limit {
    /// Whether calls of this namespace to this provider and model over this key count.
    pub(super) fn covers(&self, namespace: &str, provider: &str, key: &str, model: &str) -> bool {
        let is = |of: &Option<String>, name: &str| of.as_deref().is_none_or(|of| of == name);
        is(&self.namespace, namespace)
            && is(&self.provider, provider)
            && is(&self.key, key)
            && is(&self.model, model)
    }

    pub(super) fn requests(&self) -> Option<Level> {
        Some(self.level("requests", self.requests_per_minute?, BURST))
    }

    pub(super) fn tokens(&self) -> Option<Level> {
        Some(self.level("tokens", self.tokens_per_minute?, BURST_OF_TOKENS))
    }

    fn level(&self, what: &str, per_minute: u32, burst: Duration) -> Level {
        let mut name = format!("{PREFIX}{what}");
        // No name of a provider has such a sign.
        let namespace = self.namespace.as_ref().map(|namespace| format!("{NAMESPACE}{namespace}"));
        // Nor a slash: with it a key is not taken for a model.
        for (mark, of) in [(':', &namespace), (':', &self.provider), ('/', &self.key), (':', &self.model)] {
            if let Some(of) = of {
                name.push(mark);
                name.push_str(of);
            }
        }
        let key = name;
        let burst = f64::from(per_minute) * self.burst.unwrap_or(burst).as_secs_f64() / MINUTE;
        Level { key, rate: f64::from(per_minute) / MINUTE, burst: burst.max(1.0) }
    }

    /// What is wrong with it, by field.
    pub(crate) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        if self.requests_per_minute.is_none() && self.tokens_per_minute.is_none() {
            problems.push(("requests_per_minute", "must be given, or tokens_per_minute"));
        }
        if self.requests_per_minute == Some(0) {
            problems
                .push(("requests_per_minute", "must be over zero; leave a provider out to switch it off"));
        }
        if self.tokens_per_minute == Some(0) {
            problems.push(("tokens_per_minute", "must be over zero; leave a provider out to switch it off"));
        }
        if self.namespace.as_ref().is_some_and(|name| name.is_empty() || name.len() > limits::NAME_CHARS) {
            problems.push(("namespace", "must be 1 to 64 characters; calls that have none are of `default`"));
        }
        if self.model.is_some() && self.provider.is_none() {
            problems.push(("model", "needs the provider whose model it is"));
        }
        if self.key.is_some() && self.provider.is_none() {
            problems.push(("key", "needs the provider whose key it is"));
        }
        if self.burst.is_some_and(|burst| burst.is_zero() || burst > Duration::from_secs(3_600)) {
            problems.push(("burst", "must be over zero and at most 1h"));
        }
        problems
    }
}
