//! Connections that several share, for what is read and for artifacts.
//!
//! A connection goes back only from a statement that had its answer: one that was left half-way, by an error, by
//! a caller that went away or because no answer came, is dropped with all that it waits for. (The pool of the
//! driver asks such a connection whether it is well, without an end: with a server that is cut off in the wrong
//! moment, each costs the pool a place for ever.)

use super::fault::Fault;
use super::line::{CONNECT, connect, within};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::{Connection as _, PgConnection, Postgres};
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long one may wait for a connection that others hold.
const ACQUIRE: Duration = Duration::from_secs(2);
/// How long a connection that is not new may take to say that it is well.
const PING: Duration = Duration::from_secs(2);
/// How long a connection is kept that nobody needs.
const IDLE: Duration = Duration::from_secs(600);

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Connections that are opened when they are needed, so many at the most. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    options: PgConnectOptions,
    size: u32,
    free: Arc<Semaphore>,
    /// The one used last is the last.
    idle: Mutex<Vec<(PgConnection, Instant)>>,
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Vec<(PgConnection, Instant)>> {
        // Nothing can panic while it is held, but for an allocation.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// A pool of up to so many connections. Nothing is opened yet.
    pub(crate) fn new(options: PgConnectOptions, size: u32) -> Self {
        let free = Arc::new(Semaphore::new(usize::try_from(size).unwrap_or(usize::MAX)));
        Self(Arc::new(Inner { options, size, free, idle: Mutex::default() }))
    }

    /// A connection that works, within some seconds.
    pub(crate) async fn take(&self) -> Result<Pooled, sqlx::Error> {
        let permit = within(ACQUIRE, Arc::clone(&self.0.free).acquire_owned()).await;
        let permit = match permit {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(sqlx::Error::PoolClosed),
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        loop {
            let Some(mut conn) = self.pop() else { break };
            // It may have died since, perhaps with the server.
            if matches!(within(PING, conn.ping()).await, Ok(Ok(()))) {
                return Ok(self.pooled(conn, permit));
            }
        }
        match connect(&self.0.options).await {
            Ok(conn) => Ok(self.pooled(conn, permit)),
            Err(Fault::Sql(error)) => Err(error),
            Err(fault) => Err(sqlx::Error::Io(std::io::Error::new(ErrorKind::TimedOut, fault.to_string()))),
        }
    }

    fn pop(&self) -> Option<PgConnection> {
        let mut idle = self.0.idle();
        idle.retain(|(_, since)| since.elapsed() < IDLE);
        idle.pop().map(|(conn, _)| conn)
    }

    fn pooled(&self, conn: PgConnection, permit: OwnedSemaphorePermit) -> Pooled {
        Pooled { conn, pool: Arc::clone(&self.0), permit }
    }

    /// All rows of a statement.
    pub(crate) async fn all(&self, statement: Statement<'_>) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut conn = self.take().await?;
        let rows = statement.fetch_all(&mut *conn).await?;
        conn.give_back();
        Ok(rows)
    }

    /// The first row of a statement, if it has one.
    pub(crate) async fn first(&self, statement: Statement<'_>) -> Result<Option<PgRow>, sqlx::Error> {
        let mut conn = self.take().await?;
        let row = statement.fetch_optional(&mut *conn).await?;
        conn.give_back();
        Ok(row)
    }

    /// The first row of a statement that always has one.
    pub(crate) async fn one(&self, statement: Statement<'_>) -> Result<PgRow, sqlx::Error> {
        self.first(statement).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Lets nobody have a connection any more, and ends them in good order once they are given back.
    pub(crate) async fn close(&self) {
        // Those that are not given back in time end with their use.
        let _ = within(CONNECT, self.0.free.acquire_many(self.0.size)).await;
        self.0.free.close();
        let idle = std::mem::take(&mut *self.0.idle());
        for (conn, _) in idle {
            // The server notices by itself if this is not said.
            let _ = within(CONNECT, conn.close()).await;
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the options: they may hold a password.
        f.debug_struct("Pool").field("size", &self.0.size).finish_non_exhaustive()
    }
}

/// A connection of a pool. One that is dropped, and not given back, is closed.
pub(crate) struct Pooled {
    conn: PgConnection,
    pool: Arc<Inner>,
    permit: OwnedSemaphorePermit,
}

impl Pooled {
    /// Gives it back: it is in no transaction, and nothing is under way on it.
    pub(crate) fn give_back(self) {
        let Self { conn, pool, permit } = self;
        if !pool.free.is_closed() {
            pool.idle().push((conn, Instant::now()));
        }
        // Not before it is there for whoever comes next.
        drop(permit);
    }
}

impl Deref for Pooled {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.conn
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.conn
    }
}
