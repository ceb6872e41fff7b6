//! The binary from outside.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail on them")]

mod actors;
mod bad_input;
mod certs;
mod cli_help;
mod cli_run;
mod deploy;
mod direct;
mod experiments;
mod folder;
mod grpc;
mod handlers;
mod kill;
mod logs;
mod metrics;
mod models;
mod node;
mod openai;
mod providers;
mod resilience;
mod tasks_api;
mod traces;
mod watch;
mod worker;
