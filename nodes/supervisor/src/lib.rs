//! The Supervisor actor: holds the node's session, watches the other actors, runs the reconcilers.
//!
//! - [`Node`]: what it keeps outside the actor, so that it survives the actor's restart: the session,
//!   the counts of restarts, what it has seen of other nodes.
//! - the watch loop asks each actor whether it works through its mail;
//! - the reconcilers look at the store and repair: due tasks, orphans, and what the node is given beside. Hints
//!   make them fast, their period makes them right.
//!
//! A node by itself opens a session and another when that one was ended; nobody looks at its renewals, so none
//! is written. A node in a [`Cluster`] has more:
//! - a thread of its own renews the session, and ends it when the process behind it is of no use any more;
//! - the observer looks at the other sessions each second, finds those that are silent, and probes those that
//!   are suspected: what is proven dead is ended at once;
//! - a node that cannot renew claims nothing, and asks its peers whether it is cut off.
//!
//! The decisions are pure ([`callboard_runtime::membership`]); here is what waits and calls. Invariants: no
//! renewal waits for work; nothing but two refused connections, a later life of the same name or a whole timeout
//! of silence ends another's session; the session ends before the mesh listener closes.
//!
//! Actors are restarted by their own shells (`runtime::actor`). When that happens too often, or an actor
//! does not answer, the Supervisor gives the node up: it drains and exits non-zero.

mod actor;
mod cluster;
mod cutoff;
mod events;
mod join;
mod keeper;
mod node;
mod observe;
mod prober;
mod pursue;
mod reconcile;
mod restarts;
mod service;
mod status;
#[cfg(test)]
mod tests;

pub use actor::Supervisor;
pub use cluster::{Cluster, Hooks, MESH, OnMembers, Prober};
pub use join::JoinError;
pub use node::{Child, Deps, Node, Options, Setup};
pub use prober::MeshProber;
pub use reconcile::{DueHint, Reconciler, Run, Runner};
pub use restarts::Restarts;
pub use service::{Drain, LogFilter, Service};
pub use status::Sources;
