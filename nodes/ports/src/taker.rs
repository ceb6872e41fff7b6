//! Tasks that a worker takes as they are admitted.
//!
//! A task that a worker of the same process can start at once needs no hand-off: its claim is committed with its
//! admission. That saves a transaction, and in a cluster a message there and its confirm back.
//!
//! Guarantees:
//! - The store takes for a worker what the worker asked for, or less: never anything else.
//! - A task that is taken was never QUEUED: its log says that it was submitted and claimed, in one commit, and no
//!   hand-off of it was written. Whatever ends that attempt without ending the task queues it as ever.
//! - The session it is taken under is live when that is committed, held so as for a claim.
//! - The worker learns of each [`Taking`] what became of it, or it is dropped: then none of it was committed, or the
//!   process is about to find out by what it holds ([`TaskReader::held_by`](crate::store::TaskReader::held_by)).

use crate::store::Claimed;
use callboard_domain::{NewTask, SessionId, TaskId};
use std::sync::Arc;

/// A worker that takes tasks as they are admitted.
pub trait Taker: Send + Sync + 'static {
    /// Which of these new tasks it takes: as many as it can start at once, and none while older ones wait for it.
    /// Called before they are written; it must not block.
    fn take(&self, tasks: &mut dyn Iterator<Item = &NewTask>) -> Option<Box<dyn Taking>>;
}

/// Tasks that a worker is about to take. Dropped, it takes none of them.
pub trait Taking: Send + Sync {
    /// The session to hold them under.
    fn session(&self) -> SessionId;

    /// The name of the node.
    fn node(&self) -> Arc<str>;

    /// Whether it takes this one.
    fn takes(&self, id: TaskId) -> bool;

    /// Says what became of them: which are claimed, and whether others may be, for their commit had no answer.
    fn settle(self: Box<Self>, claimed: Vec<Claimed>, in_doubt: bool);
}
