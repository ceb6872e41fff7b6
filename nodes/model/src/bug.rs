//! Mistakes that can be planted in the protocol, to see that the model finds them.

/// A mistake in the protocol.
///
/// The blind delete of a lock is not among them: no lock is in the model, for nothing correct depends on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A message is acknowledged when it is taken, not when its claim has committed.
    AckBeforeCommit,
    /// A result is recorded without asking which session and attempt speak.
    NoFence,
    /// A task is published before the transaction that queues it has committed.
    PublishBeforeCommit,
    /// A message that came back because its queue is gone counts as confirmed.
    ReturnedIsConfirmed,
    /// A session is ended and its tasks are queued again in one statement: with one snapshot, and without waiting
    /// for the claims that hold the session's row.
    EndInOneStatement,
    /// What a partial return puts into the outbox keeps the hand-off number it had.
    ReturnKeepsNumber,
    /// A claim passes over a row that somebody has locked, and takes the task for gone.
    SkipLocked,
    /// A node without a free slot takes messages and gives back what they carry.
    TakeWithoutRoom,
    /// A task is claimed as it is admitted without holding the session's row.
    TakeUnderAnySession,
}
