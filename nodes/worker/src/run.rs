//! One attempt, from its claim to its end.

use crate::claims::Hold;
use crate::engine::Engine;
use crate::notes::Sink;
use bytes::Bytes;
use callboard_domain::{Outcome, RetryPolicy, SessionId, TaskError, Timestamp, limits};
use callboard_ports::store::{self, Claimed, Fenced, Finish, Started};
use callboard_sdk::{Failure, Parts, TaskContext};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio::time::Instant;

/// A claim that has not started by then is given back.
const START_WITHIN: Duration = Duration::from_millis(100);

/// How a handler came out.
enum End {
    Succeeded(Bytes),
    Failed(Failure),
    /// It stopped, or was stopped, because a cancel was asked for.
    Cancelled,
    /// The node stops: somebody else shall run it.
    GivenBack,
}

pub(crate) async fn run(engine: Arc<Engine>, session: SessionId, claimed: Claimed, hold: Hold) {
    let Some(permits) = slot(&engine, &claimed, &hold).await else {
        return give_back(&engine, session, &hold).await;
    };
    let started_at = engine.deps.clock.now();
    if !note_start(&engine, session, &claimed, &hold, started_at).await {
        return;
    }
    let began = Instant::now();
    let end = handle(&engine, claimed, &hold).await;
    engine.pace.ran(began.elapsed());
    engine.starts.forget(hold.attempt.task_id);
    drop(permits);
    match end {
        End::GivenBack => give_back(&engine, session, &hold).await,
        end => finish(&engine, session, &hold, started_at, end).await,
    }
}

/// A slot, if there is one in time; and for a suspect the one place for suspects.
async fn slot(
    engine: &Engine,
    claimed: &Claimed,
    hold: &Hold,
) -> Option<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)> {
    let slots = Arc::clone(&engine.slots);
    let suspect = claimed.task.life.is_suspect();
    if !suspect && let Ok(permit) = Arc::clone(&slots).try_acquire_owned() {
        return Some((permit, None));
    }
    let alone = Arc::clone(&engine.alone);
    let waiting = async {
        let alone = if suspect { Some(Semaphore::acquire_owned(alone).await.ok()?) } else { None };
        Some((slots.acquire_owned().await.ok()?, alone))
    };
    let permits = tokio::select! {
        permits = tokio::time::timeout(START_WITHIN, waiting) => permits.ok().flatten(),
        () = hold.cancel.cancelled() => return None,
        () = engine.stop.cancelled() => return None,
    };
    if permits.is_none() {
        engine.pace.stalled();
    }
    permits
}

/// Notes the start. Where an earlier attempt did not end by itself, the task may be what ended its node:
/// then its start must be written before it runs, so that its next loss counts. Returns whether to run.
async fn note_start(
    engine: &Engine,
    session: SessionId,
    claimed: &Claimed,
    hold: &Hold,
    at: Timestamp,
) -> bool {
    let started = Started { attempt: hold.attempt, at };
    let life = &claimed.task.life;
    if life.attempt <= life.failures + 1 {
        engine.starts.note(started);
        return true;
    }
    match engine.deps.store.start(session, vec![started]).await {
        Ok(outcome) => matches!(outcome[..], [Fenced::Recorded(_) | Fenced::AlreadyRecorded(_)]),
        Err(error) => {
            // The hold is dropped, so the reconcile loop gives the attempt back.
            tracing::warn!(%error, task.id = %hold.attempt.task_id, "cannot write a start");
            false
        }
    }
}

async fn handle(engine: &Arc<Engine>, claimed: Claimed, hold: &Hold) -> End {
    let Claimed { task, input } = claimed;
    let Some(entry) = engine.deps.registry.get(&task.spec.kind) else {
        // The claim checked it.
        return End::GivenBack;
    };
    let deadline = Instant::now() + task.spec.timeout;
    let context = TaskContext::new(Parts {
        task_id: task.spec.id,
        kind: Arc::clone(&task.spec.kind),
        attempt: task.life.attempt,
        failures: task.life.failures,
        deadline,
        cancelled: hold.cancel.clone(),
        llm: Arc::clone(&engine.deps.llm),
        artifacts: Arc::clone(&engine.deps.artifacts),
        progress: Arc::new(Sink::new(Arc::clone(engine), hold.attempt)),
    });
    let handler = Arc::clone(&entry.handler);
    // A task of its own: a handler that blocks its thread does not keep the deadline from passing.
    let job = async move { AssertUnwindSafe(handler.run(&context, input)).catch_unwind().await };
    let mut job = engine.deps.tracker.spawn(job);
    let _abort = AbortOnDrop(job.abort_handle());
    tokio::select! {
        biased;
        ended = &mut job => ended_by_itself(ended),
        () = hold.cancel.cancelled() => after_cancel(engine, &mut job, deadline).await,
        () = engine.stop.cancelled() => End::GivenBack,
        () = tokio::time::sleep_until(deadline) => End::Failed(timed_out(task.spec.timeout)),
    }
}

/// What a handler returned, or what its panic said.
type Handled = Result<Result<Bytes, Failure>, Box<dyn std::any::Any + Send>>;

fn ended_by_itself(ended: Result<Handled, JoinError>) -> End {
    match ended {
        Ok(Ok(Ok(result))) if result.len() > limits::RESULT_BYTES => {
            let message = format!(
                "the result has {} bytes, {} are allowed: store it as an artifact and return its digest",
                result.len(),
                limits::RESULT_BYTES
            );
            End::Failed(Failure::permanent(message).reason("RESULT_TOO_LARGE"))
        }
        Ok(Ok(Ok(result))) => End::Succeeded(result),
        Ok(Ok(Err(failure))) => End::Failed(failure),
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            End::Failed(Failure::retryable(format!("the handler panicked: {text}")).reason("PANIC"))
        }
        Err(_) => End::GivenBack,
    }
}

/// The handler has a grace to stop. What it finishes within it counts.
async fn after_cancel(engine: &Engine, job: &mut JoinHandle<Handled>, deadline: Instant) -> End {
    let until = deadline.min(Instant::now() + engine.options.cancel_grace);
    let ended = tokio::select! {
        ended = tokio::time::timeout_at(until, job) => ended,
        () = engine.stop.cancelled() => return End::Cancelled,
    };
    match ended.map(ended_by_itself) {
        Ok(End::Succeeded(result)) => End::Succeeded(result),
        _ => End::Cancelled,
    }
}

fn timed_out(timeout: Duration) -> Failure {
    Failure::retryable(format!("the attempt took longer than its timeout of {timeout:?}")).reason("TIMEOUT")
}

async fn finish(engine: &Engine, session: SessionId, hold: &Hold, started_at: Timestamp, end: End) {
    let (outcome, result) = match end {
        End::Succeeded(result) => (Outcome::Succeeded, Some(result)),
        End::Failed(Failure { error, retry_after }) => {
            let error = TaskError::new(error.reason, error.message, error.retryable);
            let policy = RetryPolicy::default();
            (Outcome::Failed { error, policy, retry_after, jitter: (engine.deps.jitter)() }, None)
        }
        End::Cancelled | End::GivenBack => (Outcome::Cancelled, None),
    };
    let finish = Finish { attempt: hold.attempt, started_at: Some(started_at), outcome, result };
    let reports = engine.progresses.take(hold.attempt);
    let mut pause = Duration::from_millis(20);
    loop {
        // The store writes in the order it is asked: progress goes before the end of its attempt.
        let progress = async {
            if !reports.is_empty() {
                return engine.deps.store.progress(session, reports.clone()).await.map(drop);
            }
            Ok(())
        };
        let (_, outcome) = futures::join!(progress, engine.deps.store.finish(session, vec![finish.clone()]));
        match outcome {
            Ok(fenced) => return log_stale(&fenced, hold),
            Err(store::Error::SessionEnded) => {
                (engine.deps.on_session_ended)(session);
                return log_stale(&[Fenced::Stale], hold);
            }
            // The result is held until the store takes it. The claim is too, so no more than the worker's
            // bound are.
            Err(error) => {
                tracing::warn!(%error, task.id = %hold.attempt.task_id, "cannot record a result yet")
            }
        }
        if engine.stop.is_cancelled() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn log_stale(fenced: &[Fenced], hold: &Hold) {
    if matches!(fenced, [Fenced::Stale]) {
        let (task, attempt) = (hold.attempt.task_id, hold.attempt.number);
        tracing::warn!(task.id = %task, attempt, "a result was dropped: another attempt holds the task");
    }
}

async fn give_back(engine: &Engine, session: SessionId, hold: &Hold) {
    if let Err(error) = engine.deps.store.give_back(session, vec![hold.attempt]).await {
        // The hold is dropped, so the reconcile loop tries again.
        tracing::warn!(%error, task.id = %hold.attempt.task_id, "cannot give an attempt back yet");
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
