//! Opening a database: can it be reached, is it one we can use, is its schema ours and not too new.

use super::Options;
use super::line::connect;
use super::pooler::{self, Found};
use super::{fault::Blame, fault::Fault};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use std::str::FromStr;
use std::time::Duration;
use tokio::time::Instant;

/// Brings a database to this version. The connection holds an advisory lock meanwhile: nodes that start at
/// once wait for the first of them.
static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// The oldest server we know to work, as `server_version_num` says it.
const OLDEST: i32 = 140_000;

const APPLIED: &str = "SELECT max(version) FROM _sqlx_migrations";
const HAS_TABLE: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An address is not one.
    #[error("{option} is not the address of a database (postgres://user@host:port/name)")]
    NotAnAddress {
        /// Which option.
        option: &'static str,
        /// Why.
        source: Source,
    },
    /// Nothing answers there, or not in time.
    #[error("cannot reach the database at {address}")]
    Unreachable {
        /// The host and port.
        address: String,
        /// Why.
        source: Source,
    },
    /// The user or the password is wrong, or may not connect from here.
    #[error("the database at {address} refuses the user {user}: wrong password, or no right to connect")]
    LoginRefused {
        /// The host and port.
        address: String,
        /// The user.
        user: String,
        /// What the server said.
        source: Source,
    },
    /// The server has no such database.
    #[error("the server at {address} has no database {database}: create it first")]
    NoDatabase {
        /// The host and port.
        address: String,
        /// The name.
        database: String,
    },
    /// A connection pooler stands between, and is not set up for it.
    #[error(
        "a connection pooler answers at {address} and refuses what the store sets on its connections: \
             let it ignore the startup parameters `options` and `extra_float_digits` \
             (ignore_startup_parameters), set plan_cache_mode for the role, and give a direct_url"
    )]
    Pooler {
        /// The host and port.
        address: String,
        /// What it said.
        source: Source,
    },
    /// A connection pooler in transaction mode forgets what a client has prepared.
    #[error(
        "the connection pooler at {address} forgets prepared statements: PgBouncer from 1.21 with \
             max_prepared_statements above zero is needed; or leave it out, by a url that leads past it as direct_url does"
    )]
    OldPooler {
        /// The host and port.
        address: String,
    },
    /// A connection pooler drops what the store sets on its connections, and the role does not have it either.
    #[error(
        "behind the connection pooler at {address} a setting is missing: ALTER ROLE {user} SET {setting}, \
             then have the pooler connect anew"
    )]
    PoolerSettings {
        /// The host and port.
        address: String,
        /// The user.
        user: String,
        /// The setting and its value.
        setting: &'static str,
    },
    /// There is a connection pooler and no way past it.
    #[error(
        "a connection pooler in transaction mode answers at {address}: give a direct_url that leads past it"
    )]
    NoDirectUrl {
        /// The host and port.
        address: String,
    },
    /// The server is too old.
    #[error("the server at {address} has version {found}, at least 14 is needed")]
    OldServer {
        /// The host and port.
        address: String,
        /// Its version.
        found: String,
    },
    /// The database was written by a newer version of the product.
    #[error("the database has version {found}, this program knows up to {supported}: use a newer one")]
    NewerVersion {
        /// The version of the database.
        found: i64,
        /// The newest this program knows.
        supported: i64,
    },
    /// The schema cannot be brought to this version.
    #[error("the schema of the database cannot be brought to this version")]
    Migration {
        /// Why.
        source: Source,
    },
}

/// How the connections of a store are opened.
#[derive(Clone, Debug)]
pub(super) struct Ways {
    /// Those that write: short, never waiting for long, on plans that cannot go wrong.
    pub(super) writes: PgConnectOptions,
    /// Those that write and must not go through a pooler.
    pub(super) writes_direct: PgConnectOptions,
    /// Those that read.
    pub(super) reads: PgConnectOptions,
    /// Those that carry artifacts: past a pooler, which they would hold up.
    pub(super) artifacts: PgConnectOptions,
    /// Those that make and drop partitions.
    pub(super) maintains: PgConnectOptions,
    /// Whether there is an address of its own for those that must not go through a pooler.
    past_pooler: bool,
    /// For changes of the schema, which take what they take: nothing is set.
    direct: PgConnectOptions,
}

/// What every connection sets. A node that is paused or cut off must not hold locks: the server ends a
/// transaction that idles, and gives up on a client that takes no bytes.
const ALL: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_custom_plan"),
    ("jit", "off"),
    ("tcp_user_timeout", "1500"),
    ("tcp_keepalives_idle", "1"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "3"),
];

/// Longer than a silent client may hold a lock, so that whoever waits for one gets it in the end; and no longer:
/// a statement of a client that is cut off while it waits holds what its transaction has locked before.
const LOCK_TIMEOUT: &str = "3s";

/// Has the server look whether the client of a statement that runs or waits is still there. Set apart: not every
/// system that a server runs on can.
const WATCH: (&str, &str) = ("client_connection_check_interval", "1s");

/// What writes set beside. They look up rows by id and nothing else: whatever the statistics say of a table
/// that was analysed while it was empty, the index is right.
const WRITES: [(&str, &str); 5] = [
    ("idle_in_transaction_session_timeout", "2s"),
    ("lock_timeout", LOCK_TIMEOUT),
    ("statement_timeout", "9s"),
    ("enable_seqscan", "off"),
    ("enable_mergejoin", "off"),
];

const READS: [(&str, &str); 2] =
    [("idle_in_transaction_session_timeout", "10s"), ("statement_timeout", "10s")];

const ARTIFACTS: [(&str, &str); 2] =
    [("idle_in_transaction_session_timeout", "10s"), ("statement_timeout", "20s")];

/// To wait for a lock on a table's parent is to make everybody else wait behind us. A node that falls silent while
/// it is at it must not keep the others from it.
const MAINTAINS: [(&str, &str); 4] = [
    ("idle_session_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("lock_timeout", "200ms"),
    ("statement_timeout", "5min"),
];

impl Ways {
    pub(super) fn new(options: &Options) -> Result<Self, OpenError> {
        let url = parse("url", &options.url)?;
        let direct = match &options.direct_url {
            Some(direct) => parse("direct_url", direct)?,
            None => url.clone(),
        };
        Ok(Self {
            writes: url.clone().options(ALL).options(WRITES),
            writes_direct: direct.clone().options(ALL).options(WRITES),
            reads: url.options(ALL).options(READS),
            artifacts: direct.clone().options(ALL).options(ARTIFACTS),
            maintains: direct.clone().options(ALL).options(MAINTAINS),
            past_pooler: options.direct_url.is_some(),
            direct,
        })
    }

    /// Has the server look after those whose client is gone.
    fn watch_clients(&mut self) {
        let Self { writes, writes_direct, reads, artifacts, maintains, .. } = self;
        for way in [writes, writes_direct, reads, artifacts, maintains] {
            *way = way.clone().options([WATCH]);
        }
    }
}

fn parse(option: &'static str, url: &str) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|source| OpenError::NotAnAddress { option, source: Box::new(source) })?;
    Ok(options.application_name("callboard").disable_statement_logging())
}

fn address(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// Connects, looks the server over and brings the schema to this version.
pub(super) async fn prepare(ways: &mut Ways, within: Duration) -> Result<(), OpenError> {
    check_pooler(ways, within).await?;
    let mut direct = open(&ways.direct, within).await?;
    check_server(&mut direct, &ways.direct).await?;
    let (name, value) = WATCH;
    match direct.execute(AssertSqlSafe(format!("SET {name} = '{value}'"))).await {
        Ok(_) => ways.watch_clients(),
        Err(error) => {
            tracing::info!(%error, "the server cannot see that a client is gone while a statement runs");
        }
    }
    migrate(&mut direct).await?;
    // Ends by itself if this fails.
    let _ = direct.close().await;
    // As the work will connect.
    let worker = open(&ways.writes, within).await?;
    let _ = worker.close().await;
    Ok(())
}

/// Whether what stands between, if anything, is fit for it. Before anything is changed: without a way past it,
/// a pooler would be in the middle of that.
async fn check_pooler(ways: &Ways, within: Duration) -> Result<(), OpenError> {
    let _ = open(&ways.writes, within).await?.close().await;
    let address = address(&ways.writes);
    match pooler::look(&ways.writes).await.map_err(|fault| explain(&ways.writes, fault).1)? {
        Found::Nothing => Ok(()),
        Found::Forgets => Err(OpenError::OldPooler { address }),
        Found::Unset(setting) => {
            let user = ways.writes.get_username().to_owned();
            Err(OpenError::PoolerSettings { address, user, setting })
        }
        Found::Pooler if !ways.past_pooler => Err(OpenError::NoDirectUrl { address }),
        Found::Pooler => Ok(()),
    }
}

/// Connects, patiently while the server is not there yet.
async fn open(options: &PgConnectOptions, within: Duration) -> Result<PgConnection, OpenError> {
    let deadline = Instant::now() + within;
    loop {
        let fault = match connect(options).await {
            Ok(conn) => return Ok(conn),
            Err(fault) => fault,
        };
        let (patience, error) = explain(options, fault);
        if !patience || Instant::now() >= deadline {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Why a connection was not opened, and whether it may be worth another try.
fn explain(options: &PgConnectOptions, fault: Fault) -> (bool, OpenError) {
    let address = address(options);
    let code = match &fault {
        Fault::Sql(sqlx::Error::Database(error)) => error.code().map(|code| code.into_owned()),
        _ => None,
    };
    let again = fault.blame() == Blame::Connection;
    let source: Source = Box::new(fault);
    match code.as_deref() {
        Some("28P01" | "28000") => {
            (false, OpenError::LoginRefused { address, user: options.get_username().to_owned(), source })
        }
        Some("3D000") => {
            let database = options.get_database().unwrap_or(options.get_username()).to_owned();
            (false, OpenError::NoDatabase { address, database })
        }
        // What PgBouncer says to a startup parameter it does not know.
        Some("08P01") => (false, OpenError::Pooler { address, source }),
        _ => (again, OpenError::Unreachable { address, source }),
    }
}

async fn check_server(conn: &mut PgConnection, options: &PgConnectOptions) -> Result<(), OpenError> {
    let unreachable =
        |e: sqlx::Error| OpenError::Unreachable { address: address(options), source: Box::new(e) };
    let number: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut *conn)
        .await
        .map_err(unreachable)?;
    if number < OLDEST {
        let found = format!("{}", number / 10_000);
        return Err(OpenError::OldServer { address: address(options), found });
    }
    Ok(())
}

async fn migrate(conn: &mut PgConnection) -> Result<(), OpenError> {
    let failed = |e: sqlx::Error| OpenError::Migration { source: Box::new(e) };
    let supported = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or_default();
    let has_table: bool = sqlx::query_scalar(HAS_TABLE).fetch_one(&mut *conn).await.map_err(failed)?;
    if has_table {
        // Before anything is written: a database of a newer version stays as it is.
        let found: Option<i64> = sqlx::query_scalar(APPLIED).fetch_one(&mut *conn).await.map_err(failed)?;
        if let Some(found) = found.filter(|found| *found > supported) {
            return Err(OpenError::NewerVersion { found, supported });
        }
    }
    MIGRATIONS.run(conn).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) | MigrateError::VersionTooNew(found, _) => {
            OpenError::NewerVersion { found, supported }
        }
        error => OpenError::Migration { source: Box::new(error) },
    })
}
