//! The client against a scripted server that can be killed like a process.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail on them")]

mod calls;
mod node;
mod watches;
