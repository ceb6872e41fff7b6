use super::{duration_to_proto, time_to_proto};
use crate::event::{Event, Happening};
use crate::kind::KindSpec;
use crate::lifecycle::State;
use crate::task::{Progress, Task, TaskError};
use callboard_contracts::v1;

/// A state on the wire.
#[must_use]
pub const fn state_to_proto(state: State) -> v1::TaskState {
    match state {
        State::Scheduled => v1::TaskState::Scheduled,
        State::Queued => v1::TaskState::Queued,
        State::Running => v1::TaskState::Running,
        State::Succeeded => v1::TaskState::Succeeded,
        State::Failed => v1::TaskState::Failed,
        State::Cancelled => v1::TaskState::Cancelled,
    }
}

/// A state from the wire, if it is one.
#[must_use]
pub fn state_from_proto(state: i32) -> Option<State> {
    State::from_code(u8::try_from(state).ok()?)
}

fn progress_to_proto(progress: &Progress) -> v1::TaskProgress {
    v1::TaskProgress { percent: u32::from(progress.percent), message: progress.message.clone() }
}

fn error_to_proto(error: &TaskError) -> v1::TaskError {
    v1::TaskError { reason: error.reason.clone(), message: error.message.clone(), retryable: error.retryable }
}

/// A task on the wire, without input and result.
#[must_use]
pub fn task_to_proto(task: &Task) -> v1::Task {
    let Task { spec, life, .. } = task;
    let text = |t: &Option<std::sync::Arc<str>>| t.as_deref().unwrap_or_default().to_owned();
    v1::Task {
        id: spec.id.to_string(),
        namespace: spec.namespace.to_string(),
        kind: spec.kind.to_string(),
        queue: spec.queue.to_string(),
        priority: u32::from(spec.priority.value()),
        state: state_to_proto(life.state).into(),
        attempt: life.attempt,
        max_attempts: spec.max_attempts,
        failures: life.failures,
        lost: life.lost,
        timeout: Some(duration_to_proto(spec.timeout)),
        run_at: Some(time_to_proto(life.run_at)),
        created_at: Some(time_to_proto(spec.created_at)),
        started_at: task.started_at.map(time_to_proto),
        finished_at: task.finished_at.map(time_to_proto),
        progress: task.progress.as_ref().map(progress_to_proto),
        error: task.error.as_ref().map(error_to_proto),
        cancel_requested: life.cancel_requested,
        retry_of: spec.retry_of.map(|id| id.to_string()).unwrap_or_default(),
        last_seq: life.seq,
        request_id: text(&spec.request_id),
        traceparent: text(&spec.traceparent),
        node: text(&task.node),
        input: bytes::Bytes::new(),
        result: bytes::Bytes::new(),
    }
}

/// An event on the wire.
#[must_use]
pub fn event_to_proto(event: &Event) -> v1::TaskEvent {
    use v1::TaskEventType as Type;
    let (kind, progress, error, run_at) = match &event.what {
        Happening::Submitted { run_at } => (Type::Submitted, None, None, *run_at),
        Happening::Due => (Type::Due, None, None, None),
        Happening::Claimed { .. } => (Type::Claimed, None, None, None),
        Happening::Started { .. } => (Type::Started, None, None, None),
        Happening::Progressed(progress) => (Type::Progressed, Some(progress), None, None),
        Happening::AttemptFailed { error, run_at } => (Type::AttemptFailed, None, Some(error), Some(*run_at)),
        Happening::Lost { run_at, .. } => (Type::Lost, None, None, *run_at),
        Happening::Returned => (Type::Returned, None, None, None),
        Happening::CancelRequested => (Type::CancelRequested, None, None, None),
        Happening::Succeeded => (Type::Succeeded, None, None, None),
        Happening::Failed { error, .. } => (Type::Failed, None, Some(error), None),
        Happening::Cancelled => (Type::Cancelled, None, None, None),
    };
    v1::TaskEvent {
        task_id: event.task_id.to_string(),
        seq: event.seq,
        at: Some(time_to_proto(event.at)),
        r#type: kind.into(),
        state: state_to_proto(event.state).into(),
        attempt: event.attempt,
        node: event.node.as_deref().unwrap_or_default().to_owned(),
        progress: progress.map(progress_to_proto),
        error: error.map(error_to_proto),
        run_at: run_at.map(time_to_proto),
    }
}

/// A kind on the wire.
#[must_use]
pub fn kind_to_proto(kind: &KindSpec) -> v1::Kind {
    v1::Kind {
        name: kind.name.clone(),
        version: kind.version,
        description: kind.description.clone(),
        input_schema: kind.input_schema.clone(),
        result_schema: kind.result_schema.clone(),
        example_input: kind.example_input.clone(),
        queue: kind.queue.clone(),
        timeout: Some(duration_to_proto(kind.timeout)),
        max_attempts: kind.max_attempts,
    }
}
