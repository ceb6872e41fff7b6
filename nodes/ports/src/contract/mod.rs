//! The contract suites: one per port, run unchanged by every backend.
//!
//! A backend implements the port's `Fixture` (a fresh, isolated instance and the few things a test must
//! do behind its back) and hands a way to make one to the port's macro, which expands to one
//! `#[tokio::test]` for each property:
//!
//! ```ignore
//! callboard_ports::store_contract!(|| async { SqliteFixture::new() });
//! ```
//!
//! The suites are written from the documentation of the ports, not from any implementation. They hold
//! for a service across a network too: nothing is timed more closely than such a service answers, and
//! what happens later is waited for with a deadline. A suite fails by panicking.

#![expect(clippy::expect_used, clippy::panic, reason = "a contract suite fails by panicking")]

pub mod answers;
pub mod artifacts;
pub mod handoff;
pub mod ledger;
pub mod locks;
pub mod outbox;
pub mod provider_records;
pub mod store;
pub mod token_buckets;

use crate::Clock;
use callboard_domain::{TaskId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// How long a suite waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long a suite watches that something does not happen.
const QUIET: Duration = Duration::from_millis(150);

/// A clock that stands still until it is moved. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl Default for ManualClock {
    /// Stands at 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::at(Timestamp::from_micros(1_767_225_600_000_000))
    }
}

impl ManualClock {
    /// A clock that stands at a point in time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.micros())))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// Task ids in the order they are asked for: UUIDv7 with a counter where others have random bits.
#[derive(Debug, Default)]
pub(crate) struct Ids(AtomicU64);

impl Ids {
    pub(crate) fn next(&self, now: Timestamp) -> TaskId {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        task_id(now, count)
    }
}

/// The UUIDv7 of a time (whole milliseconds of it) that ends in `tail`.
fn task_id(at: Timestamp, tail: u64) -> TaskId {
    let mut bytes = [0; 16];
    let millis = u64::try_from(at.micros() / 1_000).unwrap_or(0);
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&tail.to_be_bytes());
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    TaskId::from_bytes(bytes)
}

/// What a future answers, which must be before the deadline.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// Expands to one test for each property of a module of a suite. For the macros of the suites only.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($make:expr, $suite:ident $(:: $module:ident)?, [$($property:ident),+ $(,)?]) => {
        $crate::contract_tests!(@each $make, ($suite $(:: $module)?), [$($property),+]);
    };
    (@each $make:expr, $path:tt, [$($property:ident),+]) => {
        $($crate::contract_tests!(@one $make, $path, $property);)+
    };
    (@one $make:expr, ($($path:tt)+), $property:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $property() {
            let make = $make;
            $crate::contract::$($path)+::$property(make().await).await;
        }
    };
}
