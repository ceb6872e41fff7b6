//! `submit`, for one task.

use super::{batch, follow, input};
use crate::cli::args::SubmitArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{json, style, tasks};
use crate::cli::values::{span_to_proto, time_to_proto};
use callboard_client::{new_request_id, v1};

pub(super) async fn run(context: &mut Context, args: SubmitArgs) -> Result<(), Failure> {
    if let Some(file) = &args.batch {
        return batch::run(context, file, &args).await;
    }
    let mut request = defaults(&args);
    request.input = input::task_input(args.input.as_deref()).await?.into();
    if request.request_id.is_empty() {
        request.request_id = new_request_id();
    }
    let again =
        format!("the same command with `--request-id {}` finds it, or submits it", request.request_id);
    context.interruption().set(format!("interrupted; whether the task was submitted is not known: {again}"));
    let submitted = match context.client.submit(request).await {
        Ok(submitted) => submitted,
        Err(error) => {
            if error.may_have_run {
                context.out.note(&format!("whether the task was submitted is not known: {again}"));
            }
            return Err(error.into());
        }
    };
    context.interruption().clear();
    let task = &submitted.task;
    if args.wait {
        return follow::wait(context, &task.id).await;
    }
    if args.watch {
        return follow::watch(context, &task.id, Some(0)).await;
    }
    if context.out.is_json() {
        return context.out.document(&json::Task::from(task));
    }
    context.out.line(&tasks::submitted(task, submitted.existed, context.out.palette()))?;
    context.out.hint(&format!("follow it with `{} watch {}`", context.program, style::short(&task.id)));
    Ok(())
}

/// The request that the options make, without an input.
pub(super) fn defaults(args: &SubmitArgs) -> v1::SubmitTaskRequest {
    v1::SubmitTaskRequest {
        kind: args.kind.clone().unwrap_or_default(),
        priority: args.priority,
        queue: args.queue.clone().unwrap_or_default(),
        run_at: args.at.map(time_to_proto),
        delay: args.delay.map(span_to_proto),
        timeout: args.timeout.map(span_to_proto),
        max_attempts: args.max_attempts,
        request_id: args.request_id.clone().unwrap_or_default(),
        ..Default::default()
    }
}
