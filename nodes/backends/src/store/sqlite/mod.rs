//! The store on SQLite: one file, nothing to install.
//!
//! - **Writes** go through one bounded queue to one thread, which commits what waits in groups
//!   ([`writer`]). Nothing is answered before its commit is synced to the disk.
//! - **Reads** run on a small pool of read-only connections ([`readers`]) and never wait for writes.
//! - **Transitions** are decided by the domain and written in one place ([`tx`]).
//! - A renewal of a session writes nothing: one process owns the file, and its lock on the data folder is
//!   the proof of life. The counter is kept in memory.
//!
//! A filter on a rare kind or queue alone looks at every task: about half a second per million.
//!
//! It does not guard the file against a second process (the node locks its data folder), and it does not
//! delete old tasks.

mod admit;
mod attempts;
mod claim;
mod events;
mod fault;
mod inbox;
mod port;
mod provider_records;
mod read;
mod readers;
mod registry;
mod rows;
mod schema;
mod sessions;
mod tx;
mod waiting;
mod writer;

pub use schema::OpenError;

use callboard_domain::SessionId;
use callboard_ports::Clock;
use callboard_ports::metrics::{Batches, BatchesRead};
use callboard_ports::store::{CommitObserver, Error};
use callboard_ports::taker::Taker;
use fault::Fault;
use inbox::{Bounds, Call, Inbox, Job};
use readers::Readers;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use tx::Tx;
use writer::Shared;

/// How many connections read.
const READERS: usize = 2;

/// How to open a store.
#[derive(Clone)]
pub struct Options {
    /// The file. It is created if absent; its folder is not.
    pub path: PathBuf,
    /// The store's clock.
    pub clock: Arc<dyn Clock>,
    /// Random numbers in `0.0..1.0`, to spread the next attempts of lost tasks.
    pub jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// The most rows that may wait to be written before new tasks are refused. Other writes have twice
    /// the room.
    pub queue_rows: usize,
    /// The most bytes that may wait to be written before new tasks are refused. Other writes have twice
    /// the room.
    pub queue_bytes: usize,
}

impl Options {
    /// Options with the default bounds.
    pub fn new(
        path: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
        jitter: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self { path: path.into(), clock, jitter: Arc::new(jitter), queue_rows: 16_384, queue_bytes: 32 << 20 }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What the store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions committed.
    pub commits: u64,
    /// Calls they carried.
    pub calls: u64,
    /// Reads.
    pub reads: u64,
}

/// The store.
pub struct Store {
    shared: Arc<Shared>,
    readers: Readers,
    /// Who takes tasks as they are admitted.
    taker: OnceLock<Arc<dyn Taker>>,
    /// How often each live session was renewed.
    renewals: Mutex<HashMap<SessionId, u64>>,
    writer: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the file, brings it to this version and starts the writer.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let conn = schema::open_writer(&options.path)?;
        let readers = (0..READERS).map(|_| schema::open_reader(&options.path)).collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared {
            inbox: Inbox::new(Bounds { rows: options.queue_rows, bytes: options.queue_bytes }),
            observers: Mutex::default(),
            commits: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            batches: Batches::default(),
        });
        let (path, of_writer) = (options.path.clone(), Arc::clone(&shared));
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer::run(conn, &options, of_writer))
            .map_err(|e| OpenError::CannotOpen { path, source: Box::new(e) })?;
        Ok(Arc::new(Self {
            shared,
            readers: Readers::new(readers),
            taker: OnceLock::new(),
            renewals: Mutex::default(),
            writer: tokio::sync::Mutex::new(Some(writer)),
        }))
    }

    /// Commits what was queued, lets nothing more in, and folds the log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.shared.inbox.close();
        if let Some(writer) = self.writer.lock().await.take() {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the store's writer panicked");
            }
        }
    }

    /// What it has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            commits: self.shared.commits.load(Ordering::Relaxed),
            calls: self.shared.calls.load(Ordering::Relaxed),
            reads: self.readers.count(),
        }
    }

    /// How writes are grouped. One writer writes whatever there is.
    #[must_use]
    pub fn batches(&self) -> BatchesRead {
        self.shared.batches.read(self.shared.inbox.rows())
    }

    fn add_observer(&self, observer: Arc<dyn CommitObserver>) {
        self.shared.observers.lock().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    fn add_taker(&self, taker: Arc<dyn Taker>) {
        if self.taker.set(taker).is_err() {
            tracing::error!("the store has a worker already that takes what is admitted");
        }
    }

    /// Queues a write and waits for its commit. Once queued it is done, also if the caller goes away.
    async fn write<R: Send + 'static>(
        &self,
        weight: Weight,
        work: impl FnMut(&mut Tx<'_>) -> Result<Result<R, Error>, Fault> + Send + 'static,
    ) -> Result<R, Error> {
        let (call, answer) = Call::new(work);
        let Weight { rows, bytes } = weight;
        self.shared.inbox.push(Job { work: Box::new(call), rows, bytes, admits: false })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// Nobody knows what became of a write.
fn stopped() -> Error {
    Error::Unknown("the store's writer stopped".into())
}

impl Drop for Store {
    fn drop(&mut self) {
        // The writer ends by itself once it has committed what was queued.
        self.shared.inbox.close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// What a write weighs in the queue that brings no new tasks.
#[derive(Clone, Copy)]
struct Weight {
    rows: usize,
    bytes: usize,
}

impl Weight {
    /// So many rows.
    const fn rows(rows: usize) -> Self {
        Self { rows, bytes: 0 }
    }
}
