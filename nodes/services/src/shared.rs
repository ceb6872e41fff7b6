//! One instance for all tests of a run, a part of it for each.
//!
//! `cargo xtask test` starts the servers once and tells their addresses by the variables below; a plain
//! `cargo test` starts them once a process, where a test asks for one.

use crate::{Error, Postgres, Programs, RabbitMq, Redis, postgres, target_folder};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

/// The address of a PostgreSQL whose user may make databases.
pub const POSTGRES_URL: &str = "CALLBOARD_TEST_POSTGRES_URL";
/// The address of a RabbitMQ.
pub const RABBITMQ_URL: &str = "CALLBOARD_TEST_RABBITMQ_URL";
/// The address of a Redis, without a database.
pub const REDIS_URL: &str = "CALLBOARD_TEST_REDIS_URL";

/// A server that is this process's own.
enum Own {
    Postgres(Postgres),
    RabbitMq(RabbitMq),
    Redis(Redis),
}

/// Statics are never dropped; the guardians end the servers when the process does.
static OWN: Mutex<Vec<Own>> = Mutex::new(Vec::new());
static PROGRAMS: LazyLock<Result<Programs, String>> =
    LazyLock::new(|| Programs::find(&target_folder()).map_err(|e| e.to_string()));
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The programs of the servers, found once.
///
/// # Errors
/// What is missing.
pub fn programs() -> Result<&'static Programs, Error> {
    PROGRAMS.as_ref().map_err(|tried| Error::Missing {
        what: "a server that this test needs",
        tried: tried.clone(),
        advice: "`cargo xtask services up` says more",
    })
}

/// The address in the variable, or of a server of this process's own.
fn address(
    variable: &str,
    place: &'static OnceLock<Result<String, String>>,
    start: impl FnOnce(&Programs) -> Result<(String, Own), Error>,
) -> Result<String, Error> {
    if let Ok(url) = std::env::var(variable) {
        return Ok(url);
    }
    let started = place.get_or_init(|| {
        let (url, own) = programs().and_then(start).map_err(|e| e.to_string())?;
        OWN.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        Ok(url)
    });
    started.clone().map_err(|log| Error::Start { what: "a server for tests", log })
}

/// A name that no other test of any process uses.
#[must_use]
pub fn unique(prefix: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let next = NEXT.fetch_add(1, Ordering::SeqCst);
    format!("{prefix}_{}_{}_{next}", std::process::id(), now.as_micros() % 1_000_000_000)
}

/// The address of an empty database of one's own.
///
/// # Errors
/// There is no PostgreSQL to be had.
pub fn database() -> Result<String, Error> {
    static PLACE: OnceLock<Result<String, String>> = OnceLock::new();
    let url = address(POSTGRES_URL, &PLACE, |programs| {
        let server = Postgres::start(programs)?;
        Ok((server.url("postgres"), Own::Postgres(server)))
    })?;
    let (name, psql) = (unique("test"), programs()?.postgres.client("psql"));
    postgres::psql(&psql, &url, &format!("CREATE DATABASE {name}"))?;
    let server = url.rsplit_once('/').map_or(url.as_str(), |(server, _)| server);
    Ok(format!("{server}/{name}"))
}

/// The address of a RabbitMQ, and a prefix for the names of one's own queues.
///
/// # Errors
/// There is none to be had.
pub fn rabbitmq() -> Result<(String, String), Error> {
    static PLACE: OnceLock<Result<String, String>> = OnceLock::new();
    let url = address(RABBITMQ_URL, &PLACE, |programs| {
        let server = RabbitMq::start(programs)?;
        Ok((server.url(), Own::RabbitMq(server)))
    })?;
    Ok((url, unique("test")))
}

/// The address of a Redis, and a prefix for one's own keys.
///
/// # Errors
/// There is none to be had.
pub fn redis() -> Result<(String, String), Error> {
    static PLACE: OnceLock<Result<String, String>> = OnceLock::new();
    let url = address(REDIS_URL, &PLACE, |programs| {
        let server = Redis::start(programs, &std::env::temp_dir())?;
        Ok((server.url(0), Own::Redis(server)))
    })?;
    Ok((url, unique("test")))
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Postgres(server) => server.fmt(f),
            Self::RabbitMq(server) => server.fmt(f),
            Self::Redis(server) => server.fmt(f),
        }
    }
}
