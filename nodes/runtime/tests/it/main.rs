//! Actors that panic, and calls between nodes over real connections.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail on them")]

mod actors;
mod mesh_calls;
mod mesh_peers;
mod mesh_support;
mod mesh_tls;
mod mesh_wire;
