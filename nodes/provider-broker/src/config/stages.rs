//! Answers that are given again, and what is taken out of prompts.

use super::span;
use callboard_domain::limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most memory that one of them may be given, in MB.
const MAX_MB: u32 = 65_536;
/// The most prompts that are kept warm: with the text of four times as many in memory.
const MOST_WARM: u32 = 128;
/// The most namespaces whose prompts may be.
const MOST_NAMESPACES: usize = 256;
/// The longest an answer is kept: a month.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3_600);

/// The exact cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Whether a call that does not say itself, of a kind that is not in `kinds`, is answered from it.
    pub enabled: bool,
    /// How long an answer is kept.
    #[serde(with = "span")]
    pub ttl: Duration,
    /// The most memory it takes, in MB. 0: nothing is kept, whatever calls say.
    pub max_mb: u32,
    /// How many of the most frequent prompts are asked anew before their answers end. 0: none.
    pub warm_top: u32,
    /// The most of these calls a minute.
    pub warm_per_minute: u32,
    /// The namespaces whose prompts may be; `*` for all.
    pub warm_namespaces: Vec<String>,
    /// For kinds of tasks.
    pub kinds: BTreeMap<String, KindCache>,
}

/// The exact cache for the calls of one kind of task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindCache {
    /// Whether they are answered from it.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// How long their answers are kept; the cache's `ttl` if `None`.
    #[serde(default, with = "super::optional_span", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}

const fn yes() -> bool {
    true
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            enabled: false,
            ttl: Duration::from_secs(3_600),
            max_mb: 64,
            warm_top: 0,
            warm_per_minute: 10,
            warm_namespaces: Vec::new(),
            kinds: BTreeMap::new(),
        }
    }
}

impl Cache {
    /// Every key that is wrong, and why.
    pub(super) fn problems(&self) -> Vec<(String, &'static str)> {
        let mut wrong = keeps("cache", self.ttl, self.max_mb);
        if self.warm_top > MOST_WARM {
            wrong.push(("cache.warm_top".into(), "must be at most 128"));
        }
        if self.warm_top > 0 && self.warm_namespaces.is_empty() {
            wrong.push((
                "cache.warm_namespaces".into(),
                "must name a namespace where warm_top is set, or \"*\" for all",
            ));
        }
        if !(1..=600).contains(&self.warm_per_minute) {
            wrong.push(("cache.warm_per_minute".into(), "must be 1 to 600"));
        }
        if self.warm_namespaces.len() > MOST_NAMESPACES {
            wrong.push(("cache.warm_namespaces".into(), "must name at most 256"));
        }
        for (kind, of) in &self.kinds {
            if kind.is_empty() || kind.len() > limits::NAME_CHARS {
                wrong.push((format!("cache.kinds.{kind}"), "must be the name of a kind"));
            }
            if of.ttl.is_some_and(|ttl| !is_kept(ttl)) {
                wrong.push((format!("cache.kinds.{kind}.ttl"), SPAN));
            }
        }
        wrong
    }
}

/// Answers to calls with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Idempotency {
    /// How long an answer is given again to a call with the same key.
    #[serde(with = "span")]
    pub ttl: Duration,
    /// The most memory they take, in MB; past it, the oldest are forgotten. 0: keys are only passed on.
    pub max_mb: u32,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(24 * 3_600), max_mb: 64 }
    }
}

impl Idempotency {
    /// Every key that is wrong, and why.
    pub(super) fn problems(&self) -> Vec<(String, &'static str)> {
        keeps("idempotency", self.ttl, self.max_mb)
    }
}

/// What is taken out of prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redact {
    /// What of: nothing if it is empty.
    pub patterns: Vec<Pattern>,
}

/// Something that is known by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Keys of services, signed tokens, private keys.
    Keys,
    /// Numbers of payment cards with a right check digit.
    Cards,
    /// Addresses of mail.
    Mails,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Keys, Self::Cards, Self::Mails];

    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Cards => "cards",
            Self::Mails => "mails",
        }
    }

    /// What stands in its place.
    pub(crate) const fn mark(self) -> &'static str {
        match self {
            Self::Keys => "[REDACTED:key]",
            Self::Cards => "[REDACTED:card]",
            Self::Mails => "[REDACTED:mail]",
        }
    }
}

/// The similar-content cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Similar {
    /// Whether a call that no provider answers may get the answer to a similar one.
    pub enabled: bool,
    /// How similar it must be, 1 to 100 per cent.
    pub threshold_percent: u8,
    /// How long an answer is kept.
    #[serde(with = "span")]
    pub ttl: Duration,
    /// The most memory they take, in MB.
    pub max_mb: u32,
}

impl Default for Similar {
    fn default() -> Self {
        Self { enabled: false, threshold_percent: 60, ttl: Duration::from_secs(7 * 24 * 3_600), max_mb: 64 }
    }
}

impl Similar {
    /// Every key that is wrong, and why.
    pub(super) fn problems(&self) -> Vec<(String, &'static str)> {
        let mut wrong = keeps("similar", self.ttl, self.max_mb);
        if !(1..=100).contains(&self.threshold_percent) {
            wrong.push(("similar.threshold_percent".into(), "must be 1 to 100"));
        }
        wrong
    }
}

const SPAN: &str = "must be over zero and at most 744h";

fn is_kept(ttl: Duration) -> bool {
    !ttl.is_zero() && ttl <= LONGEST
}

fn keeps(section: &str, ttl: Duration, max_mb: u32) -> Vec<(String, &'static str)> {
    let mut wrong = Vec::new();
    if !is_kept(ttl) {
        wrong.push((format!("{section}.ttl"), SPAN));
    }
    if max_mb > MAX_MB {
        wrong.push((format!("{section}.max_mb"), "must be at most 65536"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_key_is_named() {
        let kind = KindCache { enabled: true, ttl: Some(Duration::ZERO) };
        let cache = Cache {
            ttl: LONGEST + Duration::from_secs(1),
            max_mb: MAX_MB + 1,
            kinds: [("echo".to_owned(), kind)].into(),
            ..Cache::default()
        };
        let named =
            |problems: Vec<(String, &str)>| problems.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(named(cache.problems()), ["cache.ttl", "cache.max_mb", "cache.kinds.echo.ttl"]);
        let idempotency = Idempotency { ttl: Duration::ZERO, ..Idempotency::default() };
        assert_eq!(named(idempotency.problems()), ["idempotency.ttl"]);
        let similar = Similar { threshold_percent: 101, ..Similar::default() };
        assert_eq!(named(similar.problems()), ["similar.threshold_percent"]);
        let right =
            [Cache::default().problems(), Idempotency::default().problems(), Similar::default().problems()];
        assert!(right.concat().is_empty());
    }
}
