//! The binary from outside.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail on them")]

mod cli_help;
mod cli_run;
