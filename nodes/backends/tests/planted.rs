//! The integration tests, built with the deliberate bugs of `callboard_ports::planted`.
//!
//! A target of its own, so that it can be built from the whole workspace: with any other choice of packages, cargo
//! chooses other features for what they depend on, and compiles most of it anew.

#[path = "it/main.rs"]
mod it;
