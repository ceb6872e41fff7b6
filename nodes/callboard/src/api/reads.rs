//! Reads of tasks and their events.

use super::{errors, page};
use callboard_contracts::v1;
use callboard_domain::convert::{event_to_proto, state_from_proto, task_to_proto, time_from_proto};
use callboard_domain::{Code, Error, TaskId, Violation};
use callboard_ports::Store;
use callboard_ports::store::Filter;

const TASKS: u32 = 50;
const EVENTS: u32 = 100;

/// One task.
pub(super) async fn task(store: &dyn Store, id: TaskId, full: bool) -> Result<v1::Task, Error> {
    let about = |error| errors::about_task(error, &id.to_string());
    if full {
        let full = store.get_full(id).await.map_err(about)?;
        let mut task = task_to_proto(&full.task);
        task.input = full.input;
        task.result = full.result.unwrap_or_default();
        return Ok(task);
    }
    let task = store.get(vec![id]).await.map_err(about)?.pop();
    task.map(|t| task_to_proto(&t)).ok_or_else(|| about(callboard_ports::store::Error::NotFound))
}

/// A page of tasks.
pub(super) async fn list(
    store: &dyn Store,
    request: v1::ListTasksRequest,
) -> Result<v1::ListTasksResponse, Error> {
    let size = page::size(request.page_size, TASKS)?;
    let filter = filter(request.filter.unwrap_or_default())?;
    let before = page::position::<TaskId>(&filter, &request.page_token)?;
    // One more than the page tells whether there is another.
    let mut tasks = store.list(filter.clone(), before, size + 1).await.map_err(errors::of_store)?;
    let more = tasks.len() > size;
    tasks.truncate(size);
    let next = tasks.last().filter(|_| more).map(|t| page::token(&filter, &t.spec.id.to_string()));
    Ok(v1::ListTasksResponse {
        tasks: tasks.iter().map(task_to_proto).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

fn filter(filter: v1::TaskFilter) -> Result<Filter, Error> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let mut states = Vec::new();
    let mut wrong = Vec::new();
    for (i, state) in filter.states.iter().enumerate() {
        match state_from_proto(*state) {
            Some(state) => states.push(state),
            None => wrong.push(Violation {
                field: format!("filter.states[{i}]"),
                description: format!("must be a state other than UNSPECIFIED, not {state}"),
            }),
        }
    }
    if !wrong.is_empty() {
        return Err(Error::invalid(wrong));
    }
    states.sort_unstable();
    states.dedup();
    Ok(Filter {
        states,
        kind: some(filter.kind),
        queue: some(filter.queue),
        created_after: filter.created_after.as_ref().map(time_from_proto),
        created_before: filter.created_before.as_ref().map(time_from_proto),
    })
}

/// A page of a task's events.
pub(super) async fn events(
    store: &dyn Store,
    id: TaskId,
    request: &v1::ListTaskEventsRequest,
) -> Result<v1::ListTaskEventsResponse, Error> {
    let size = page::size(request.page_size, EVENTS)?;
    let after = page::position::<u64>(&id, &request.page_token)?.unwrap_or(0);
    let mut events = store.events(id, after, size + 1).await.map_err(errors::of_store)?;
    if events.is_empty() {
        // Every task has a first event: there is no such task, or this is past its end.
        task(store, id, false).await?;
    }
    let more = events.len() > size;
    events.truncate(size);
    let next = events.last().filter(|_| more).map(|e| page::token(&id, &e.seq.to_string()));
    Ok(v1::ListTaskEventsResponse {
        events: events.iter().map(event_to_proto).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

/// The error for a call that needs a field it does not have.
pub(super) fn missing(field: &str) -> Error {
    Error::field(Code::InvalidArgument, field, "must be set")
}
