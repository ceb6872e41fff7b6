//! Locks that make work efficient, never correct: who holds one may still be fenced by the store.

use async_trait::async_trait;
use std::time::Duration;

/// Why a lock was not had or kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody else holds it.
    #[error("held by {holder}")]
    Held {
        /// Who.
        holder: String,
    },
    /// The lock service cannot be reached: nobody knows who holds it.
    #[error("the lock service is unavailable: {0}")]
    Unavailable(String),
    /// It was ours, and no longer is.
    #[error("the lock was lost")]
    Lost,
}

/// Named locks with an owner and a time to live.
#[async_trait]
pub trait Locks: Send + Sync + 'static {
    /// Takes a lock for `ttl`. The owner who holds it already gets it anew.
    async fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<(), Error>;

    /// Keeps a lock for another `ttl`, if `owner` still holds it.
    ///
    /// # Errors
    /// [`Error::Lost`].
    async fn renew(&self, name: &str, owner: &str, ttl: Duration) -> Result<(), Error>;

    /// Gives a lock back, if `owner` still holds it; else nothing changes.
    async fn release(&self, name: &str, owner: &str) -> Result<(), Error>;
}
