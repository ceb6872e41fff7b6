//! The hand-off, the locks, the token buckets, the ledger and the artifacts.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod artifacts;
mod handoff;
mod ledger;
mod locks;
mod overflow;
mod queued;
mod token_buckets;
