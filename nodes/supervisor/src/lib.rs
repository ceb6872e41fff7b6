//! The Supervisor actor: holds the node's session, watches the other actors, runs the reconcilers.
//!
//! - [`Node`]: what it keeps outside the actor, so that it survives the actor's restart: the session,
//!   the counts of restarts.
//! - the session loop opens a session, and another when that one was ended;
//! - the watch loop asks each actor whether it works through its mail;
//! - the reconcilers look at the store and repair: due tasks, orphans. Hints make them fast, their period
//!   makes them right.
//!
//! Actors are restarted by their own shells (`runtime::actor`). When that happens too often, or an actor
//! does not answer, the Supervisor gives the node up: it drains and exits non-zero.

mod actor;
mod node;
mod reconcile;
mod restarts;

pub use actor::{Service, Supervisor};
pub use node::{Child, Deps, Node, Options};
pub use reconcile::DueHint;
pub use restarts::Restarts;
