//! The shell around an actor.
//!
//! actix's own `Supervisor` restarts an actor that stops, not one that panics: a panic kills the actor
//! with its mail. So every handler runs under `catch_unwind`; after a panic the shell stops its context,
//! actix restarts it in place, the mailbox stays, and the state is made anew by its factory.
//!
//! Heavy work does not run on the actor's thread: a handler returns [`Handling::Later`] with a future
//! that runs on the runtime's pool.

mod address;
mod shell;
mod system;

pub use address::{Address, CallError};
pub use shell::{Behaviour, Handle, Handling, Options, Request, Restart, Scope, start};
pub use system::{System, SystemError};

#[cfg(any(test, feature = "fault-injection"))]
pub use shell::Crash;
