//! The traits Callboard stands on. Each states its guarantees; each has a contract suite (feature
//! `contract`) that every backend runs.
//!
//! The traits are batch-shaped: the hot path is set-based, and an outcome comes back per item.
//! No trait names an engine. Whether a hand-off needs an outbox row is the store's business.

pub mod alerts;
pub mod answers;
pub mod artifacts;
pub mod clock;
#[cfg(feature = "contract")]
pub mod contract;
pub mod epochs;
pub mod handoff;
pub mod ledger;
pub mod locks;
pub mod metrics;
pub mod outbox;
pub mod planted;
pub mod provider_records;
pub mod sessions;
pub mod store;
pub mod taker;
pub mod token_buckets;
pub mod trace;

pub use answers::Answers;
pub use artifacts::Artifacts;
pub use clock::{Clock, SystemClock};
pub use epochs::Epochs;
pub use handoff::Handoff;
pub use ledger::Ledger;
pub use locks::Locks;
pub use outbox::Outbox;
pub use provider_records::ProviderRecords;
pub use store::Store;
pub use token_buckets::TokenBuckets;
pub use trace::Tracer;
