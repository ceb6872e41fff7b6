//! A task's log. Its events replay to the task's [`Lifecycle`](crate::Lifecycle).

use crate::id::{SessionId, TaskId};
use crate::lifecycle::State;
use crate::task::{Progress, TaskError};
use crate::time::Timestamp;
use std::sync::Arc;

/// One line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The task.
    pub task_id: TaskId,
    /// Its place in the log, from 1 without gaps.
    pub seq: u64,
    /// When it happened, on the store's clock.
    pub at: Timestamp,
    /// The state after it.
    pub state: State,
    /// The attempt it belongs to; zero before the first.
    pub attempt: u32,
    /// The node it happened on.
    pub node: Option<Arc<str>>,
    /// What happened.
    pub what: Happening,
}

/// What can happen to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Admitted, to run at once or at a time.
    Submitted {
        /// When it may run, if it must wait.
        run_at: Option<Timestamp>,
    },
    /// Its time came.
    Due,
    /// A worker took it for its next attempt.
    Claimed {
        /// The session that holds it now.
        session: SessionId,
    },
    /// Its handler started.
    Started {
        /// When, on the clock of the node that runs it.
        at: Timestamp,
    },
    /// Its handler reported progress.
    Progressed(Progress),
    /// The attempt failed; another follows.
    AttemptFailed {
        /// Why.
        error: TaskError,
        /// When the next attempt may run.
        run_at: Timestamp,
    },
    /// The attempt was lost with its node.
    Lost {
        /// Whether it had started. Only then it counts.
        started: bool,
        /// When the next attempt may run, if it must wait.
        run_at: Option<Timestamp>,
    },
    /// The worker gave the attempt back.
    Returned,
    /// A cancel was asked for while the attempt ran.
    CancelRequested,
    /// Finished with a result.
    Succeeded,
    /// Failed for good.
    Failed {
        /// Why.
        error: TaskError,
        /// Whether a loss was the cause, rather than the attempt's own failure.
        lost: bool,
    },
    /// Cancelled.
    Cancelled,
}
