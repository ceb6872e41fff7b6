//! One attempt, from its claim to its end.

use crate::claims::Hold;
use crate::engine::{Engine, WaitingResult};
use crate::notes::Sink;
use crate::stats::Ended;
use bytes::Bytes;
use callboard_contracts::mesh::v1;
use callboard_domain::{
    Attempt, Outcome, RetryPolicy, SessionId, Task, TaskError, Timestamp, TraceContext, limits,
};
use callboard_ports::store::{self, Claimed, Fenced, Finish, ProgressReport, Started};
use callboard_ports::trace::{Kind, Span};
use callboard_runtime::mesh;
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

/// The first wait before a result is offered to the store again; it doubles.
const RETRY: Duration = Duration::from_millis(20);
/// The longest such wait.
const RETRY_CAP: Duration = Duration::from_secs(1);

/// How an attempt came out, in its span.
const OUTCOME: &str = "callboard.outcome";

/// How a handler came out.
enum End {
    Succeeded(Bytes),
    Failed(Failure),
    /// It stopped, or was stopped, because a cancel was asked for.
    Cancelled,
    /// The node stops: somebody else shall run it.
    GivenBack,
    /// The attempt is this node's no more: nothing of it is written.
    Lost,
}

/// Runs an attempt. What it calls, and what is logged meanwhile, is named as the attempt's.
pub(crate) async fn run(engine: Arc<Engine>, claimed: Claimed, hold: Hold, sent: Option<TraceContext>) {
    let span = begin(&engine, &claimed, &hold, sent);
    let cause = cause(&hold, &claimed.task, span.context());
    cause.scope(attempt(engine, claimed, hold, span)).await;
}

async fn attempt(engine: Arc<Engine>, claimed: Claimed, hold: Hold, mut span: Span) {
    tracing::debug!(kind = %claimed.task.spec.kind, "an attempt starts");
    let Some(permits) = slot(&engine, &claimed, &hold).await else {
        span.set(OUTCOME, Ended::Returned.name());
        engine.stats.ended(&claimed.task.spec.kind, Ended::Returned, None);
        return give_back(&engine, &hold).await;
    };
    let started_at = engine.deps.clock.now();
    if !note_start(&engine, &claimed, &hold, started_at).await {
        return;
    }
    let (queue, kind) = (Arc::clone(&claimed.task.spec.queue), Arc::clone(&claimed.task.spec.kind));
    let began = Instant::now();
    let end = handle(&engine, claimed, &hold).await;
    let took = began.elapsed();
    engine.pace.ran(took);
    (engine.cluster.on_run_time)(&queue, took);
    engine.starts.forget(hold.attempt.task_id);
    drop(permits);
    engine.stats.ended(&kind, outcome(&end), Some(took));
    came_out(&mut span, &end);
    match end {
        End::GivenBack => give_back(&engine, &hold).await,
        End::Lost => drop(engine.progresses.take(hold.attempt)),
        end => {
            let recorded = engine.deps.tracer.start(|| "record", Kind::Internal, Some(span.context()));
            finish(&engine, &hold, started_at, end).await;
            recorded.end();
        }
    }
}

/// The span of an attempt: a task of its queue that is processed, and that came in the message `sent`. Attempts of
/// one task stand side by side.
fn begin(engine: &Engine, claimed: &Claimed, hold: &Hold, sent: Option<TraceContext>) -> Span {
    let (spec, Attempt { task_id, number }) = (&claimed.task.spec, hold.attempt);
    let task = spec.traceparent.as_deref().and_then(|text| text.parse::<TraceContext>().ok());
    // Admitted by an older version, it has none: its id serves as its trace's, the same for each attempt.
    let own = || TraceContext::root(u128::from_be_bytes(*task_id.as_bytes()), 1);
    let cause = Some(task.unwrap_or_else(own));
    let mut span = engine.deps.tracer.start(|| format!("process {}", spec.queue), Kind::Consumer, cause);
    span.set("messaging.system", "callboard");
    span.set("messaging.operation.name", "process");
    span.set("messaging.operation.type", "process");
    span.set_with("messaging.destination.name", || spec.queue.to_string());
    span.set_with("messaging.message.id", || task_id.to_string());
    span.set_with("callboard.task.kind", || spec.kind.to_string());
    span.set("callboard.attempt", number);
    sent.into_iter().for_each(|sent| span.link(sent));
    span.set_with("callboard.node", || engine.options.node.to_string());
    span
}

const fn outcome(end: &End) -> Ended {
    match end {
        End::Succeeded(_) => Ended::Succeeded,
        End::Failed(_) => Ended::Failed,
        End::Cancelled => Ended::Cancelled,
        End::GivenBack => Ended::Returned,
        End::Lost => Ended::Lost,
    }
}

fn came_out(span: &mut Span, end: &End) {
    let outcome = outcome(end).name();
    span.set(OUTCOME, outcome);
    let error = if let End::Failed(failure) = end { Some(failure.error.reason.as_str()) } else { None };
    tracing::debug!(outcome, error.type = error, "an attempt has ended");
    if let End::Failed(failure) = end {
        span.set_with("error.type", || failure.error.reason.clone());
        span.fail(|| failure.error.message.clone());
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
        // Also set when the attempt is lost.
        () = hold.cancel.cancelled() => return None,
        () = engine.stop.cancelled() => return None,
    };
    if permits.is_none() {
        engine.pace.stalled();
    }
    permits
}

/// Notes the start. Where an earlier attempt did not end by itself, the task may be what ended its node, even
/// before that start was written: then this one must be written before it runs, so that its next loss counts.
/// Returns whether to run.
async fn note_start(engine: &Engine, claimed: &Claimed, hold: &Hold, at: Timestamp) -> bool {
    let started = Started { attempt: hold.attempt, at };
    let life = &claimed.task.life;
    if life.attempt <= life.failures + 1 {
        engine.starts.note(hold.session, started);
        return true;
    }
    let answer = engine.deps.store.start(hold.session, vec![started]).await;
    engine.heard(&answer);
    match answer {
        Ok(outcome) => matches!(outcome[..], [Fenced::Recorded(_) | Fenced::AlreadyRecorded(_)]),
        Err(error) => {
            // The hold is dropped, so the reconcile loop gives the attempt back.
            tracing::warn!(%error, "cannot write a start");
            engine.look.notify_one();
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
        progress: Arc::new(Sink::new(Arc::clone(engine), hold.session, hold.attempt)),
    });
    let handler = Arc::clone(&entry.handler);
    let job = async move { AssertUnwindSafe(handler.run(&context, input)).catch_unwind().await };
    // A task of its own: a handler that blocks its thread does not keep the deadline from passing.
    let mut job = engine.deps.tracker.spawn(mesh::current().scope(job));
    let _abort = AbortOnDrop(job.abort_handle());
    tokio::select! {
        biased;
        () = hold.lost.cancelled() => End::Lost,
        ended = &mut job => ended_by_itself(ended),
        () = hold.cancel.cancelled() => after_cancel(engine, hold, &mut job, deadline).await,
        () = engine.stop.cancelled() => End::GivenBack,
        () = tokio::time::sleep_until(deadline) => End::Failed(timed_out(task.spec.timeout)),
    }
}

/// What the calls of an attempt carry: its span in the trace of its task, its namespace, and the attempt as their fence. The
/// request that caused them is the attempt, named `task/attempt`.
fn cause(hold: &Hold, task: &Task, place: TraceContext) -> mesh::Context {
    let Attempt { task_id, number } = hold.attempt;
    mesh::Context {
        request_id: format!("{task_id}/{number}"),
        traceparent: Some(place.to_string()),
        tracestate: None,
        fence: Some(v1::Fence {
            session_id: hold.session.to_string(),
            task_id: task_id.to_string(),
            attempt: number,
        }),
        namespace: task.spec.namespace.as_ref().into(),
        kind: task.spec.kind.as_ref().into(),
        failures: task.life.failures,
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
async fn after_cancel(engine: &Engine, hold: &Hold, job: &mut JoinHandle<Handled>, deadline: Instant) -> End {
    let until = deadline.min(Instant::now() + engine.options.cancel_grace);
    let ended = tokio::select! {
        biased;
        () = hold.lost.cancelled() => return End::Lost,
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

/// Records how an attempt ended. The result is held, and with it the claim, until the store has taken or
/// refused it: an answer that got lost is asked for again, and the store knows what it has recorded.
async fn finish(engine: &Engine, hold: &Hold, started_at: Timestamp, end: End) {
    let finish = Finish { started_at: Some(started_at), ..finish_of(engine, hold, end) };
    let reports = engine.progresses.take(hold.attempt);
    let mut waiting: Option<WaitingResult<'_>> = None;
    let mut pause = RETRY;
    loop {
        match record(engine, hold.session, &reports, &finish).await {
            Ok(fenced) => return log_stale(engine, &fenced),
            Err(store::Error::SessionEnded) => {
                engine.session_ended(hold.session);
                return log_stale(engine, &[Fenced::Stale]);
            }
            Err(error) => {
                waiting.get_or_insert_with(|| {
                    tracing::warn!(%error, "cannot record a result yet");
                    engine.results.one(finish.result.as_ref().map_or(0, Bytes::len))
                });
            }
        }
        if engine.stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = engine.stop.cancelled() => {}
            () = hold.lost.cancelled() => return log_stale(engine, &[Fenced::Stale]),
        }
        pause = (pause * 2).min(RETRY_CAP);
    }
}

fn finish_of(engine: &Engine, hold: &Hold, end: End) -> Finish {
    let (outcome, result) = match end {
        End::Succeeded(result) => (Outcome::Succeeded, Some(result)),
        End::Failed(Failure { error, retry_after }) => {
            let error = TaskError::new(error.reason, error.message, error.retryable);
            let policy = RetryPolicy::default();
            (Outcome::Failed { error, policy, retry_after, jitter: (engine.deps.jitter)() }, None)
        }
        End::Cancelled | End::GivenBack | End::Lost => (Outcome::Cancelled, None),
    };
    Finish { attempt: hold.attempt, started_at: None, outcome, result }
}

async fn record(
    engine: &Engine,
    session: SessionId,
    reports: &[ProgressReport],
    finish: &Finish,
) -> Result<Vec<Fenced>, store::Error> {
    let store = &engine.deps.store;
    // The store writes in the order it is asked: progress goes before the end of its attempt.
    let progress = async {
        if !reports.is_empty() {
            return store.progress(session, reports.to_vec()).await.map(drop);
        }
        Ok(())
    };
    let (_, answer) = futures::join!(progress, store.finish(session, vec![finish.clone()]));
    engine.heard(&answer);
    answer
}

fn log_stale(engine: &Engine, fenced: &[Fenced]) {
    if matches!(fenced, [Fenced::Stale]) {
        engine.stats.stale.one();
        tracing::warn!("a result was dropped: another attempt holds the task");
    }
}

async fn give_back(engine: &Engine, hold: &Hold) {
    if hold.lost.is_cancelled() {
        return;
    }
    let answer = engine.deps.store.give_back(hold.session, vec![hold.attempt]).await;
    engine.heard(&answer);
    match answer {
        Ok(_) => {}
        Err(store::Error::SessionEnded) => engine.session_ended(hold.session),
        Err(error) => {
            // The hold is dropped, so the reconcile loop tries again.
            tracing::warn!(%error, "cannot give an attempt back yet");
            engine.look.notify_one();
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
