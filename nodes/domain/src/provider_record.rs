//! What nodes tell each other of providers, and keep between their lives: which breaker is open until when, and what an
//! admin has switched.
//!
//! Of two records about the same, one wins, whoever compares them and in whichever order they come: records are ordered,
//! and the greater one is kept. So nodes that have heard of the same records know the same.

use crate::Timestamp;
use std::time::Duration;

/// What kind of thing a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// That a breaker is open, or closed again. An odd epoch is an open one.
    Breaker,
    /// Whether calls may go to a provider.
    Switch,
    /// Which provider is tried first. It is about no single provider.
    Primary,
    /// That the caches were cleared: of the kind of task in `model` and the namespace in `key`, where they are named.
    Cache,
    /// The weight of a provider, or of one of its keys.
    Weight,
    /// Which shares the arms of an experiment have, above the configuration: of the one in `model`. An empty value: none.
    Experiment,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Breaker, Self::Switch, Self::Primary, Self::Cache, Self::Weight, Self::Experiment];

    /// Its number where it is stored and sent. It never changes.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Breaker => 1,
            Self::Switch => 2,
            Self::Primary => 3,
            Self::Cache => 4,
            Self::Weight => 5,
            Self::Experiment => 6,
        }
    }

    /// The one with a number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.code() == code)
    }
}

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// What kind of thing it says.
    pub topic: Topic,
    /// The provider; empty where it is about no single one.
    pub provider: String,
    /// The id of the provider's key; empty for all of the provider.
    pub key: String,
    /// The model; empty for all of them.
    pub model: String,
}

impl Subject {
    /// About a provider as a whole.
    #[must_use]
    pub fn of(topic: Topic, provider: impl Into<String>) -> Self {
        Self { topic, provider: provider.into(), key: String::new(), model: String::new() }
    }

    /// How many bytes its names have together.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.provider.len() + self.key.len() + self.model.len()
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRecord {
    /// What it is about.
    pub subject: Subject,
    /// Grows with each change that replaces what was there. What is written without a change of it adds to that.
    pub epoch: u64,
    /// Until when it holds; zero if that is not said.
    pub until: Timestamp,
    /// When it was written.
    pub at: Timestamp,
    /// Of a breaker, its cool-down, from which the next one grows.
    pub cool_down: Duration,
    /// What it says: the reason of the error for which a breaker opened, how a provider is switched, the name of the first,
    /// a weight.
    pub value: String,
    /// Why, in the words of whoever wrote it.
    pub note: String,
    /// Who wrote it: the name of a key; empty if that is not known.
    pub author: String,
}

impl ProviderRecord {
    /// One that says nothing yet.
    #[must_use]
    pub const fn new(subject: Subject, at: Timestamp) -> Self {
        Self {
            subject,
            epoch: 0,
            until: Timestamp::from_micros(0),
            at,
            cool_down: Duration::ZERO,
            value: String::new(),
            note: String::new(),
            author: String::new(),
        }
    }

    /// Whether this one is kept, of two about the same: the one of the later epoch; in one epoch, the one that holds for
    /// longer, so that a later failure never shortens a cool-down. The rest only makes every two comparable.
    #[must_use]
    pub fn outdoes(&self, other: &Self) -> bool {
        fn rank(record: &ProviderRecord) -> impl Ord + '_ {
            let ProviderRecord { subject: _, epoch, until, at, cool_down, value, note, author } = record;
            (*epoch, *until, *at, *cool_down, value.as_str(), note.as_str(), author.as_str())
        }
        rank(self) > rank(other)
    }

    /// What is known once both were heard of, which are about the same.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if other.outdoes(&self) { other } else { self }
    }

    /// Whether nobody needs to remember it: of a breaker alone, once it has held no more for that long.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp, after: Duration) -> bool {
        self.subject.topic == Topic::Breaker && self.until.max(self.at).after(after) < now
    }
}
