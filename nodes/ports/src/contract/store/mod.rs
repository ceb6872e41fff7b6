//! The contract of [`Store`].
//!
//! Beside its own point, every property ends with the same audit of all that it admitted: the log is
//! dense and replays to the stored lifecycle, the observers were told exactly that log in its order,
//! `handoff` rose with every way into QUEUED, and the counts add up.

mod admit;
mod cancel;
mod claim;
mod finish;
mod kit;
mod read;
mod registry;
mod run;
mod schedule;
mod sessions;

pub use admit::*;
pub use cancel::*;
pub use claim::*;
pub use finish::*;
pub use read::*;
pub use registry::*;
pub use run::*;
pub use schedule::*;
pub use sessions::*;

use crate::store::Store;
use async_trait::async_trait;
use callboard_domain::{SessionId, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// A fresh, empty store on a clock of its own. Whatever jitter it draws is 0.5.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The store, as one node opens it. Always the same one.
    fn store(&self) -> Arc<dyn Store>;

    /// The same data, as a second node opens it. Where one process owns the data, the same store.
    fn other(&self) -> Arc<dyn Store> {
        self.store()
    }

    /// The store's clock.
    fn now(&self) -> Timestamp;

    /// Moves the store's clock forward, for all who use it.
    async fn advance(&self, by: Duration);

    /// Removes the row of a session behind the store's back, as a restored backup or a careless hand
    /// would: what it held is orphaned.
    async fn forget_session(&self, session: SessionId);
}

/// Runs the contract of `Store` as one test for each property.
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::store::Fixture).
#[macro_export]
macro_rules! store_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            $crate::contract::store,
            [
            ]
        );
    };
}
