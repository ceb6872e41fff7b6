//! `submit --batch`: a file of tasks, a line each, sent in chunks.

use super::input::{self, Line};
use super::submit::defaults;
use crate::cli::args::SubmitArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::progress::Progress;
use crate::cli::output::{json, style, tasks};
use crate::cli::values;
use callboard_client::{Client, Error, Submitted, v1};
use callboard_domain::limits;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The most tasks of one call. Half of what a call may hold, so that progress shows.
const CHUNK_TASKS: usize = 500;
/// The most bytes of one call's inputs: room is left for the other fields.
const CHUNK_BYTES: usize = limits::BATCH_BYTES - (256 << 10);
/// The most bytes of a line: the largest input and the fields around it.
const LINE_BYTES: usize = limits::INPUT_BYTES + (64 << 10);
/// How many tasks are waited for at once.
const WAITS: usize = 32;

/// A line that names its own kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full<'a> {
    kind: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    priority: Option<u32>,
    queue: Option<String>,
    at: Option<String>,
    delay: Option<String>,
    timeout: Option<String>,
    max_attempts: Option<u32>,
    request_id: Option<String>,
}

/// Lines that are read and not yet sent, by their numbers.
#[derive(Default)]
struct Chunk {
    lines: Vec<u64>,
    requests: Vec<v1::SubmitTaskRequest>,
    bytes: usize,
}

impl Chunk {
    fn has_room(&self, request: &v1::SubmitTaskRequest) -> bool {
        self.requests.len() < CHUNK_TASKS && self.bytes + request.input.len() <= CHUNK_BYTES
    }

    fn push(&mut self, line: u64, request: v1::SubmitTaskRequest) {
        self.bytes += request.input.len();
        self.lines.push(line);
        self.requests.push(request);
    }
}

/// What became of the lines so far.
#[derive(Default)]
struct Tally {
    ids: Vec<String>,
    refused: u64,
}

pub(super) async fn run(context: &mut Context, file: &str, args: &SubmitArgs) -> Result<(), Failure> {
    let mut reader = input::lines_of(file).await?;
    let base = defaults(args);
    let progress = Progress::spinner(context.out.is_json());
    let mut tally = Tally::default();
    let mut chunk = Chunk::default();
    let mut number = 0;
    while let Some(line) = input::next_line(&mut *reader, LINE_BYTES).await? {
        number += 1;
        let request = match line {
            Line::TooLong => Err(format!("the line is longer than {LINE_BYTES} bytes")),
            Line::Whole(bytes) => match bytes.trim_ascii() {
                [] => continue,
                text => parse(text, &base, number),
            },
        };
        match request {
            Ok(request) => {
                if !chunk.has_room(&request) {
                    send(context, std::mem::take(&mut chunk), &mut tally, &progress).await?;
                }
                chunk.push(number, request);
            }
            Err(message) => {
                refuse(context, number, &json::unreadable(&message), &message, &mut tally, &progress)?
            }
        }
    }
    send(context, chunk, &mut tally, &progress).await?;
    drop(progress);

    let submitted = tally.ids.len() as u64;
    if !context.out.is_json() {
        let all = submitted + tally.refused;
        context.out.line(&format!("submitted {submitted} of {all} task{}", plural(all)))?;
    }
    let failed = if args.wait { wait(context, tally.ids).await? } else { 0 };
    match (tally.refused, failed) {
        (0, 0) => Ok(()),
        (0, failed) => Err(Failure::Task(format!("{failed} task{} did not succeed", plural(failed)))),
        (refused, 0) => {
            Err(Failure::Task(format!("{refused} line{} could not be submitted", plural(refused))))
        }
        (refused, failed) => Err(Failure::Task(format!(
            "{refused} line{} could not be submitted and {failed} task{} did not succeed",
            plural(refused),
            plural(failed)
        ))),
    }
}

fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// The request that a line makes. The options of the command are its defaults.
fn parse(text: &[u8], base: &v1::SubmitTaskRequest, number: u64) -> Result<v1::SubmitTaskRequest, String> {
    let mut request = base.clone();
    if !request.request_id.is_empty() {
        request.request_id = format!("{}/{number}", request.request_id);
    }
    if !request.kind.is_empty() {
        let input: &RawValue = serde_json::from_slice(text).map_err(|e| format!("no JSON: {e}"))?;
        request.input = input.get().as_bytes().to_vec().into();
        return Ok(request);
    }
    let line: Full<'_> = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    request.kind = line.kind;
    request.input = line.input.map_or("{}", RawValue::get).as_bytes().to_vec().into();
    request.priority = line.priority.or(request.priority);
    request.max_attempts = line.max_attempts.or(request.max_attempts);
    if let Some(queue) = line.queue {
        request.queue = queue;
    }
    // A time of the line's own replaces a default of the other sort too.
    if let Some(at) = line.at {
        request.run_at = Some(values::time_to_proto(values::time(&at)?));
        request.delay = None;
    }
    if let Some(delay) = line.delay {
        request.delay = Some(values::span_to_proto(values::span(&delay)?));
        request.run_at = request.run_at.filter(|at| base.run_at.as_ref() != Some(at));
    }
    if let Some(timeout) = line.timeout {
        request.timeout = Some(values::span_to_proto(values::span(&timeout)?));
    }
    if let Some(id) = line.request_id {
        request.request_id = id;
    }
    Ok(request)
}

async fn send(
    context: &mut Context,
    chunk: Chunk,
    tally: &mut Tally,
    progress: &Progress,
) -> Result<(), Failure> {
    if chunk.requests.is_empty() {
        return Ok(());
    }
    let outcomes = match context.client.submit_batch(chunk.requests).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let done = tally.ids.len();
            let from = chunk.lines.first().copied().unwrap_or_default();
            let note =
                format!("stopped at line {from}: {done} task{} had been submitted", plural(done as u64));
            progress.suspend(|| context.out.note(&note));
            return Err(error.into());
        }
    };
    for (line, outcome) in chunk.lines.into_iter().zip(outcomes) {
        match outcome {
            Ok(submitted) => accept(context, line, submitted, tally, progress)?,
            Err(error) => {
                refuse(context, line, &json::Refusal::from(&error), &told(&error), tally, progress)?
            }
        }
    }
    progress.message(format!("{} submitted, {} refused", tally.ids.len(), tally.refused));
    Ok(())
}

fn accept(
    context: &mut Context,
    line: u64,
    submitted: Submitted,
    tally: &mut Tally,
    progress: &Progress,
) -> Result<(), Failure> {
    if context.out.is_json() {
        let record = json::Line::submitted(line, &submitted.task, submitted.existed);
        progress.suspend(|| context.out.record(&record))?;
    }
    tally.ids.push(submitted.task.id);
    Ok(())
}

fn refuse(
    context: &mut Context,
    line: u64,
    refusal: &json::Refusal<'_>,
    text: &str,
    tally: &mut Tally,
    progress: &Progress,
) -> Result<(), Failure> {
    tally.refused += 1;
    if context.out.is_json() {
        return progress.suspend(|| context.out.record(&json::Line::refused(line, refusal)));
    }
    progress.suspend(|| context.out.note(&format!("line {line}: {}", style::clean(text))));
    Ok(())
}

/// Every wrong field of a line, or what else is wrong with it.
fn told(error: &Error) -> String {
    if error.violations.is_empty() {
        return error.message.clone();
    }
    let fields: Vec<_> = error.violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    fields.join("; ")
}

/// Waits for all tasks; how many of them did not succeed.
async fn wait(context: &mut Context, ids: Vec<String>) -> Result<u64, Failure> {
    let all = ids.len();
    context.interruption().set(format!(
        "the tasks go on; `{} list --state scheduled,queued,running` shows those that have not ended",
        context.program
    ));
    let progress = Progress::spinner(context.out.is_json());
    let client = context.client.clone();
    let mut ends = futures::stream::iter(ids).map(|id| end(client.clone(), id)).buffer_unordered(WAITS);
    let (mut ended, mut failed) = (0, 0);
    while let Some(task) = ends.next().await {
        let task = task?;
        ended += 1;
        let bad = task.state() != v1::TaskState::Succeeded;
        failed += u64::from(bad);
        if context.out.is_json() {
            progress.suspend(|| context.out.record(&json::Task::from(&task)))?;
        } else if bad {
            let note = format!("task {} {}", style::short(&task.id), tasks::ending(&task));
            progress.suspend(|| context.out.note(&note));
        }
        progress.message(format!("{ended} of {all} ended"));
    }
    drop(progress);
    if !context.out.is_json() {
        context.out.line(&format!("{} of {all} succeeded", all as u64 - failed))?;
    }
    Ok(failed)
}

async fn end(client: Client, id: String) -> Result<v1::Task, Error> {
    client.wait(&id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(kind: &str) -> v1::SubmitTaskRequest {
        v1::SubmitTaskRequest {
            kind: kind.into(),
            priority: Some(2),
            request_id: "job".into(),
            delay: Some(values::span_to_proto(std::time::Duration::from_secs(5))),
            ..Default::default()
        }
    }

    #[test]
    fn a_line_is_the_input_of_the_kind_that_was_named() {
        let request = parse(br#"{"prompt": "x", "n": 1.50}"#, &base("echo"), 7).unwrap();
        assert_eq!(&request.input[..], br#"{"prompt": "x", "n": 1.50}"#);
        assert_eq!((request.kind.as_str(), request.request_id.as_str()), ("echo", "job/7"));
        assert!(parse(b"{", &base("echo"), 1).unwrap_err().starts_with("no JSON"));
    }

    #[test]
    fn a_line_that_names_its_kind_overrides_the_options() {
        let line = br#"{"kind":"echo","input":{"a":[1]},"priority":9,"at":"1970-01-01T00:00:07Z","request_id":"own"}"#;
        let request = parse(line, &base(""), 1).unwrap();
        assert_eq!((request.priority, request.request_id.as_str()), (Some(9), "own"));
        assert_eq!((request.run_at.map(|t| t.seconds), request.delay), (Some(7), None));
        let request = parse(br#"{"kind":"echo"}"#, &base(""), 2).unwrap();
        assert_eq!((&request.input[..], request.priority), (&b"{}"[..], Some(2)));
    }

    #[test]
    fn a_line_with_a_wrong_field_is_told() {
        for (line, part) in [
            (&br#"{"kind":"echo","prio":1}"#[..], "unknown field `prio`"),
            (br#"{"input":{}}"#, "missing field `kind`"),
            (br#"{"kind":"echo","delay":"soon"}"#, "`soon` is no span"),
        ] {
            let error = parse(line, &base(""), 1).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_chunk_is_bounded_in_tasks_and_in_bytes() {
        let large = v1::SubmitTaskRequest { input: vec![b' '; 1 << 20].into(), ..Default::default() };
        let mut chunk = Chunk::default();
        for line in 0..2 {
            assert!(chunk.has_room(&large));
            chunk.push(line, large.clone());
        }
        assert!(!chunk.has_room(&large));
        let mut chunk = Chunk::default();
        (0..500).for_each(|line| chunk.push(line, v1::SubmitTaskRequest::default()));
        assert!(!chunk.has_room(&v1::SubmitTaskRequest::default()));
    }
}
