//! A small pool of read-only connections.
//!
//! A read begins after it was asked for, so it sees every commit that was answered before.

use super::fault::Fault;
use crate::store::names::Names;
use callboard_ports::store::Error;
use rusqlite::Connection;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most reads that may wait for a connection.
const MOST_WAITING: usize = 4_096;

/// A connection and the names it has met.
pub(super) struct Reader {
    pub(super) conn: Connection,
    pub(super) names: Names,
}

struct Idle(Mutex<Vec<Reader>>);

impl Idle {
    fn put(&self, reader: Reader) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }

    fn take(&self) -> Option<Reader> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Gives a connection back also when the read panics. The permit goes after it, so whoever gets the
/// permit finds the connection.
struct Borrowed {
    reader: Option<Reader>,
    home: Arc<Idle>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.home.put(reader);
        }
    }
}

/// The pool.
pub(super) struct Readers {
    idle: Arc<Idle>,
    permits: Arc<Semaphore>,
    connections: u32,
    waiting: AtomicUsize,
    reads: AtomicU64,
}

/// One that waits for a connection.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        let readers = connections.into_iter().map(|conn| Reader { conn, names: Names::default() });
        let readers: Vec<_> = readers.collect();
        Self {
            permits: Arc::new(Semaphore::new(readers.len())),
            connections: u32::try_from(readers.len()).unwrap_or(u32::MAX),
            idle: Arc::new(Idle(Mutex::new(readers))),
            waiting: AtomicUsize::new(0),
            reads: AtomicU64::new(0),
        }
    }

    /// How many reads have begun.
    pub(super) fn count(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Runs a read on a thread that may block. It runs to its end even if the caller goes away.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<R, Fault> + Send + 'static,
    ) -> Result<R, Error> {
        let closed = || Error::Unavailable("the store is closed".into());
        let permit = {
            let waiter = Waiter(&self.waiting);
            if waiter.0.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
                return Err(Error::Overloaded);
            }
            Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?
        };
        let reader = self.idle.take().ok_or_else(closed)?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut borrowed = Borrowed { reader: Some(reader), home: Arc::clone(&self.idle), _permit: permit };
        let task = tokio::task::spawn_blocking(move || borrowed.reader.as_mut().map(work));
        match task.await {
            Ok(Some(done)) => done.map_err(|fault| {
                tracing::error!(error = %fault, "a read of the store failed");
                Error::from(&fault)
            }),
            Ok(None) => Err(closed()),
            Err(failed) => Err(Error::Unavailable(failed.to_string())),
        }
    }

    /// Closes the connections once their reads have ended, and lets no read begin.
    pub(super) async fn close(&self) {
        // Closed before, by another caller: nothing is left to do.
        if let Ok(_all) = self.permits.acquire_many(self.connections).await {
            self.permits.close();
            while self.idle.take().is_some() {}
        }
    }
}
