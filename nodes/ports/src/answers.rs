//! Answers that the nodes of a cluster share: what one was answered, another need not ask for again.
//!
//! It saves calls, and is never relied on: what is kept may be gone at any time, and nothing is lost by it but money.

use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;

/// The most bytes of one answer. Larger ones are not kept.
pub const BYTES: usize = 4 << 20;

/// Why nothing can be said of an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The service that holds them cannot be reached.
    #[error("the shared answers are unavailable: {0}")]
    Unavailable(String),
}

/// Answers by key.
///
/// - What is got under a key was put under it, whole, and by whatever version of this program: its form is the caller's
///   business.
/// - It is not got after its time.
/// - Every call ends soon, whether the service is there or not.
#[async_trait]
pub trait Answers: Send + Sync + 'static {
    /// What is kept under a key; none if nothing is, or not any more.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error>;

    /// Keeps an answer for a time, over zero, in place of what was there. One of more than [`BYTES`] is not kept, and what was
    /// there stays.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; it may have been kept.
    async fn put(&self, key: &str, answer: Bytes, ttl: Duration) -> Result<(), Error>;

    /// Keeps an answer for a time, over zero, if nothing is kept under the key. Else what is there stays, and is given: so of
    /// all that are put with this under one key, the first counts for everybody. If it is the same, byte for byte, nothing is
    /// given: it is as good as kept, and may have been by this very call, sent again. One of more than [`BYTES`] is not kept.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; it may have been kept.
    async fn put_first(&self, key: &str, answer: Bytes, ttl: Duration) -> Result<Option<Bytes>, Error>;
}
