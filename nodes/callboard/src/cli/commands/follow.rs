//! `watch` and `wait`: to the end of a task, across restarts of its node.

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::progress::Progress;
use crate::cli::output::{json, style, tasks, time};
use callboard_client::{Update, is_terminal, v1};
use callboard_domain::Timestamp;
use futures::StreamExt;
use std::time::Duration;

/// Waits until a task ends, and prints its result.
pub(super) async fn wait(context: &mut Context, id: &str) -> Result<(), Failure> {
    let task = to_end(context, id, None, "wait").await?;
    let task = context.client.get(&task.id, true).await?;
    context.interruption().clear();
    if context.out.is_json() {
        context.out.document(&json::Task::from(&task))?;
    } else if task.state() == v1::TaskState::Succeeded {
        context.out.line(&tasks::payload(&task.result))?;
        context.out.hint(&format!("task {} {}", style::short(&task.id), tasks::ending(&task)));
    }
    ended(context, &task)
}

/// As [`wait`], for a time.
pub(super) async fn wait_within(
    context: &mut Context,
    id: &str,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let Some(limit) = limit else { return wait(context, id).await };
    match tokio::time::timeout(limit, wait(context, id)).await {
        Ok(result) => result,
        Err(_) => {
            Err(Failure::Late(format!("the task has not ended within {}; it goes on", time::span(limit))))
        }
    }
}

/// Prints a task's events until it ends.
pub(super) async fn watch(context: &mut Context, id: &str, after_seq: Option<u64>) -> Result<(), Failure> {
    let task = to_end(context, id, Some(after_seq), "watch").await?;
    context.interruption().clear();
    let short = style::short(&task.id);
    if !context.out.is_json() {
        context.out.line(&format!("task {short} {}", tasks::ending(&task)))?;
        if task.state() == v1::TaskState::Succeeded {
            context.out.hint(&format!("see its result with `{} result {short}`", context.program));
        }
    }
    ended(context, &task)
}

/// Whether a task succeeded, as the command's own outcome.
fn ended(context: &Context, task: &v1::Task) -> Result<(), Failure> {
    if task.state() == v1::TaskState::Succeeded {
        return Ok(());
    }
    let short = style::short(&task.id);
    context.out.hint(&format!("see what happened with `{} events {short}`", context.program));
    Err(Failure::Task(format!("task {short} {}", tasks::ending(task))))
}

/// Follows a task to its end. `print` holds the seq after which its events are printed, if they are.
async fn to_end(
    context: &mut Context,
    id: &str,
    print: Option<Option<u64>>,
    command: &str,
) -> Result<v1::Task, Failure> {
    let progress = Progress::spinner(context.out.is_json());
    let come_back =
        |id: &str, program: &str| format!("task {id} goes on; come back with `{program} {command} {id}`");
    context.interruption().set(come_back(id, &context.program));
    let mut updates = context.client.watch(id, print.flatten());
    let mut admitted: Option<Timestamp> = None;
    let mut shown = v1::Task::default();
    while let Some(update) = updates.next().await {
        match update? {
            Update::Task(task) => {
                context.interruption().set(come_back(style::short(&task.id), &context.program));
                admitted = time::point(task.created_at.as_ref());
                if print.is_some() && context.out.is_json() {
                    context.out.record(&json::Update::Task((&*task).into()))?;
                }
                shown = *task;
            }
            Update::Event(event) => {
                if print.is_some() {
                    let line = tasks::event_line(&event, admitted, context.out.palette());
                    progress.suspend(|| match context.out.is_json() {
                        true => context.out.record(&json::Update::Event((&*event).into())),
                        false => context.out.line(&line),
                    })?;
                }
                apply(&mut shown, &event);
            }
            Update::Interrupted(error) => {
                let text = format!("the node went away ({error}); the task is safe, waiting for the node");
                progress.suspend(|| context.out.note(&style::clean(&text)));
                progress.message("waiting for the node");
                continue;
            }
        }
        progress.message(tasks::progress_line(&shown));
    }
    // The watch ends after the final state, and only there.
    if is_terminal(shown.state()) {
        return Ok(shown);
    }
    Err(Failure::Local(anyhow::anyhow!("the watch ended before the task did")))
}

/// What an event changes of what is shown while somebody waits.
fn apply(task: &mut v1::Task, event: &v1::TaskEvent) {
    task.state = event.state;
    task.attempt = event.attempt;
    task.cancel_requested |= event.r#type() == v1::TaskEventType::CancelRequested;
    if event.r#type() == v1::TaskEventType::Claimed {
        task.progress = None;
    }
    if event.progress.is_some() {
        task.progress.clone_from(&event.progress);
    }
}
