//! The truth about tasks.
//!
//! Guarantees every backend gives:
//! - What an `Ok` answers is durable: it survives `kill -9` and the loss of power.
//! - Every write goes through [`callboard_domain::Lifecycle`], appends its event with the next `seq` in
//!   the same transaction, and is told to the [`CommitObserver`]s after the commit, in order per task.
//! - What a worker writes is fenced by session and attempt: a stale attempt changes nothing.
//! - Every way into QUEUED raises the task's `handoff` number in the same transaction and reports the
//!   task as [`Ready`].
//! - A batch is bounded by the caller; one bad item fails alone.

use crate::{alerts::AlertStore, handoff::Ready, sessions::SessionStore, taker::Taker};
use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::{
    Attempt, Event, KindSpec, NewTask, Outcome, Progress, SessionId, State, Task, TaskId, Timestamp,
};
use std::collections::HashSet;
use std::sync::Arc;

/// Why a store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or is shutting down. Nothing was written.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Whether the write was committed is not known.
    #[error("whether the write was committed is not known: {0}")]
    Unknown(String),
    /// Its queue of writes is full. Nothing was written.
    #[error("the store's queue of writes is full")]
    Overloaded,
    /// The data of this one item was refused. The others of its batch are unharmed.
    #[error("the store refused the data: {0}")]
    Refused(String),
    /// The request id was used for a task with another kind or input.
    #[error("the request id was used for another request, task {0}")]
    RequestIdReused(TaskId),
    /// The session has ended, or never was.
    #[error("the session has ended")]
    SessionEnded,
    /// The epoch is not the newest of its role: somebody else holds it now.
    #[error("another node has taken over")]
    Fenced,
    /// There is no such task.
    #[error("there is no such task")]
    NotFound,
    /// More than one task fits.
    #[error("more than one task fits")]
    Ambiguous,
    /// What is stored cannot be read. A fault of ours or of the disk.
    #[error("stored data cannot be read: {0}")]
    Corrupt(String),
}

/// A task that was admitted.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The task.
    pub task: Task,
    /// Whether it had been admitted before under the same request id.
    pub existed: bool,
}

/// A request to take tasks.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The session to hold them under. It must be live: checked in the same transaction.
    pub session: SessionId,
    /// The name of the node.
    pub node: Arc<str>,
    /// The kinds the node hosts.
    pub hosted: Arc<HashSet<String>>,
    /// The tasks to take.
    pub take: Vec<TaskId>,
    /// Tasks of the same delivery that the worker cannot start soon: handed off again.
    pub give_back: Vec<TaskId>,
}

/// What became of one task of a claim.
#[derive(Clone, Debug)]
pub enum Claim {
    /// The worker holds it now.
    Claimed(Box<Claimed>),
    /// It was cancelled, taken or has ended: dropped. Or it was handed off again, as one of those that were given
    /// back is: there was no room for its input in this claim.
    Gone(TaskId),
    /// This node does not host its kind: handed off again after a delay.
    NotMine(TaskId),
}

/// A task that a worker holds.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The task, RUNNING.
    pub task: Task,
    /// Its input.
    pub input: Bytes,
}

/// A handler that has started.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Which attempt.
    pub attempt: Attempt,
    /// When.
    pub at: Timestamp,
}

/// A report of progress.
#[derive(Clone, Debug)]
pub struct ProgressReport {
    /// Which attempt.
    pub attempt: Attempt,
    /// How far it is.
    pub progress: Progress,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct Finish {
    /// Which attempt.
    pub attempt: Attempt,
    /// When its handler started, if it did.
    pub started_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
    /// Its result; only with [`Outcome::Succeeded`].
    pub result: Option<Bytes>,
}

/// What became of one fenced write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// Recorded. The task stands so now.
    Recorded(State),
    /// It had been recorded before: the answer got lost.
    AlreadyRecorded(State),
    /// Another attempt holds the task, or it has ended: nothing was written.
    Stale,
    /// The data was refused: for a finish, the attempt was ended as FAILED with `RESULT_REFUSED`.
    Refused,
}

/// What became of a cancel.
#[derive(Clone, Debug)]
pub struct Cancelled {
    /// The task, as it stands now.
    pub task: Task,
    /// Whether this call changed anything.
    pub changed: bool,
    /// The session that runs it, if it runs.
    pub running_under: Option<SessionId>,
}

/// What [`TaskStore::release_due`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// How many tasks were queued.
    pub count: usize,
    /// When the next one is due, if any waits.
    pub next_due: Option<Timestamp>,
}

/// Writes to tasks.
#[async_trait]
pub trait TaskStore: Send + Sync + 'static {
    /// Writes tasks down: task, input, first event, hand-off. An outcome per item, in order. What a
    /// [`Taker`] takes is claimed in the same commit, and not handed off; the outcome says how it was submitted.
    /// A task with the `request_id` of an older one (in its namespace), the same kind and the same input
    /// is that older one.
    async fn admit(&self, batch: Vec<NewTask>) -> Vec<Result<Admitted, Error>>;

    /// Takes tasks for their next attempt. An outcome per id of `take`, in order.
    /// An id that another claim holds a lock on is waited for, never skipped.
    ///
    /// # Errors
    /// After [`Error::SessionEnded`] and [`Error::Overloaded`] the session holds none of them. After any other
    /// it may hold some: what it holds is read with [`TaskReader::held_by`].
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, Error>;

    /// Records that handlers have started.
    async fn start(&self, session: SessionId, batch: Vec<Started>) -> Result<Vec<Fenced>, Error>;

    /// Records progress.
    async fn progress(&self, session: SessionId, batch: Vec<ProgressReport>) -> Result<Vec<Fenced>, Error>;

    /// Records how attempts ended, with their results. An outcome per item, in order.
    async fn finish(&self, session: SessionId, batch: Vec<Finish>) -> Result<Vec<Fenced>, Error>;

    /// Hands attempts off again, counted neither as failed nor as lost.
    async fn give_back(&self, session: SessionId, batch: Vec<Attempt>) -> Result<Vec<Fenced>, Error>;

    /// Cancels a waiting task, or records the request on a running one.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn cancel(&self, id: TaskId) -> Result<Cancelled, Error>;

    /// Queues up to `limit` tasks whose time has come, and tells when the next is due.
    async fn release_due(&self, limit: usize) -> Result<Released, Error>;

    /// Writes down the kinds a node hosts. A newer version of a kind replaces an older one.
    async fn register_kinds(&self, kinds: Vec<KindSpec>) -> Result<(), Error>;
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Only these states; empty means all.
    pub states: Vec<State>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this queue.
    pub queue: Option<String>,
    /// Only those created at or after this.
    pub created_after: Option<Timestamp>,
    /// Only those created before this.
    pub created_before: Option<Timestamp>,
}

/// How many tasks wait in one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// The queue.
    pub queue: Arc<str>,
    /// How many, by band, lowest first.
    pub bands: [u64; 3],
    /// The oldest of them and when it was admitted or became due.
    pub oldest: Option<(TaskId, Timestamp)>,
}

/// A task with everything stored about it.
#[derive(Clone, Debug)]
pub struct FullTask {
    /// The task.
    pub task: Task,
    /// Its input.
    pub input: Bytes,
    /// Its result, once it succeeded.
    pub result: Option<Bytes>,
}

/// Reads of tasks. They see every write that was answered before.
#[async_trait]
pub trait TaskReader: Send + Sync + 'static {
    /// The tasks with these ids that exist, in any order. At most 1,000 ids.
    async fn get(&self, ids: Vec<TaskId>) -> Result<Vec<Task>, Error>;

    /// One task with input and result.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn get_full(&self, id: TaskId) -> Result<FullTask, Error>;

    /// The one task whose id ends in these lower-case hexadecimal digits (without hyphens).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    async fn find(&self, suffix: &str) -> Result<TaskId, Error>;

    /// Tasks that fit, newest first, older than `before` if given.
    async fn list(&self, filter: Filter, before: Option<TaskId>, limit: usize) -> Result<Vec<Task>, Error>;

    /// Events of a task after a seq, oldest first.
    async fn events(&self, id: TaskId, after_seq: u64, limit: usize) -> Result<Vec<Event>, Error>;

    /// Events of many tasks, each after a seq: one read for all of them. In order per task; at most `limit`
    /// in all, so the last task's may be cut.
    async fn events_after(&self, tasks: Vec<(TaskId, u64)>, limit: usize) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        for (id, seq) in tasks {
            if events.len() >= limit {
                break;
            }
            events.extend(self.events(id, seq, limit - events.len()).await?);
        }
        Ok(events)
    }

    /// How many tasks are in each state, in the order of [`State::ALL`]. Cheap at any size.
    async fn counts(&self) -> Result<[u64; 6], Error>;

    /// The queues that hold QUEUED tasks.
    async fn queue_depths(&self) -> Result<Vec<QueueDepth>, Error>;

    /// The same of at most `queues` queues, each band counted up to `most`: cheap however long they are. A backend
    /// whose queues are short may count them all.
    async fn queue_depths_within(&self, queues: usize, most: u64) -> Result<Vec<QueueDepth>, Error> {
        let mut depths = self.queue_depths().await?;
        depths.truncate(queues);
        depths.iter_mut().flat_map(|depth| &mut depth.bands).for_each(|count| *count = (*count).min(most));
        Ok(depths)
    }

    /// The oldest QUEUED tasks of each queue and band, at most `limit` for each: what an in-process
    /// hand-off refills from. `queues` empty means all.
    async fn queued(&self, queues: &[Arc<str>], limit: usize) -> Result<Vec<Ready>, Error>;

    /// The attempts a session holds.
    async fn held_by(&self, session: SessionId) -> Result<Vec<Attempt>, Error>;

    /// The registered kinds, by name.
    async fn kinds(&self) -> Result<Vec<KindSpec>, Error>;
}

/// What one commit changed.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The events it wrote, in order per task.
    pub events: Vec<Event>,
    /// The tasks it queued.
    pub ready: Vec<Ready>,
    /// The earliest time it scheduled a task for.
    pub next_due: Option<Timestamp>,
}

/// Is told of every commit of this process. Hints only: whoever listens also reads the store, in case
/// the process died before it was told.
pub trait CommitObserver: Send + Sync + 'static {
    /// Called after each commit, in order. It must not block.
    fn committed(&self, commit: &Commit);
}

/// All that a node needs of its store.
pub trait Store: TaskStore + TaskReader + SessionStore + AlertStore {
    /// Tells an observer of every commit from now on.
    fn observe(&self, observer: Arc<dyn CommitObserver>);

    /// Offers tasks to a worker as they are admitted, from now on. A store need not: then all are handed off.
    fn offer_to(&self, taker: Arc<dyn Taker>) {
        let _ = taker;
    }
}
