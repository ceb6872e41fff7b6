//! The Alert actor: evaluates rules over what nodes report, keeps each alert's life, writes it down.
//!
//! The rules and an alert's life are pure functions of `domain::alert`; this crate is the shell: a book
//! of the open alerts, read from the store at the first use and after each restart of the actor.
//!
//! It notifies nobody yet: alerts are shown by `callboard alerts`.

mod actor;
mod book;
mod sources;

pub use actor::{Alert, Deps, Service};
pub use sources::{Reporter, TaskFailures, failures_loop, report_loop};
