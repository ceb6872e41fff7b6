//! Callboard, the one binary: configuration, wiring, the public API and the command line.
//!
//! - [`config`]: one file, every key of which an environment variable can set;
//! - [`node`]: a node on its backends, started and stopped;
//! - [`api`]: the services of `callboard.v1`;
//! - [`certs`]: certificates to start a cluster with;
//! - [`log`]: what a process logs;
//! - [`up`]: a node as a process;
//! - [`demo`]: the main job from end to end, on a node process that is killed in the middle;
//! - [`cli`]: the commands.
//!
//! This crate wires; what a task becomes is decided in `domain`, and work is done in the actors' crates.

pub mod api;
pub mod certs;
pub mod cli;
pub mod config;
pub mod demo;
pub mod log;
pub mod node;
pub mod up;
