//! Tasks and their events, and what became of a batch.

use super::{raw, seconds, set, time};
use crate::cli::output::style::{event, state};
use callboard_client::{Error, v1};
use serde::Serialize;
use serde_json::value::RawValue;

/// Why an attempt or a task failed.
#[derive(Serialize)]
struct TaskError<'a> {
    reason: &'a str,
    message: &'a str,
    retryable: bool,
}

impl<'a> From<&'a v1::TaskError> for TaskError<'a> {
    fn from(error: &'a v1::TaskError) -> Self {
        Self { reason: &error.reason, message: &error.message, retryable: error.retryable }
    }
}

/// How far an attempt has come.
#[derive(Serialize)]
struct Progress<'a> {
    percent: u32,
    message: &'a str,
}

impl<'a> From<&'a v1::TaskProgress> for Progress<'a> {
    fn from(progress: &'a v1::TaskProgress) -> Self {
        Self { percent: progress.percent, message: &progress.message }
    }
}

/// A task.
#[derive(Serialize)]
pub struct Task<'a> {
    id: &'a str,
    namespace: &'a str,
    kind: &'a str,
    queue: &'a str,
    priority: u32,
    state: String,
    attempt: u32,
    max_attempts: u32,
    failures: u32,
    lost: u32,
    timeout_seconds: Option<f64>,
    run_at: Option<String>,
    created_at: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    progress: Option<Progress<'a>>,
    error: Option<TaskError<'a>>,
    cancel_requested: bool,
    retry_of: Option<&'a str>,
    last_seq: u64,
    request_id: Option<&'a str>,
    traceparent: Option<&'a str>,
    node: Option<&'a str>,
    input: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
}

impl<'a> From<&'a v1::Task> for Task<'a> {
    fn from(task: &'a v1::Task) -> Self {
        Self {
            id: &task.id,
            namespace: &task.namespace,
            kind: &task.kind,
            queue: &task.queue,
            priority: task.priority,
            state: state(task.state),
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            failures: task.failures,
            lost: task.lost,
            timeout_seconds: seconds(task.timeout.as_ref()),
            run_at: time(task.run_at.as_ref()),
            created_at: time(task.created_at.as_ref()),
            started_at: time(task.started_at.as_ref()),
            finished_at: time(task.finished_at.as_ref()),
            progress: task.progress.as_ref().map(Into::into),
            error: task.error.as_ref().map(Into::into),
            cancel_requested: task.cancel_requested,
            retry_of: set(&task.retry_of),
            last_seq: task.last_seq,
            request_id: set(&task.request_id),
            traceparent: set(&task.traceparent),
            node: set(&task.node),
            input: raw(&task.input),
            result: raw(&task.result),
        }
    }
}

/// An event of a task.
#[derive(Serialize)]
pub struct Event<'a> {
    task_id: &'a str,
    seq: u64,
    at: Option<String>,
    r#type: String,
    state: String,
    attempt: u32,
    node: Option<&'a str>,
    progress: Option<Progress<'a>>,
    error: Option<TaskError<'a>>,
    run_at: Option<String>,
}

impl<'a> From<&'a v1::TaskEvent> for Event<'a> {
    fn from(e: &'a v1::TaskEvent) -> Self {
        Self {
            task_id: &e.task_id,
            seq: e.seq,
            at: time(e.at.as_ref()),
            r#type: event(e.r#type),
            state: state(e.state),
            attempt: e.attempt,
            node: set(&e.node),
            progress: e.progress.as_ref().map(Into::into),
            error: e.error.as_ref().map(Into::into),
            run_at: time(e.run_at.as_ref()),
        }
    }
}

/// One line of a watch.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Update<'a> {
    /// The task as it stands.
    Task(Task<'a>),
    /// An event.
    Event(Event<'a>),
}

/// A page of tasks.
#[derive(Serialize)]
pub struct Tasks<'a> {
    tasks: Vec<Task<'a>>,
    next_page_token: &'a str,
}

impl<'a> Tasks<'a> {
    /// Tasks, and where to go on.
    #[must_use]
    pub fn new(tasks: &'a [v1::Task], next_page_token: &'a str) -> Self {
        Self { tasks: tasks.iter().map(Into::into).collect(), next_page_token }
    }
}

/// All events of a task.
#[derive(Serialize)]
pub struct Events<'a> {
    events: Vec<Event<'a>>,
}

impl<'a> From<&'a [v1::TaskEvent]> for Events<'a> {
    fn from(events: &'a [v1::TaskEvent]) -> Self {
        Self { events: events.iter().map(Into::into).collect() }
    }
}

/// A field that is wrong.
#[derive(Serialize)]
struct Violation<'a> {
    field: &'a str,
    description: &'a str,
}

/// Why a call failed.
#[derive(Serialize)]
pub struct Refusal<'a> {
    reason: &'a str,
    message: &'a str,
    field_violations: Vec<Violation<'a>>,
}

impl<'a> From<&'a Error> for Refusal<'a> {
    fn from(error: &'a Error) -> Self {
        let named = error.violations.iter();
        Self {
            reason: &error.reason,
            message: &error.message,
            field_violations: named
                .map(|v| Violation { field: &v.field, description: &v.description })
                .collect(),
        }
    }
}

/// What became of one line of a batch.
#[derive(Serialize)]
pub struct Line<'a> {
    /// The line's number, from 1.
    pub line: u64,
    /// The task's id, if it was submitted.
    pub id: Option<&'a str>,
    /// The task's state, if it was submitted.
    pub state: Option<String>,
    /// Whether it had been submitted before.
    pub existed: bool,
    /// Why it was not.
    pub error: Option<&'a Refusal<'a>>,
}

impl<'a> Line<'a> {
    /// A line that was submitted.
    #[must_use]
    pub fn submitted(line: u64, task: &'a v1::Task, existed: bool) -> Self {
        Self { line, id: Some(&task.id), state: Some(state(task.state)), existed, error: None }
    }

    /// A line that was refused, by the node or by us.
    #[must_use]
    pub fn refused(line: u64, error: &'a Refusal<'a>) -> Self {
        Self { line, id: None, state: None, existed: false, error: Some(error) }
    }
}

/// A line that is no task: told without asking the node.
#[must_use]
pub fn unreadable(message: &str) -> Refusal<'_> {
    Refusal { reason: "UNREADABLE_LINE", message, field_violations: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::json::pretty;
    use crate::cli::output::sample::{events, failed, succeeded};

    fn text(value: &impl Serialize) -> String {
        pretty(&serde_json::to_string(value).unwrap())
    }

    #[test]
    fn a_task_has_every_field_and_its_payloads_as_they_came() {
        let text = text(&Task::from(&succeeded()));
        assert!(text.contains("\"temperature\": 0.70"), "no digit is lost: {text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_not_set_is_null() {
        let value = serde_json::to_value(Task::from(&failed())).unwrap();
        assert_eq!(value["error"]["reason"], "TIMEOUT");
        assert!(value["result"].is_null() && value["node"].is_null() && value["progress"].is_null());
    }

    #[test]
    fn a_line_of_a_watch_says_what_it_is() {
        let event = &events()[3];
        insta::assert_snapshot!(serde_json::to_string(&Update::Event(event.into())).unwrap());
        assert!(serde_json::to_value(Update::Task((&failed()).into())).unwrap()["task"]["id"].is_string());
    }

    #[test]
    fn a_line_of_a_batch_is_a_task_or_an_error() {
        let refusal = unreadable("no JSON");
        insta::assert_snapshot!(serde_json::to_string(&Line::refused(7, &refusal)).unwrap());
        insta::assert_snapshot!(serde_json::to_string(&Line::submitted(8, &succeeded(), true)).unwrap());
    }
}
