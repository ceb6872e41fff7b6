//! Mistakes that would be easy to make, to show that the tests find them.
//!
//! Each is planted on the line where it would be made. Without the feature `planted-bugs` none is there: asking is
//! a constant, and no build of the product has the feature. With it, the environment variable
//! `CALLBOARD_PLANTED_BUG` names the one that is in effect. `cargo xtask planted` runs them all.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A worker acknowledges a delivery before its claim has committed: a task is lost with the worker.
    AckBeforeClaimCommits,
    /// The end of an attempt is recorded whoever reports it: a stale result overwrites a newer attempt.
    NoFenceOnFinish,
    /// A transaction is told to those who publish before it has committed: what never was is handed off.
    PublishBeforeCommit,
    /// A lock is deleted without a look at its owner: a late release ends another's lock.
    BlindLockDelete,
    /// The confirm of a message that came back is believed: its tasks are in no queue.
    ReturnedTakenAsConfirmed,
    /// A session is ended and its tasks are looked for in one statement: a claim in flight is not seen.
    SessionEndedInOneStatement,
    /// What a claim gives back keeps its hand-off number: a late confirm deletes the new row.
    ReturnReusesHandoff,
    /// A claim skips rows that are locked: their tasks count as gone, and their message is acknowledged.
    ClaimSkipsLocked,
}

impl Bug {
    /// Whether it is in effect: never, in this build.
    #[cfg(not(feature = "planted-bugs"))]
    #[must_use]
    pub const fn is_planted(self) -> bool {
        false
    }

    /// Whether it is in effect: if `CALLBOARD_PLANTED_BUG` names it.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn is_planted(self) -> bool {
        std::env::var_os("CALLBOARD_PLANTED_BUG").is_some_and(|name| name == self.name())
    }

    /// What the environment variable calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeClaimCommits => "ack-before-claim-commits",
            Self::NoFenceOnFinish => "no-fence-on-finish",
            Self::PublishBeforeCommit => "publish-before-commit",
            Self::BlindLockDelete => "blind-lock-delete",
            Self::ReturnedTakenAsConfirmed => "returned-taken-as-confirmed",
            Self::SessionEndedInOneStatement => "session-ended-in-one-statement",
            Self::ReturnReusesHandoff => "return-reuses-handoff",
            Self::ClaimSkipsLocked => "claim-skips-locked",
        }
    }
}
