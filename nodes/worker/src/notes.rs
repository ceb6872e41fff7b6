//! What runners note in memory, written by a loop in batches: starts and progress.

use crate::engine::Engine;
use callboard_domain::{Attempt, Progress, SessionId, TaskId, limits};
use callboard_ports::store::{Error, ProgressReport, Started};
use callboard_sdk::ProgressSink;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A start is written once the attempt has outlasted this: most tiny ones end before, and their end says
/// that they started.
const START_AFTER: Duration = Duration::from_millis(20);
/// The most reports of one task that wait for one write; beyond, the newest replaces the one before it.
const REPORTS: usize = 16;

/// The wait before starts that could not be written are tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts that are not written yet, with the session of each.
#[derive(Default)]
pub(crate) struct Starts {
    waiting: Mutex<HashMap<TaskId, (SessionId, Started)>>,
    some: Notify,
}

impl Starts {
    pub(crate) fn note(&self, session: SessionId, started: Started) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(started.attempt.task_id, (session, started));
        if waiting.len() == 1 {
            self.some.notify_one();
        }
    }

    /// The attempt has ended: what ends it says that it started.
    pub(crate) fn forget(&self, id: TaskId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// All that wait and belong to a session. The others' attempts are over.
    fn take(&self, session: SessionId) -> Vec<Started> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain().filter_map(|(_, (of, started))| (of == session).then_some(started)).collect()
    }
}

/// Writes starts as they come.
pub(crate) async fn write_starts(engine: Arc<Engine>, life: CancellationToken) {
    let work = async {
        loop {
            engine.starts.some.notified().await;
            tokio::time::sleep(START_AFTER).await;
            let Some(session) = engine.session() else { continue };
            let batch = engine.starts.take(session);
            if batch.is_empty() {
                continue;
            }
            let answer = engine.deps.store.start(session, batch.clone()).await;
            engine.heard(&answer);
            let Err(error) = answer else { continue };
            tracing::warn!(%error, "cannot write starts");
            if matches!(error, Error::Unavailable(_) | Error::Unknown(_) | Error::Overloaded) {
                // What ends before is said by its end; for the others, a loss counts once this is written.
                tokio::time::sleep(PAUSE).await;
                for started in batch.into_iter().filter(|started| engine.claims.holds(started.attempt)) {
                    engine.starts.note(session, started);
                }
            }
        }
    };
    life.run_until_cancelled(work).await;
}

/// Progress that is not written yet, with the session of each attempt.
#[derive(Default)]
pub(crate) struct Progresses {
    waiting: Mutex<HashMap<Attempt, (SessionId, Vec<Progress>)>>,
    some: Notify,
}

impl Progresses {
    fn note(&self, session: SessionId, attempt: Attempt, progress: Progress) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, reports) = waiting.entry(attempt).or_insert_with(|| (session, Vec::new()));
        if reports.len() == REPORTS {
            reports.pop();
        }
        reports.push(progress);
        drop(waiting);
        self.some.notify_one();
    }

    /// What waits of one attempt, to be written right before its end.
    pub(crate) fn take(&self, attempt: Attempt) -> Vec<ProgressReport> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return Vec::new();
        }
        waiting.remove(&attempt).map(|(_, list)| reports(attempt, list)).unwrap_or_default()
    }

    /// All that wait and belong to a session. The others' attempts are over.
    fn take_all(&self, session: SessionId) -> Vec<ProgressReport> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let current = waiting.drain().filter(|(_, (of, _))| *of == session);
        current.flat_map(|(attempt, (_, list))| reports(attempt, list)).collect()
    }
}

fn reports(attempt: Attempt, list: Vec<Progress>) -> Vec<ProgressReport> {
    list.into_iter().map(|progress| ProgressReport { attempt, progress }).collect()
}

/// Writes progress as it comes; what comes while a write is under way forms the next batch.
pub(crate) async fn write_progress(engine: Arc<Engine>, life: CancellationToken) {
    let work = async {
        loop {
            engine.progresses.some.notified().await;
            let Some(session) = engine.session() else { continue };
            let batch = engine.progresses.take_all(session);
            if batch.is_empty() {
                continue;
            }
            let answer = engine.deps.store.progress(session, batch).await;
            engine.heard(&answer);
            if let Err(error) = answer {
                tracing::warn!(%error, "cannot write progress");
            }
        }
    };
    life.run_until_cancelled(work).await;
}

/// Where one attempt's progress goes.
pub(crate) struct Sink {
    engine: Arc<Engine>,
    session: SessionId,
    attempt: Attempt,
    reported: AtomicU32,
}

impl Sink {
    pub(crate) fn new(engine: Arc<Engine>, session: SessionId, attempt: Attempt) -> Self {
        Self { engine, session, attempt, reported: AtomicU32::new(0) }
    }
}

impl ProgressSink for Sink {
    fn report(&self, progress: Progress) {
        // A handler in a loop must not fill the log.
        if self.reported.fetch_add(1, Ordering::Relaxed) < limits::PROGRESS_EVENTS {
            self.engine.progresses.note(self.session, self.attempt, progress);
        }
    }
}
