//! The ledger in a file, for a node by itself.
//!
//! What was answered outlives the process. It is not synced to the disk each time: with the loss of power the last of it may
//! be lost, never what was there before.

use async_trait::async_trait;
use callboard_domain::Timestamp;
use callboard_ports::ledger::{self, Balance, Error};
use rusqlite::{Connection, params};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS ledger (
        account TEXT NOT NULL,
        source TEXT NOT NULL,
        number INTEGER NOT NULL,
        total INTEGER NOT NULL,
        kept_until INTEGER NOT NULL,
        PRIMARY KEY (account, source)
    ) STRICT, WITHOUT ROWID";
const TELL: &str = "INSERT INTO ledger (account, source, number, total, kept_until) VALUES (?1, ?2, ?3, ?4, ?5) \
     ON CONFLICT (account, source) DO UPDATE SET number = excluded.number, total = excluded.total, \
         kept_until = max(kept_until, excluded.kept_until) \
     WHERE number < excluded.number";
const TOTALS: &str = "SELECT total FROM ledger WHERE account = ?1";
const FORGET: &str = "DELETE FROM ledger WHERE kept_until < ?1";
/// The version of the file.
const VERSION: i64 = 1;

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read or written, or is no ledger.
    #[error(
        "the ledger {path} cannot be opened: {source}; without it, what was used of quotas and budgets is not known"
    )]
    Sqlite {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It was written by a newer version of the product.
    #[error("the ledger {path} has version {found}, this program knows up to {VERSION}: use a newer one")]
    NewerVersion {
        /// The file.
        path: std::path::PathBuf,
        /// The version of the file.
        found: i64,
    },
}

/// The ledger in a file. Clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    connection: Arc<Mutex<Connection>>,
}

impl Ledger {
    /// Opens the file, and makes it if there is none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let (connection, found) = opened(path).map_err(failed)?;
        if found > VERSION {
            return Err(OpenError::NewerVersion { path: path.to_owned(), found });
        }
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Does something with the file, where it holds up nobody. It is done to its end also if the caller goes away.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let connection = Arc::clone(&self.connection);
        let work = move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(|error| Error::Unavailable(error.to_string())),
            Err(failed) => Err(Error::Unavailable(failed.to_string())),
        }
    }
}

fn opened(path: &Path) -> rusqlite::Result<(Connection, i64)> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found == 0 {
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "user_version", VERSION)?;
    }
    Ok((connection, found))
}

#[async_trait]
impl ledger::Ledger for Ledger {
    async fn exchange(
        &self,
        source: &str,
        number: u64,
        own: &[Balance],
        read: &[String],
    ) -> Result<Vec<i64>, Error> {
        let (source, own, read) = (source.to_owned(), own.to_owned(), read.to_owned());
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.run(move |connection| {
            let tx = connection.transaction()?;
            let mut tell = tx.prepare_cached(TELL)?;
            for Balance { account, total, until } in &own {
                tell.execute(params![account, source, number, total, until.micros()])?;
            }
            drop(tell);
            let mut totals = tx.prepare_cached(TOTALS)?;
            let mut sums = Vec::with_capacity(read.len());
            for account in &read {
                let rows = totals.query_map([account], |row| row.get(0))?;
                sums.push(rows.sum_saturating()?);
            }
            drop(totals);
            tx.commit()?;
            Ok(sums)
        })
        .await
    }

    async fn forget(&self, now: Timestamp) -> Result<(), Error> {
        self.run(move |connection| connection.execute(FORGET, [now.micros()]).map(drop)).await
    }
}

/// Sums without an overflow: SQLite's own would be an error.
trait SumSaturating {
    fn sum_saturating(self) -> rusqlite::Result<i64>;
}

impl<I: Iterator<Item = rusqlite::Result<i64>>> SumSaturating for I {
    fn sum_saturating(self) -> rusqlite::Result<i64> {
        let mut sum = 0_i128;
        for total in self {
            sum += i128::from(total?);
        }
        Ok(i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX }))
    }
}
