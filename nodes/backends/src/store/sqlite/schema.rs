//! Opening the file: settings and numbered migrations.

use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The migrations, in order. `user_version` tells how many of them a file has. One that has been
/// released never changes.
const MIGRATIONS: [&str; 3] = [
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite/0001_initial.sql")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite/0002_revivals.sql")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite/0003_provider_records.sql")),
];

/// Marks a file as ours: "CBRD".
const APPLICATION_ID: i32 = 0x4342_5244;

/// More than there are different statements, so none is ever prepared twice.
const STATEMENTS: usize = 128;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such folder, it may not be entered, or the disk is faulty.
    #[error("cannot open {}", path.display())]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file or its folder cannot be written.
    #[error("{} cannot be written", path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// Why, if SQLite said.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It was written by a newer version of the product.
    #[error("{} has version {found}, this program knows up to {supported}: use a newer one", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u32,
        /// The newest this program knows.
        supported: u32,
    },
    /// It is no store of ours, or damaged.
    #[error("{} is damaged or no store of callboard", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    fn new(path: &Path, error: rusqlite::Error) -> Self {
        let (path, code) = (path.to_owned(), error.sqlite_error_code());
        let source = Box::new(error);
        match code {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Corrupt { path, source },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::NotWritable { path, source: Some(source) }
            }
            _ => Self::CannotOpen { path, source },
        }
    }
}

/// Opens the connection that writes, creating or migrating the file where needed.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let opened = |conn: &Connection| {
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        // What is acknowledged survives the loss of power: a sync for every commit.
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "foreign_keys", false)?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        conn.pragma_update(None, "cache_size", -8 * 1024)?;
        // Folding the log into the file syncs twice more: rarely, but before the log grows past reason.
        conn.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        conn.pragma_update(None, "journal_size_limit", 32 << 20)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(())
    };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let error = |e| OpenError::new(path, e);
    let mut conn = Connection::open_with_flags(path, flags).map_err(error)?;
    // SQLite opens a file it may not write for reading, without a word.
    if conn.is_readonly("main").map_err(error)? {
        return Err(OpenError::NotWritable { path: path.to_owned(), source: None });
    }
    let supported = MIGRATIONS.len() as u32;
    // Before anything is written: a file that is not ours, or from a newer version, stays as it is.
    let found = version(&conn).map_err(error)?.ok_or_else(|| OpenError::Corrupt {
        path: path.to_owned(),
        source: "it holds tables of another program".into(),
    })?;
    if found > supported {
        return Err(OpenError::NewerVersion { path: path.to_owned(), found, supported });
    }
    opened(&conn).map_err(error)?;
    migrate(&mut conn, found as usize).map_err(error)?;
    Ok(conn)
}

/// The version of a file, zero if it is empty; none if it belongs to another program.
fn version(conn: &Connection) -> rusqlite::Result<Option<u32>> {
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let objects: i64 = conn.query_one("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if objects > 0 && application != APPLICATION_ID {
        return Ok(None);
    }
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).map(Some)
}

fn migrate(conn: &mut Connection, found: usize) -> rusqlite::Result<()> {
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        tx.execute_batch(migration)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", index as u32 + 1)?;
        tx.commit()?;
    }
    Ok(())
}

/// Opens a connection that reads. The file must exist.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.pragma_update(None, "query_only", true)?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        conn.pragma_update(None, "cache_size", -2 * 1024)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(conn)
    };
    open().map_err(|e| OpenError::new(path, e))
}
