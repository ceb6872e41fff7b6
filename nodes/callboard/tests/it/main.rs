//! The binary from outside.

#![expect(clippy::unwrap_used, reason = "a test may fail on them")]

mod actors;
mod bad_input;
mod cli_help;
mod cli_run;
mod node;
mod kill;
mod worker;
