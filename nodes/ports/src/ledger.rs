//! Sums over all nodes: what each process added to named accounts, and what that is together.
//!
//! A process tells its own total of an account, not what it added since the last time: so to tell it again, or to be told
//! late, counts nothing twice. A process that starts again is another *source*, and what it told before stays in the sum.

use async_trait::async_trait;
use callboard_domain::Timestamp;

/// The most accounts of one exchange.
pub const ACCOUNTS: usize = 10_000;

/// What a source added to an account in all; it may be below zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The account. Who counts by the day has one for each day.
    pub account: String,
    /// The total.
    pub total: i64,
    /// Until when it is kept at least.
    pub until: Timestamp,
}

/// Why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What holds the ledger cannot be reached. What was told may have been written or not: tell it again.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
}

/// A ledger.
///
/// - A sum is that of the newest total of each source: a total with a lower number than one of the same source that is
///   there already changes nothing, whenever it comes.
/// - What was answered is kept: a restart of every node loses none of it. How far it outlives the loss of power is the
///   backend's to say.
/// - An account that nobody told of sums up to nothing.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Tells the totals of `source`, and answers the sums of the accounts of `read`, in their order and with these totals
    /// in them. `number` grows with each exchange of a source. At most [`ACCOUNTS`] of each.
    async fn exchange(
        &self,
        source: &str,
        number: u64,
        own: &[Balance],
        read: &[String],
    ) -> Result<Vec<i64>, Error>;

    /// Removes what need not be kept any more at this time.
    async fn forget(&self, now: Timestamp) -> Result<(), Error>;
}

/// No ledger: for who counts nothing that others should know of, or that should last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Absent;

impl Absent {
    const WHY: &str = "there is none";
}

#[async_trait]
impl Ledger for Absent {
    async fn exchange(&self, _: &str, _: u64, _: &[Balance], _: &[String]) -> Result<Vec<i64>, Error> {
        Err(Error::Unavailable(Self::WHY.into()))
    }

    async fn forget(&self, _: Timestamp) -> Result<(), Error> {
        Err(Error::Unavailable(Self::WHY.into()))
    }
}
