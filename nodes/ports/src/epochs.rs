//! Epochs: what makes a singleton right, where its lock only makes it efficient.

use crate::store::Error;
use async_trait::async_trait;
use std::sync::Arc;

/// The right to write as the one holder of a role. A newer one of the same name ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The name of the role, for example "repair".
    pub name: Arc<str>,
    /// Counts from 1.
    pub number: u64,
}

/// Gives out epochs. What a holder writes names its epoch, and the store refuses one that is not the newest
/// with [`Error::Fenced`], in the same transaction.
#[async_trait]
pub trait Epochs: Send + Sync + 'static {
    /// Starts the next epoch of a role.
    async fn next_epoch(&self, name: &str, holder: &str) -> Result<Epoch, Error>;
}
