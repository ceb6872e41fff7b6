//! What a task is made of.

use crate::id::TaskId;
use crate::lifecycle::Lifecycle;
use crate::limits;
use crate::time::Timestamp;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// A priority from 0 (lowest) to 9 (highest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The priority of a task that names none.
    pub const DEFAULT: Self = Self(5);

    /// A priority, if it is one.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        u8::try_from(value).ok().filter(|v| *v <= limits::PRIORITY_MAX).map(Self)
    }

    /// From 0 to 9.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }

    /// The band it belongs to.
    #[must_use]
    pub const fn band(self) -> Band {
        match self.0 {
            0..=2 => Band::Low,
            3..=6 => Band::Middle,
            _ => Band::High,
        }
    }
}

/// One of the three lanes of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Band {
    /// Priorities 0-2.
    Low,
    /// Priorities 3-6.
    Middle,
    /// Priorities 7-9.
    High,
}

impl Band {
    /// All of them, lowest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Middle, Self::High];

    /// How often it is drawn against the others, so that the lowest always moves.
    #[must_use]
    pub const fn weight(self) -> u32 {
        match self {
            Self::Low => 1,
            Self::Middle => 4,
            Self::High => 16,
        }
    }

    /// 0, 1 or 2, as it is stored.
    #[must_use]
    pub const fn index(self) -> u8 {
        self as u8
    }

    /// The band stored as `index`.
    #[must_use]
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }
}

/// What never changes about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its id.
    pub id: TaskId,
    /// The namespace it belongs to.
    pub namespace: Arc<str>,
    /// Its kind.
    pub kind: Arc<str>,
    /// The queue it waits in.
    pub queue: Arc<str>,
    /// How soon it should run.
    pub priority: Priority,
    /// How many failed attempts are allowed.
    pub max_attempts: u32,
    /// The time an attempt may take, from its start.
    pub timeout: Duration,
    /// When it was admitted.
    pub created_at: Timestamp,
    /// The caller's idempotency key.
    pub request_id: Option<Arc<str>>,
    /// The W3C traceparent it was submitted under; one of its own if its caller named none. Only a task that an
    /// older version admitted may have none.
    pub traceparent: Option<Arc<str>>,
    /// The task it retries.
    pub retry_of: Option<TaskId>,
}

/// A task to admit.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// What it is.
    pub spec: Spec,
    /// The earliest time it may run, if it must wait.
    pub run_at: Option<Timestamp>,
    /// Its input, as JSON.
    pub input: Bytes,
}

/// A task as it is stored, without input and result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What never changes.
    pub spec: Spec,
    /// Where it stands.
    pub life: Lifecycle,
    /// When the newest attempt started.
    pub started_at: Option<Timestamp>,
    /// When it reached its terminal state.
    pub finished_at: Option<Timestamp>,
    /// The newest progress.
    pub progress: Option<Progress>,
    /// Why it, or its newest attempt, failed.
    pub error: Option<TaskError>,
    /// The node of the newest attempt.
    pub node: Option<Arc<str>>,
}

/// How far an attempt has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// From 0 to 100.
    pub percent: u8,
    /// What it is doing, at most [`limits::MESSAGE_BYTES`].
    pub message: String,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskError {
    /// A stable reason in UPPER_SNAKE form.
    pub reason: String,
    /// The message, at most [`limits::MESSAGE_BYTES`].
    pub message: String,
    /// Whether another attempt could help.
    pub retryable: bool,
}

impl TaskError {
    /// An error; its message is cut to the limit.
    #[must_use]
    pub fn new(reason: impl Into<String>, message: impl Into<String>, retryable: bool) -> Self {
        Self { reason: reason.into(), message: limits::cut_message(message.into()), retryable }
    }
}
