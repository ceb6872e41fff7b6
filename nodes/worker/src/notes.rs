//! What runners note in memory, written by a loop in batches: starts and progress.

use crate::engine::Engine;
use callboard_domain::{Attempt, Progress, TaskId, limits};
use callboard_ports::store::{ProgressReport, Started};
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

/// Starts that are not written yet.
#[derive(Default)]
pub(crate) struct Starts {
    waiting: Mutex<HashMap<TaskId, Started>>,
    some: Notify,
}

impl Starts {
    pub(crate) fn note(&self, started: Started) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(started.attempt.task_id, started);
        if waiting.len() == 1 {
            self.some.notify_one();
        }
    }

    /// The attempt has ended: what ends it says that it started.
    pub(crate) fn forget(&self, id: TaskId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn take(&self) -> Vec<Started> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain().map(|(_, started)| started).collect()
    }
}

/// Writes starts as they come.
pub(crate) async fn write_starts(engine: Arc<Engine>, life: CancellationToken) {
    let work = async {
        loop {
            engine.starts.some.notified().await;
            tokio::time::sleep(START_AFTER).await;
            let batch = engine.starts.take();
            let Some(session) = engine.session() else { continue };
            if !batch.is_empty()
                && let Err(error) = engine.deps.store.start(session, batch).await
            {
                // The end of each attempt says it again.
                tracing::warn!(%error, "cannot write starts");
            }
        }
    };
    life.run_until_cancelled(work).await;
}

/// Progress that is not written yet.
#[derive(Default)]
pub(crate) struct Progresses {
    waiting: Mutex<HashMap<Attempt, Vec<Progress>>>,
    some: Notify,
}

impl Progresses {
    fn note(&self, attempt: Attempt, progress: Progress) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let reports = waiting.entry(attempt).or_default();
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
        reports(attempt, waiting.remove(&attempt).unwrap_or_default())
    }

    fn take_all(&self) -> Vec<ProgressReport> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain().flat_map(|(attempt, list)| reports(attempt, list)).collect()
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
            let batch = engine.progresses.take_all();
            let Some(session) = engine.session() else { continue };
            if !batch.is_empty()
                && let Err(error) = engine.deps.store.progress(session, batch).await
            {
                tracing::warn!(%error, "cannot write progress");
            }
        }
    };
    life.run_until_cancelled(work).await;
}

/// Where one attempt's progress goes.
pub(crate) struct Sink {
    engine: Arc<Engine>,
    attempt: Attempt,
    reported: AtomicU32,
}

impl Sink {
    pub(crate) fn new(engine: Arc<Engine>, attempt: Attempt) -> Self {
        Self { engine, attempt, reported: AtomicU32::new(0) }
    }
}

impl ProgressSink for Sink {
    fn report(&self, progress: Progress) {
        // A handler in a loop must not fill the log.
        if self.reported.fetch_add(1, Ordering::Relaxed) < limits::PROGRESS_EVENTS {
            self.engine.progresses.note(self.attempt, progress);
        }
    }
}
