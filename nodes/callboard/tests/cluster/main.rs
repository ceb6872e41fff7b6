//! A cluster as its users have it: replicas as real processes on real servers, killed, paused, drained and cut
//! off. Each test shows a row of the failure table, or a promise of the cluster; its name says which.
//!
//! Processes compete for the machine: at most two clusters run at once, and what measures time runs alone.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail on them")]

mod alerts;
mod cable;
mod cache;
mod cancel;
mod drain;
mod events;
mod experiments;
mod fair;
mod kill;
mod limits;
mod load;
mod logs;
mod metrics;
mod node;
mod overload;
mod partition;
mod pause;
mod poison;
mod providers;
mod rabbitmq;
mod redis;
mod replica;
mod roles;
mod room;
mod servers;
mod store;
mod traces;
mod upgrade;
mod watch;
mod wire;
