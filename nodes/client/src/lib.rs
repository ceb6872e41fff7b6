//! The client library: submits tasks, follows them to their end, and fails over between addresses.
//!
//! Invariants:
//! - Every submission carries a `request_id`, so that repeating it after an unknown outcome is safe.
//! - A call that may have run is repeated only if running it twice is the same as running it once.
//! - A watch yields every event once and in order, also across restarts of the node.
//! - Every call ends: at its answer, at its deadline, or when nothing has answered for the patience it has.
//!
//! It knows the generated types of `contracts` and nothing of the server's insides. It does no validation
//! of its own: the server names every wrong field. TLS is not here yet: addresses are plain `host:port`.

mod artifact;
mod call;
mod client;
mod cluster;
mod error;
mod experiments;
mod llm;
mod options;
mod route;
mod tasks;
mod watch;

pub use artifact::Artifact;
pub use callboard_contracts::v1;
pub use client::Client;
pub use error::{Error, Origin, Violation};
pub use options::Options;
pub use tasks::{Submitted, is_terminal, new_request_id};
pub use tonic::Code;
pub use watch::Update;
