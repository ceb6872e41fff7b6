//! The Worker actor: takes hand-offs, claims in the store, runs handlers in slots, commits results.
//!
//! The actor is a thin shell. What it holds lives in an [`Engine`] outside it and survives its restart:
//! - [`claims`](Claims): the attempts this node holds,
//! - the take loop: delivery -> claim -> ack -> run,
//! - beside it, what is short and need not wait is claimed as it is admitted: [`taker`],
//! - one runner per attempt: slot, start, handler with deadline and cancel, finish,
//! - the starts and progress loops: what runners note, written in batches,
//! - the reconcile loop: gives back what the store says we hold and no runner owns.
//!
//! Invariants:
//! - an id is among the claims before the claim is sent and until its outcome is known,
//! - a delivery is acknowledged after its claim has committed; what it holds beyond the worker's room is
//!   handed off again in the same transaction,
//! - every write is fenced by session and attempt,
//! - a result is held until the store has taken or refused it; past a bound nothing more is claimed,
//! - what is claimed under a session ends with it: [`Engine::session_over`], [`Engine::cut_off`].
//!
//! It does not decide what a task becomes (`domain`), nor in which order tasks come (`Handoff`).

mod actor;
mod claims;
mod cluster;
mod direct;
mod engine;
mod notes;
mod pace;
mod reconcile;
mod run;
mod stats;
mod take;
mod tools;

pub use actor::{Service, Worker};
pub use claims::Claims;
pub use cluster::{Cluster, OnRunTime};
pub use direct::taker;
pub use engine::{Deps, Engine, Load, Options};
pub use stats::{KindRead, Stats, StatsRead};
pub use tools::{BrokerLlm, PortArtifacts};
