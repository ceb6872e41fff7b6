//! Real servers for tests: PostgreSQL, RabbitMQ and Redis, private to whoever starts them.
//!
//! - [`Programs`] finds them on the machine, or unpacks Debian's packages into a folder (no system service,
//!   nothing installed system-wide, for root and for a plain user), or finds a container engine.
//! - [`Postgres`], [`RabbitMq`] and [`Redis`] each start one instance on free ports with data of its own, as
//!   processes or as a container. It can be killed with SIGKILL, paused, and started again on the same data and
//!   port.
//! - [`shared`] gives every caller a part of one instance for all: a database, a prefix, a number.
//!
//! Invariants:
//! - No process and no container outlives the one that started it, however that one ends: each server hangs on
//!   a guardian that reads a pipe, and when the pipe closes kills the server and removes its data.
//! - No port is fixed.
//!
//! It uses no other crate of the workspace, so that `cargo xtask` can use it while those do not compile.

mod container;
mod debian;
mod guard;
mod instance;
mod plain_user;
mod postgres;
mod programs;
mod rabbitmq;
mod redis;
pub mod shared;

pub use postgres::Postgres;
pub use programs::{Programs, Way};
pub use rabbitmq::RabbitMq;
pub use redis::Redis;

use std::path::PathBuf;
use std::time::Duration;

/// How long a server may take to answer after its start.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not on the machine, and there is no other way to have it.
    #[error("{what} cannot be had:\n  {tried}\n  {advice}")]
    Missing {
        /// What.
        what: &'static str,
        /// What was tried, and how that went.
        tried: String,
        /// What to do.
        advice: &'static str,
    },
    /// It does not answer after its start.
    #[error("{what} does not start:\n{log}")]
    Start {
        /// What.
        what: &'static str,
        /// What it said.
        log: String,
    },
    /// A program could not be run, or a file not be written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` failed:\n{output}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said.
        output: String,
    },
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// A port on the loopback address that nobody listens on now.
///
/// # Errors
/// The system has none.
pub fn free_port() -> Result<u16, Error> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Error::io("no free port"))?;
    Ok(listener.local_addr().map_err(Error::io("no free port"))?.port())
}

/// The folder of this workspace's build, where packages are unpacked and data is kept.
#[must_use]
pub fn target_folder() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap_or(root);
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |dir| root.join(dir))
        .join("services")
}
