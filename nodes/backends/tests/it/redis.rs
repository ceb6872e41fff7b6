//! Locks and token buckets in a real Redis.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests fail by panicking")]

mod answers;
mod buckets;
mod locks;
mod outage;
mod support;
