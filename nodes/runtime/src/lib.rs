//! The actor mesh: how actors are kept alive and how they are called.
//!
//! - [`actor`]: the shell around every actor. A panic in a handler, also after an await, restarts the
//!   actor with its mail kept.
//! - [`membership`]: who is alive, decided: pure state machines.
//! - [`mesh`]: one client type per actor, local or remote; a call answers *did not run*, *may have run*
//!   or a result.
//! - [`peers`]: the other nodes: a connection to each, and which of them to avoid.
//! - [`singleton`]: work that one node of the cluster does at a time.
//! - [`watch`]: who follows a task on this node is told of every event, without a poll of the store.
//!
//! What an actor does lives in its own crate; no crate of an actor depends on another's.

pub mod actor;
pub mod membership;
pub mod mesh;
pub mod peers;
pub mod singleton;
pub mod watch;
