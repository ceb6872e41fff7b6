//! The actor mesh: how actors are kept alive and how they are called.
//!
//! - [`actor`]: the shell around every actor. A panic in a handler, also after an await, restarts the
//!   actor with its mail kept.
//! - [`mesh`]: one client type per actor, local or remote; a call answers *did not run*, *may have run*
//!   or a result.
//! - [`watch`]: who follows a task on this node is told of every event, without a poll of the store.
//!
//! What an actor does lives in its own crate; no crate of an actor depends on another's.

pub mod actor;
pub mod mesh;
pub mod watch;
