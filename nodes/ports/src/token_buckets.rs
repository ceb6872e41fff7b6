//! Token buckets over several levels: a call passes only if every level has tokens, and then it is
//! debited from all of them, or from none.

use async_trait::async_trait;
use std::time::Duration;

/// One level of a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The name of the bucket.
    pub key: String,
    /// Tokens added a second; over zero.
    pub rate: f64,
    /// The most tokens it holds; at least one.
    pub burst: f64,
}

/// Whether a call passes.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It does; the tokens are debited.
    Allowed,
    /// It does not; nothing is debited.
    Denied {
        /// The first level without tokens.
        level: String,
        /// When it will have enough, if nobody else takes them. `None`: never, the cost is over the burst.
        retry_after: Option<Duration>,
    },
}

/// Why there is no decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The service that holds the buckets cannot be reached.
    #[error("the token buckets are unavailable: {0}")]
    Unavailable(String),
}

/// Token buckets.
#[async_trait]
pub trait TokenBuckets: Send + Sync + 'static {
    /// Debits `cost` from every level, or from none. A new bucket is full.
    async fn take(&self, levels: &[Level], cost: f64) -> Result<Decision, Error>;

    /// Debits what a call really cost beyond its estimate, below zero if need be; a negative cost gives back.
    async fn settle(&self, levels: &[Level], cost: f64) -> Result<(), Error>;

    /// [`Self::take`], where nothing needs to be waited for: it costs no future. `None`: nothing was done, and it must be
    /// asked in the other way.
    fn take_now(&self, levels: &[Level], cost: f64) -> Option<Result<Decision, Error>> {
        let _ = (levels, cost);
        None
    }

    /// [`Self::settle`], where nothing needs to be waited for. `None`: nothing was done.
    fn settle_now(&self, levels: &[Level], cost: f64) -> Option<Result<(), Error>> {
        let _ = (levels, cost);
        None
    }

    /// How many tokens a bucket has, as this node knows without asking anybody: what it saw last, with what came back since. Below
    /// zero it is in debt. `None`: it knows nothing of it.
    fn left(&self, level: &Level) -> Option<f64> {
        let _ = level;
        None
    }
}
