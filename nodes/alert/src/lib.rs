//! The Alert actor: evaluates rules over what nodes report, keeps each alert's life, writes it down.
//!
//! The rules and an alert's life are pure functions of `domain::alert`; this crate is the shell: a book
//! of the open alerts, read from the store at the first use and after each restart of the actor.
//!
//! In a cluster one node evaluates at a time: the others bring their observations there, and it alone looks for
//! what went quiet. Nothing depends on it: where nobody knows who that is, every node evaluates what it sees. So
//! there each report reads the open alerts anew, and an alert's id follows from what it is about.
//!
//! It notifies nobody yet: alerts are shown by `callboard alerts`.

mod actor;
mod book;
mod id;
mod sources;

pub use actor::{Alert, Deps, EXPIRE_EVERY, Service, expire};
pub use sources::{Reporter, TaskFailures, failures_loop, report_loop};
