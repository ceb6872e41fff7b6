//! What is kept of providers: see [`callboard_domain::provider_record`].

use crate::store::Error;
use async_trait::async_trait;
use callboard_domain::{ProviderRecord, Timestamp};

/// Keeps records of providers. There are few, and they are small.
#[async_trait]
pub trait ProviderRecords: Send + Sync + 'static {
    /// Writes records down, all or none. Of two about the same the one that
    /// [outdoes](ProviderRecord::outdoes) the other is kept, whichever was saved first.
    ///
    /// # Errors
    /// The store cannot be reached, or whether it was written is not known: saving again does no harm.
    async fn save_provider_records(&self, records: Vec<ProviderRecord>) -> Result<(), Error>;

    /// All of them, in no order.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn provider_records(&self) -> Result<Vec<ProviderRecord>, Error>;

    /// Forgets those of breakers that were written before a time, and do not hold after it.
    ///
    /// # Errors
    /// The store cannot be reached.
    async fn forget_breakers(&self, before: Timestamp) -> Result<(), Error>;
}
