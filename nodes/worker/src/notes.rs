//! What runners note in memory, written by a loop in batches: starts and progress.

use crate::engine::Engine;
use callboard_domain::{Attempt, Progress, SessionId, TaskId, limits};
use callboard_ports::store::{Error, ProgressReport, Started};
use callboard_sdk::ProgressSink;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, (SessionId, Started)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, session: SessionId, started: Started) {
        self.lock().insert(started.attempt.task_id, (session, started));
        self.some.notify_one();
    }

    /// The attempt has ended: what ends it says that it started.
    pub(crate) fn forget(&self, id: TaskId) {
        self.lock().remove(&id);
    }

    /// Waits until there are some. What was told of and not taken is told of again, be it that there was no
    /// session or that whoever was told is gone.
    async fn some(&self) {
        while self.lock().is_empty() {
            self.some.notified().await;
        }
    }

    /// All that wait and belong to a session. The others' attempts are over.
    fn take(&self, session: SessionId) -> Vec<Started> {
        let mut waiting = self.lock();
        waiting.drain().filter_map(|(_, (of, started))| (of == session).then_some(started)).collect()
    }
}

/// Writes starts as they come.
pub(crate) async fn write_starts(engine: Arc<Engine>, life: CancellationToken) {
    loop {
        let ready = async {
            engine.starts.some().await;
            tokio::time::sleep(START_AFTER).await;
            engine.session_soon().await
        };
        // What is taken is written, whatever becomes of the actor meanwhile.
        let Some(Some(session)) = life.run_until_cancelled(ready).await else { return };
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
            for started in batch.into_iter().filter(|started| engine.claims.holds(started.attempt)) {
                engine.starts.note(session, started);
            }
            life.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
}

/// Progress that is not written yet, with the session of each attempt.
#[derive(Default)]
pub(crate) struct Progresses {
    waiting: Mutex<HashMap<Attempt, (SessionId, Vec<Progress>)>>,
    some: Notify,
}

impl Progresses {
    fn lock(&self) -> MutexGuard<'_, HashMap<Attempt, (SessionId, Vec<Progress>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, session: SessionId, attempt: Attempt, progress: Progress) {
        let mut waiting = self.lock();
        let (_, reports) = waiting.entry(attempt).or_insert_with(|| (session, Vec::new()));
        if reports.len() == REPORTS {
            reports.pop();
        }
        reports.push(progress);
        drop(waiting);
        self.some.notify_one();
    }

    /// Waits until there is some, as [`Starts::some`] does.
    async fn some(&self) {
        while self.lock().is_empty() {
            self.some.notified().await;
        }
    }

    /// What waits of one attempt, to be written right before its end.
    pub(crate) fn take(&self, attempt: Attempt) -> Vec<ProgressReport> {
        let mut waiting = self.lock();
        if waiting.is_empty() {
            return Vec::new();
        }
        waiting.remove(&attempt).map(|(_, list)| reports(attempt, list)).unwrap_or_default()
    }

    /// All that wait and belong to a session. The others' attempts are over.
    fn take_all(&self, session: SessionId) -> Vec<ProgressReport> {
        let mut waiting = self.lock();
        let current = waiting.drain().filter(|(_, (of, _))| *of == session);
        current.flat_map(|(attempt, (_, list))| reports(attempt, list)).collect()
    }
}

fn reports(attempt: Attempt, list: Vec<Progress>) -> Vec<ProgressReport> {
    list.into_iter().map(|progress| ProgressReport { attempt, progress }).collect()
}

/// Writes progress as it comes; what comes while a write is under way forms the next batch.
pub(crate) async fn write_progress(engine: Arc<Engine>, life: CancellationToken) {
    loop {
        let ready = async {
            engine.progresses.some().await;
            engine.session_soon().await
        };
        let Some(Some(session)) = life.run_until_cancelled(ready).await else { return };
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

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::Timestamp;
    use futures::FutureExt as _;

    const SESSION: SessionId = SessionId::from_bytes([7; 16]);

    fn attempt(n: u8) -> Attempt {
        Attempt { task_id: TaskId::from_bytes([n; 16]), number: 1 }
    }

    fn started(n: u8) -> Started {
        Started { attempt: attempt(n), at: Timestamp::default() }
    }

    #[test]
    fn starts_whose_news_was_lost_are_told_of_again() {
        let starts = Starts::default();
        assert!(starts.some().now_or_never().is_none());
        starts.note(SESSION, started(1));
        assert!(starts.some().now_or_never().is_some());
        // Whoever was told is gone: nothing was taken. Another start comes, or none.
        assert!(starts.some().now_or_never().is_some());
        starts.note(SESSION, started(2));
        assert!(starts.some().now_or_never().is_some());
        assert_eq!(starts.take(SESSION).len(), 2);
        assert!(starts.some().now_or_never().is_none());
        starts.note(SESSION, started(3));
        starts.forget(started(3).attempt.task_id);
        assert!(starts.some().now_or_never().is_none());
    }

    #[test]
    fn progress_whose_news_was_lost_is_told_of_again() {
        let progresses = Progresses::default();
        let half = Progress { percent: 50, message: String::new() };
        progresses.note(SESSION, attempt(1), half);
        assert!(progresses.some().now_or_never().is_some());
        assert!(progresses.some().now_or_never().is_some());
        assert_eq!(progresses.take_all(SESSION).len(), 1);
        assert!(progresses.some().now_or_never().is_none());
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let starts = Arc::new(Starts::default());
        let waits = starts.some();
        let (_, ()) = futures::join!(waits, async { starts.note(SESSION, started(1)) });
    }
}
