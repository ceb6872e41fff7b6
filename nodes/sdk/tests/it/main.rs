//! What a person who writes a kind relies on.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail it by a panic")]

mod context;
mod handler;
mod registry;
mod stage;
