//! The worker before a store and a hand-off that do what the test says.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod stub;
mod take;
