//! The commands about tasks that ask once and print.

use super::{artifact, follow};
use crate::cli::args::{CancelArgs, EventsArgs, GetArgs, ListArgs, ResultArgs, RetryArgs};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, json, style, tasks, time};
use callboard_client::{is_terminal, v1};
use callboard_domain::TraceContext;
use futures::TryStreamExt;

/// The most tasks of one page.
const PAGE: u32 = 500;

pub(super) async fn list(context: &mut Context, args: ListArgs) -> Result<(), Failure> {
    let filter = v1::TaskFilter {
        states: args.state.iter().map(|s| v1::TaskState::from(*s).into()).collect(),
        kind: args.kind.unwrap_or_default(),
        queue: args.queue.unwrap_or_default(),
        ..Default::default()
    };
    let mut found = Vec::new();
    let mut page_token = args.page_token.unwrap_or_default();
    loop {
        let left = args.limit - u32::try_from(found.len()).unwrap_or(args.limit).min(args.limit);
        let page_size = left.min(PAGE);
        let filter = Some(filter.clone());
        let page = context.client.list(v1::ListTasksRequest { page_size, page_token, filter }).await?;
        found.extend(page.tasks);
        page_token = page.next_page_token;
        if page_token.is_empty() || found.len() >= args.limit as usize {
            break;
        }
    }
    if context.out.is_json() {
        return context.out.document(&json::Tasks::new(&found, &page_token));
    }
    let text = tasks::list(&found, time::now(), context.out.palette(), context.out.width());
    context.out.text(&text)?;
    if !page_token.is_empty() {
        context.out.hint(&format!("there are more: raise --limit, or go on with --page-token {page_token}"));
    }
    Ok(())
}

pub(super) async fn get(context: &mut Context, args: GetArgs) -> Result<(), Failure> {
    let task = context.client.get(&args.id, true).await?;
    show(context, &task)?;
    let trace: Option<TraceContext> = task.traceparent.parse().ok();
    if let (Some(jaeger), Some(trace), false) = (&args.jaeger, trace, context.out.is_json()) {
        let jaeger = jaeger.trim_end_matches('/');
        context.out.line(&format!("\n{jaeger}/trace/{:032x}", trace.trace_id()))?;
    }
    Ok(())
}

fn show(context: &mut Context, task: &v1::Task) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.document(&json::Task::from(task));
    }
    context.out.text(&tasks::detail(task, time::now(), context.out.palette()))
}

pub(super) async fn cancel(context: &mut Context, args: CancelArgs) -> Result<(), Failure> {
    let task = context.client.cancel(&args.id).await?;
    if context.out.is_json() {
        return context.out.document(&json::Task::from(&task));
    }
    let short = style::short(&task.id);
    if is_terminal(task.state()) {
        return context.out.line(&format!("task {short} is {}", style::state(task.state)));
    }
    context.out.line(&format!("task {short} is running and was asked to stop"))?;
    context.out.hint(&format!("follow it with `{} watch {short}`", context.program));
    Ok(())
}

pub(super) async fn retry(context: &mut Context, args: RetryArgs) -> Result<(), Failure> {
    let task = context.client.retry(&args.id, "").await?;
    if args.wait {
        return follow::wait(context, &task.id).await;
    }
    if context.out.is_json() {
        return context.out.document(&json::Task::from(&task));
    }
    context.out.line(&tasks::submitted(&task, false, context.out.palette()))?;
    context.out.hint(&format!("follow it with `{} watch {}`", context.program, style::short(&task.id)));
    Ok(())
}

pub(super) async fn result(context: &mut Context, args: ResultArgs) -> Result<(), Failure> {
    let task = context.client.get(&args.id, true).await?;
    let short = style::short(&task.id);
    if task.state() != v1::TaskState::Succeeded {
        let next = if is_terminal(task.state()) { "events" } else { "wait" };
        context.out.hint(&format!("go on with `{} {next} {short}`", context.program));
        let standing =
            if is_terminal(task.state()) { tasks::ending(&task) } else { style::state(task.state) };
        return Err(Failure::Task(format!("task {short} has no result: it is {standing}")));
    }
    if let Some(path) = context.out.file() {
        let mut file = artifact::Partial::create(&path)?;
        file.write(&task.result)?;
        file.finish()?;
        output::wrote(&path, task.result.len() as u64, "application/json");
        return Ok(());
    }
    // A program gets the bytes as they are; a person gets line breaks.
    if context.out.is_terminal() || context.out.is_json() {
        return context.out.line(&tasks::payload(&task.result));
    }
    context.out.bytes(&task.result)?;
    context.out.bytes(b"\n")
}

pub(super) async fn events(context: &mut Context, args: EventsArgs) -> Result<(), Failure> {
    let events: Vec<v1::TaskEvent> = context.client.events_all(&args.id).try_collect().await?;
    if context.out.is_json() {
        return context.out.document(&json::Events::from(&*events));
    }
    context.out.text(&tasks::timeline(&events, context.out.palette(), context.out.width()))
}
