//! The built-in kinds, each run through the registry as a worker runs it: its input is checked against
//! its schema before, its result after.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail it by a panic")]

mod campaign;
mod echo;
mod examples;
mod image;
mod policy;
mod schemas;
mod support;
mod text;
