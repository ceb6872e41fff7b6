//! The store's list of hand-offs that the broker has not confirmed yet.
//!
//! A store behind a broker writes an outbox row `(task, handoff)` in the transaction that queues a task.
//! Whoever committed publishes it from memory; the row is what another node publishes from when that one
//! died. Guarantees:
//! - Every write of a row raises the task's `handoff`: the same pair is never written twice, so a late
//!   confirm deletes the row it published and never one of a later hand-off.
//! - A row comes back by itself until it is confirmed: leasing one hides it for a while, and every lease
//!   doubles the next.
//! - A row whose [`Ready::not_before`] lies ahead is not leased before that.

use crate::epochs::Epoch;
use crate::handoff::Ready;
use crate::store::Error;
use async_trait::async_trait;
use callboard_domain::{Band, TaskId};
use std::sync::Arc;
use std::time::Duration;

/// A lane of the hand-off: one band of one queue.
pub type Lane = (Arc<str>, Band);

/// Which rows to lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Lanes to leave out: their queue refuses messages for now.
    pub except: Vec<Lane>,
    /// The most rows of one lane.
    pub limit: usize,
    /// How long a row is hidden at its first lease; it doubles with every further one, up to a minute.
    pub hide: Duration,
}

/// A task that is QUEUED without an outbox row: the broker answers for it, or has lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The task.
    pub id: TaskId,
    /// The hand-off the broker should hold.
    pub handoff: u64,
}

/// Hand-offs the broker has not confirmed.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Rows whose time has come, oldest first in each lane, hidden from other leases for a while. Rows that
    /// another lease is just taking are skipped.
    async fn lease(&self, lease: Lease) -> Result<Vec<Ready>, Error>;

    /// Deletes exactly these rows. Returns how many there were.
    async fn confirm(&self, batch: Vec<(TaskId, u64)>) -> Result<usize, Error>;

    /// Hides rows that could not be published for `hide`, so that nobody tries them before.
    async fn postpone(&self, batch: Vec<(TaskId, u64)>, hide: Duration) -> Result<(), Error>;

    /// How many rows there are.
    async fn backlog(&self) -> Result<u64, Error>;

    /// The lanes that hold QUEUED tasks without a row.
    async fn suspect_lanes(&self) -> Result<Vec<Lane>, Error>;

    /// The oldest suspects of a lane.
    async fn suspects(&self, lane: &Lane, limit: usize) -> Result<Vec<Suspect>, Error>;

    /// Hands off again those that are still QUEUED at the same hand-off without a row: a new row, under the
    /// next number. Returns how many.
    ///
    /// # Errors
    /// [`Error::Fenced`]: another node holds a newer epoch; nothing was written.
    async fn repair(&self, suspects: Vec<Suspect>, fence: &Epoch) -> Result<usize, Error>;
}
