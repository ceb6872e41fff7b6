//! The one writer: a thread that owns the write connection.
//!
//! It takes whatever waits, runs it in one transaction, commits (one sync to the disk), answers every
//! caller, then tells the observers. There is no timer: a single write is committed at once, and the next
//! batch gathers while the disk is busy.
//!
//! A transaction that one item's data makes fail is rolled back and run again with care: every item in a
//! savepoint of its own, so that only the guilty one is refused.

use super::Options;
use super::fault::Fault;
use super::inbox::{Bounds, Inbox, Job};
use super::tx::{Scratch, Tx};
use callboard_domain::State;
use callboard_ports::metrics::Batches;
use callboard_ports::store::{CommitObserver, Error};
use rusqlite::{Connection, params};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The most one commit takes.
const COMMIT: Bounds = Bounds { rows: 2_000, bytes: 8 << 20 };
/// Buffers that grew past so many items are given back to the allocator after the commit.
const KEPT: usize = 8 * 1024;

const ADD_TO_TOTAL: &str = "UPDATE task_totals SET total = total + ?2 WHERE state = ?1";

/// What the writer shares with its store.
pub(super) struct Shared {
    pub(super) inbox: Inbox,
    pub(super) observers: Mutex<Vec<Arc<dyn CommitObserver>>>,
    pub(super) commits: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) batches: Batches,
}

/// Lets nobody wait for a writer that is gone, however it went.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.inbox.close();
        let error = Error::Unavailable("the store is closed".into());
        for job in self.0.inbox.drain() {
            job.work.answer(Some(&error));
        }
    }
}

/// Runs until the inbox is closed and empty.
pub(super) fn run(conn: Connection, options: &Options, shared: Arc<Shared>) {
    let gone = Gone(shared);
    let shared = &gone.0;
    let mut scratch = Scratch::default();
    let mut jobs = Vec::new();
    while shared.inbox.take(COMMIT, &mut jobs) {
        let (rows, began) = (jobs.iter().map(|job| job.rows).sum(), Instant::now());
        let result = commit(&conn, options, &mut scratch, &mut jobs);
        shared.batches.wrote(rows, began.elapsed());
        if result.is_ok() {
            shared.commits.fetch_add(1, Ordering::Relaxed);
            shared.calls.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        }
        for job in jobs.drain(..) {
            job.work.answer(result.as_ref().err());
        }
        if result.is_ok() {
            tell(shared, &scratch);
        }
        scratch.clear();
        scratch.commit.events.shrink_to(KEPT);
        scratch.commit.ready.shrink_to(KEPT);
        scratch.buffer.shrink_to(KEPT);
    }
    if let Err(error) = conn.query_one("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        // Harmless: the next start reads the log.
        tracing::warn!(%error, "the store's log was not folded in at close");
    }
}

fn tell(shared: &Shared, scratch: &Scratch) {
    let commit = &scratch.commit;
    if commit.events.is_empty() && commit.ready.is_empty() && commit.next_due.is_none() {
        return;
    }
    let observers = shared.observers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for observer in observers {
        // An observer's fault must not stop every write of the node.
        if catch_unwind(AssertUnwindSafe(|| observer.committed(commit))).is_err() {
            tracing::error!("an observer of the store panicked");
        }
    }
}

/// Runs the jobs in one transaction. An error is for all of them.
fn commit(
    conn: &Connection,
    options: &Options,
    scratch: &mut Scratch,
    jobs: &mut [Job],
) -> Result<(), Error> {
    match attempt(conn, options, scratch, jobs, false) {
        Err(Failed::Before(fault)) if fault.is_of_data() => {
            tracing::debug!(error = %fault, "a write failed for one item, running the batch again with care");
            attempt(conn, options, scratch, jobs, true)
        }
        first => first,
    }
    .map_err(|failed| match failed {
        Failed::Before(fault) => {
            tracing::error!(error = %fault, "the store's transaction failed");
            match Error::from(&fault) {
                corrupt @ Error::Corrupt(_) => corrupt,
                _ => Error::Unavailable(fault.to_string()),
            }
        }
        Failed::Committing(fault) => {
            tracing::error!(error = %fault, "the store's commit failed");
            let text = fault.to_string();
            if fault.leaves_commit_unknown() { Error::Unknown(text) } else { Error::Unavailable(text) }
        }
    })
}

enum Failed {
    /// Nothing was committed.
    Before(Fault),
    /// The commit itself failed.
    Committing(Fault),
}

fn attempt(
    conn: &Connection,
    options: &Options,
    scratch: &mut Scratch,
    jobs: &mut [Job],
    careful: bool,
) -> Result<(), Failed> {
    scratch.clear();
    if careful {
        scratch.recent.clear();
    }
    let now = options.clock.now();
    let run = |scratch: &mut Scratch| {
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut tx = Tx { conn, now, jitter: &*options.jitter, careful, scratch };
        for job in jobs {
            let Job { work, .. } = job;
            let refused =
                tx.isolated(|tx| work.run(tx).map(|()| None), |_, fault| Ok(Some(Error::from(&fault))))?;
            if let Some(error) = refused {
                work.refuse(error);
            }
        }
        add_to_totals(&tx)
    };
    let done = run(scratch).map_err(Failed::Before).and_then(|()| {
        let committed = conn.prepare_cached("COMMIT").and_then(|mut s| s.execute([]));
        committed.map(drop).map_err(|e| Failed::Committing(e.into()))
    });
    if done.is_err() {
        scratch.clear();
        scratch.recent.clear();
        if !conn.is_autocommit()
            && let Err(error) = conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the store's transaction was not rolled back");
        }
    }
    done
}

fn add_to_totals(tx: &Tx<'_>) -> Result<(), Fault> {
    for (state, change) in State::ALL.iter().zip(tx.scratch.totals) {
        if change != 0 {
            tx.sql(ADD_TO_TOTAL)?.execute(params![state.code(), change])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::inbox::{Call, Job};
    use super::super::{Bounds, Inbox, Options, rows, schema};
    use super::*;
    use callboard_ports::SystemClock;
    use tokio::sync::oneshot;

    /// Takes so many bytes of the disk.
    fn fill(inbox: &Inbox, bytes: usize) -> oneshot::Receiver<Result<(), Error>> {
        const SQL: &str = "INSERT INTO task_inputs (input) VALUES (zeroblob(?1))";
        let size = rows::stored(bytes as u64);
        let (call, answer) = Call::new(move |tx: &mut Tx<'_>| {
            tx.scratch.totals[0] += 1;
            tx.sql(SQL)?.execute([size])?;
            Ok(Ok(()))
        });
        inbox.push(Job { work: Box::new(call), rows: 1, bytes: 0, admits: true }).unwrap();
        answer
    }

    #[test]
    fn a_full_disk_fails_what_did_not_fit_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(folder.path().join("store.db"), Arc::new(SystemClock), || 0.5);
        let conn = schema::open_writer(&options.path).unwrap();
        let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        conn.pragma_update(None, "max_page_count", pages + 20).unwrap();
        let shared = Arc::new(Shared {
            inbox: Inbox::new(Bounds { rows: 100, bytes: 100 }),
            observers: Mutex::default(),
            commits: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            batches: Batches::default(),
        });
        let writer = {
            let (options, shared) = (options.clone(), Arc::clone(&shared));
            std::thread::spawn(move || run(conn, &options, shared))
        };
        let small = fill(&shared.inbox, 100).blocking_recv().unwrap();
        let large = fill(&shared.inbox, 1 << 20).blocking_recv().unwrap();
        let after = fill(&shared.inbox, 100).blocking_recv().unwrap();
        shared.inbox.close();
        writer.join().unwrap();
        assert_eq!((small, after), (Ok(()), Ok(())));
        assert!(matches!(large, Err(Error::Unavailable(_))), "{large:?}");
        let conn = schema::open_reader(&options.path).unwrap();
        let count = |sql| conn.query_one(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM task_inputs"), 2);
        assert_eq!(count("SELECT total FROM task_totals WHERE state = 1"), 2, "totals are undone too");
    }
}
