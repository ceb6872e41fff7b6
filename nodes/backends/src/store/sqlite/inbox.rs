//! The bounded queue in front of the writer.

use super::fault::Fault;
use super::tx::Tx;
use callboard_ports::store::Error;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Work for the writer. It may be run more than once: what it wrote before was undone then.
pub(super) trait Work: Send {
    /// Does it, inside a transaction.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault>;
    /// Takes note that it alone failed and was undone.
    fn refuse(&mut self, error: Error);
    /// Tells the caller: what was done, or that the transaction failed.
    fn answer(self: Box<Self>, failed: Option<&Error>);
}

/// A closure as [`Work`]. Its inner error is an answer; nothing was written then.
pub(super) struct Call<R, F> {
    work: F,
    done: Option<Result<R, Error>>,
    reply: oneshot::Sender<Result<R, Error>>,
}

impl<R, F> Call<R, F>
where
    R: Send,
    F: FnMut(&mut Tx<'_>) -> Result<Result<R, Error>, Fault> + Send,
{
    pub(super) fn new(work: F) -> (Self, oneshot::Receiver<Result<R, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Self { work, done: None, reply }, answer)
    }
}

impl<R, F> Work for Call<R, F>
where
    R: Send,
    F: FnMut(&mut Tx<'_>) -> Result<Result<R, Error>, Fault> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.done = Some((self.work)(tx)?);
        Ok(())
    }

    fn refuse(&mut self, error: Error) {
        self.done = Some(Err(error));
    }

    fn answer(self: Box<Self>, failed: Option<&Error>) {
        let answer = match (failed, self.done) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(done)) => done,
            (None, None) => Err(Error::Unavailable("the write was not run".into())),
        };
        // A caller that went away does not want to know.
        let _ = self.reply.send(answer);
    }
}

/// Work and what it weighs.
pub(super) struct Job {
    pub(super) work: Box<dyn Work>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// Whether it brings new tasks. These are refused first, so that running ones can still end.
    pub(super) admits: bool,
}

/// Bounds of what may wait, or of what one commit takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Bounds {
    fn holds(self, rows: usize, bytes: usize) -> bool {
        rows <= self.rows && bytes <= self.bytes
    }
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    rows: usize,
    bytes: usize,
    closed: bool,
}

/// The queue.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    bounds: Bounds,
}

impl Inbox {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { waiting: Mutex::default(), arrived: Condvar::new(), bounds }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing can panic while it is held, but for an allocation.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts work in, or says that there is no room or nobody to do it.
    pub(super) fn push(&self, job: Job) -> Result<(), Error> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Error::Unavailable("the store is closed".into()));
        }
        let (rows, bytes) = (waiting.rows + job.rows, waiting.bytes + job.bytes);
        // Work that brings no new tasks has twice the room.
        let slack = if job.admits { 1 } else { 2 };
        let bounds = Bounds { rows: self.bounds.rows * slack, bytes: self.bounds.bytes * slack };
        if !waiting.jobs.is_empty() && !bounds.holds(rows, bytes) {
            return Err(Error::Overloaded);
        }
        (waiting.rows, waiting.bytes) = (rows, bytes);
        waiting.jobs.push_back(job);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for work and moves what is there into `jobs`, up to `bounds` but at least one.
    /// False once it is closed and empty.
    pub(super) fn take(&self, bounds: Bounds, jobs: &mut Vec<Job>) -> bool {
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return false;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut rows, mut bytes) = (0, 0);
        while let Some(job) = waiting.jobs.front() {
            (rows, bytes) = (rows + job.rows, bytes + job.bytes);
            if !jobs.is_empty() && !bounds.holds(rows, bytes) {
                break;
            }
            (waiting.rows, waiting.bytes) = (waiting.rows - job.rows, waiting.bytes - job.bytes);
            jobs.extend(waiting.jobs.pop_front());
        }
        true
    }

    /// The rows that wait.
    pub(super) fn rows(&self) -> usize {
        self.lock().rows
    }

    /// Lets nothing more in.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// What still waits, after the writer is gone.
    pub(super) fn drain(&self) -> Vec<Job> {
        let mut waiting = self.lock();
        (waiting.rows, waiting.bytes) = (0, 0);
        waiting.jobs.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(rows: usize, bytes: usize, admits: bool) -> Job {
        let (work, _) = Call::new(|_: &mut Tx<'_>| Ok(Ok(())));
        Job { work: Box::new(work), rows, bytes, admits }
    }

    #[test]
    fn past_its_bounds_it_refuses_and_new_tasks_first() {
        let inbox = Inbox::new(Bounds { rows: 10, bytes: 100 });
        assert_eq!(inbox.push(job(10, 0, true)), Ok(()));
        assert_eq!(inbox.push(job(1, 0, true)), Err(Error::Overloaded));
        assert_eq!(inbox.push(job(10, 0, false)), Ok(()));
        assert_eq!(inbox.push(job(1, 0, false)), Err(Error::Overloaded));
        assert_eq!(inbox.push(job(0, 101, true)), Err(Error::Overloaded));
    }

    #[test]
    fn it_gives_out_bounded_batches_in_order_but_never_none() {
        let inbox = Inbox::new(Bounds { rows: 1_000, bytes: 1_000 });
        for rows in [50, 3, 4, 5] {
            inbox.push(job(rows, rows, true)).unwrap();
        }
        let take = |bounds| {
            let mut jobs = Vec::new();
            assert!(inbox.take(bounds, &mut jobs));
            jobs.iter().map(|j| j.rows).collect::<Vec<_>>()
        };
        assert_eq!(take(Bounds { rows: 10, bytes: 10 }), [50]);
        assert_eq!(take(Bounds { rows: 10, bytes: 7 }), [3, 4]);
        inbox.close();
        assert_eq!(take(Bounds { rows: 10, bytes: 10 }), [5]);
        assert!(!inbox.take(Bounds { rows: 10, bytes: 10 }, &mut Vec::new()));
        assert!(matches!(inbox.push(job(1, 1, true)), Err(Error::Unavailable(_))));
    }
}
