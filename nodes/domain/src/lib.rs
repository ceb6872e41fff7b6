//! Callboard's pure core: plain data and total functions, no I/O, no clock, no randomness.
//!
//! What may happen to a task is decided here and only here ([`lifecycle`]): every store and every
//! property test calls the same functions. Time, ids and random numbers are passed in.
//!
//! The only dependency beside data types is `contracts`, for the conversions in [`convert`].

pub mod alert;
pub mod convert;
pub mod error;
pub mod event;
pub mod id;
pub mod kind;
pub mod lifecycle;
pub mod limits;
pub mod llm;
pub mod money;
pub mod provider_record;
pub mod retry;
pub mod task;
pub mod time;
pub mod trace;

pub use error::{Code, Error, Violation};
pub use event::{Event, Happening};
pub use id::{ArtifactDigest, SessionId, TaskId};
pub use kind::KindSpec;
pub use lifecycle::{Attempt, Command, Lifecycle, Outcome, Refused, State};

pub use money::Money;
pub use provider_record::ProviderRecord;
pub use retry::RetryPolicy;
pub use task::{Band, NewTask, Priority, Progress, Spec, Task, TaskError};
pub use time::Timestamp;
pub use trace::TraceContext;
