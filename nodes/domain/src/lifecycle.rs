//! The task's state machine: a pure, total function.
//!
//! [`Lifecycle::decide`] says what a command makes happen, [`Lifecycle::apply`] what a happening
//! makes of a task. Both are total: every combination has an answer, and an illegal one is refused.
//!
//! Invariants, each with a property test:
//! - a terminal state is final,
//! - `attempt`, `failures`, `lost` and `seq` never decrease,
//! - only the session and attempt that hold a task can move it out of RUNNING (but for the end of
//!   that session),
//! - the log replays to the stored lifecycle.

use crate::event::Happening;
use crate::id::{SessionId, TaskId};
use crate::limits;
use crate::retry::RetryPolicy;
use crate::task::{Progress, TaskError};
use crate::time::Timestamp;
use std::time::Duration;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for its time.
    Scheduled,
    /// Waits for a worker.
    Queued,
    /// A worker holds it.
    Running,
    /// Finished with a result.
    Succeeded,
    /// Failed for good.
    Failed,
    /// Cancelled.
    Cancelled,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Scheduled, Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Whether it is final.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// As it is stored: 1 to 6, the numbers of the public API's `TaskState`.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The state stored as `code`.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// The attempt a worker speaks for: the fence of everything it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The task.
    pub task_id: TaskId,
    /// The number of the attempt, from 1.
    pub number: u32,
}

/// Where a task stands, in full: what its log replays to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// The state.
    pub state: State,
    /// The newest attempt, from 1; zero before the first.
    pub attempt: u32,
    /// How many attempts failed by themselves.
    pub failures: u32,
    /// How many started attempts were lost.
    pub lost: u32,
    /// The newest event.
    pub seq: u64,
    /// The session that holds it, while RUNNING.
    pub session: Option<SessionId>,
    /// Whether the newest attempt is known to have started.
    pub started: bool,
    /// Whether a cancel was asked for.
    pub cancel_requested: bool,
    /// The earliest time it may run next.
    pub run_at: Timestamp,
}

/// What somebody wants of a task.
#[derive(Clone, Debug)]
pub enum Command {
    /// Its time has come, if it has.
    Release {
        /// The store's clock.
        now: Timestamp,
    },
    /// A session takes it for the next attempt.
    Claim {
        /// The session.
        session: SessionId,
    },
    /// The handler has started.
    Start {
        /// Who says so.
        session: SessionId,
        /// For which attempt.
        attempt: u32,
        /// When it started.
        at: Timestamp,
    },
    /// The handler reports progress.
    Progress {
        /// Who says so.
        session: SessionId,
        /// For which attempt.
        attempt: u32,
        /// How far it is.
        progress: Progress,
    },
    /// The attempt has ended.
    Finish {
        /// Who says so.
        session: SessionId,
        /// Which attempt.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// How many failed attempts are allowed.
        max_attempts: u32,
        /// The store's clock.
        now: Timestamp,
    },
    /// The worker gives the attempt back: neither failed nor lost.
    GiveBack {
        /// Who says so.
        session: SessionId,
        /// Which attempt.
        attempt: u32,
    },
    /// The session that held it has ended.
    Lose {
        /// The ended session.
        session: SessionId,
        /// The store's clock.
        now: Timestamp,
        /// A random number in `0.0..1.0`.
        jitter: f64,
    },
    /// Somebody wants it cancelled.
    Cancel,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With a result.
    Succeeded,
    /// With an error.
    Failed {
        /// The error.
        error: TaskError,
        /// How to space the attempts.
        policy: RetryPolicy,
        /// The wait the other side named.
        retry_after: Option<Duration>,
        /// A random number in `0.0..1.0`.
        jitter: f64,
    },
    /// Stopped because a cancel was asked for.
    Cancelled,
}

/// Why a command makes nothing happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The task has ended.
    #[error("the task has ended")]
    Ended,
    /// The task is not in a state the command is for.
    #[error("the task is not in a state for this")]
    WrongState,
    /// The speaker no longer holds the task.
    #[error("another attempt holds the task")]
    Stale,
    /// Its time has not come.
    #[error("the task is not due")]
    NotDue,
    /// It was said before.
    #[error("nothing changes")]
    NoChange,
}

/// A happening that cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot follow in state {state:?}")]
pub struct Illegal {
    state: State,
    what: String,
}

impl Lifecycle {
    /// The lifecycle of a task that is admitted at `now`, and what happened first.
    #[must_use]
    pub fn submit(run_at: Option<Timestamp>, now: Timestamp) -> (Self, Happening) {
        let run_at = run_at.filter(|at| *at > now);
        let life = Self {
            state: if run_at.is_some() { State::Scheduled } else { State::Queued },
            attempt: 0,
            failures: 0,
            lost: 0,
            seq: 1,
            session: None,
            started: false,
            cancel_requested: false,
            run_at: run_at.unwrap_or(now),
        };
        (life, Happening::Submitted { run_at })
    }

    /// Whether a task must run with no other like it on its node: it was running when a node died
    /// more than once, and may be the cause.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.lost >= 2
    }

    /// What a command makes happen, or why nothing does.
    ///
    /// # Errors
    /// [`Refused`], with the task unchanged.
    pub fn decide(&self, command: Command) -> Result<Happening, Refused> {
        if self.state.is_terminal() {
            return Err(Refused::Ended);
        }
        match command {
            Command::Release { now } => match self.state {
                State::Scheduled if self.run_at <= now => Ok(Happening::Due),
                State::Scheduled => Err(Refused::NotDue),
                _ => Err(Refused::WrongState),
            },
            Command::Claim { session } => match self.state {
                State::Queued => Ok(Happening::Claimed { session }),
                _ => Err(Refused::WrongState),
            },
            Command::Start { session, attempt, at } => {
                self.held_by(session, attempt)?;
                if self.started { Err(Refused::NoChange) } else { Ok(Happening::Started { at }) }
            }
            Command::Progress { session, attempt, progress } => {
                self.held_by(session, attempt)?;
                Ok(Happening::Progressed(progress))
            }
            Command::Finish { session, attempt, outcome, max_attempts, now } => {
                self.held_by(session, attempt)?;
                Ok(self.finish(outcome, max_attempts, now))
            }
            Command::GiveBack { session, attempt } => {
                self.held_by(session, attempt)?;
                Ok(if self.cancel_requested { Happening::Cancelled } else { Happening::Returned })
            }
            Command::Lose { session, now, jitter } => {
                if self.state != State::Running || self.session != Some(session) {
                    return Err(Refused::Stale);
                }
                Ok(self.lose(now, jitter))
            }
            Command::Cancel => match self.state {
                State::Running if self.cancel_requested => Err(Refused::NoChange),
                State::Running => Ok(Happening::CancelRequested),
                _ => Ok(Happening::Cancelled),
            },
        }
    }

    /// What a happening makes of a task.
    ///
    /// # Errors
    /// [`Illegal`] if it cannot follow.
    pub fn apply(&self, what: &Happening) -> Result<Self, Illegal> {
        let mut next = self.clone();
        next.seq += 1;
        match (self.state, what) {
            (State::Scheduled, Happening::Due) => next.state = State::Queued,
            (State::Queued, Happening::Claimed { session }) => {
                next.state = State::Running;
                next.session = Some(*session);
                next.attempt += 1;
                next.started = false;
            }
            (State::Running, Happening::Started { .. }) if !self.started => next.started = true,
            (State::Running, Happening::Progressed(_)) => next.started = true,
            (State::Running, Happening::CancelRequested) if !self.cancel_requested => {
                next.cancel_requested = true;
            }
            (State::Running, Happening::AttemptFailed { run_at, .. }) => {
                next.failures += 1;
                next.release(Some(*run_at));
            }
            (State::Running, Happening::Lost { started, run_at }) => {
                next.lost += u32::from(*started);
                next.release(*run_at);
            }
            (State::Running, Happening::Returned) => next.release(None),
            (State::Running, Happening::Succeeded) => next.end(State::Succeeded),
            (State::Running, Happening::Failed { lost, .. }) => {
                if *lost {
                    next.lost += 1;
                } else {
                    next.failures += 1;
                }
                next.end(State::Failed);
            }
            (state, Happening::Cancelled) if !state.is_terminal() => next.end(State::Cancelled),
            _ => return Err(Illegal { state: self.state, what: format!("{what:?}") }),
        }
        Ok(next)
    }

    fn held_by(&self, session: SessionId, attempt: u32) -> Result<(), Refused> {
        if self.state == State::Running && self.session == Some(session) && self.attempt == attempt {
            Ok(())
        } else {
            Err(Refused::Stale)
        }
    }

    fn finish(&self, outcome: Outcome, max_attempts: u32, now: Timestamp) -> Happening {
        match outcome {
            Outcome::Succeeded => Happening::Succeeded,
            Outcome::Cancelled if self.cancel_requested => Happening::Cancelled,
            // Stopped by its node without a request (it could not renew): as if given back.
            Outcome::Cancelled => Happening::Returned,
            Outcome::Failed { .. } if self.cancel_requested => Happening::Cancelled,
            Outcome::Failed { error, policy, retry_after, jitter } => {
                let failures = self.failures + 1;
                if error.retryable && failures < max_attempts {
                    let run_at = now.after(policy.delay(failures, jitter, retry_after));
                    Happening::AttemptFailed { error, run_at }
                } else {
                    Happening::Failed { error, lost: false }
                }
            }
        }
    }

    fn lose(&self, now: Timestamp, jitter: f64) -> Happening {
        if self.cancel_requested {
            return Happening::Cancelled;
        }
        let lost = self.lost + u32::from(self.started);
        if lost > limits::LOST {
            let message = format!(
                "{lost} started attempts were lost with their nodes, {} are allowed; the task may be what ends them",
                limits::LOST
            );
            return Happening::Failed { error: TaskError::new("LOST_TOO_OFTEN", message, false), lost: true };
        }
        // The first loss is our fault and costs nothing; from the second on the task may be the cause.
        let waits = self.started && lost >= 2;
        let policy = RetryPolicy { base: Duration::from_millis(500), cap: Duration::from_secs(30) };
        let run_at = waits.then(|| now.after(policy.delay(lost - 1, jitter, None)));
        Happening::Lost { started: self.started, run_at: run_at.filter(|at| *at > now) }
    }

    fn release(&mut self, run_at: Option<Timestamp>) {
        self.session = None;
        self.started = false;
        match run_at {
            Some(at) => {
                self.state = State::Scheduled;
                self.run_at = at;
            }
            None => self.state = State::Queued,
        }
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.session = None;
    }
}
