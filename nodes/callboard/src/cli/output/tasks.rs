//! Tasks and their events, for a person.

use super::json;
use super::style::{Paint, Palette, clean, clean_lines, event as event_word, short, state, state_paint};
use super::table::{Cell, Table, pairs};
use super::time::{both, clock, duration, offset, point, relative, span};
use callboard_client::{is_terminal, v1};
use callboard_domain::Timestamp;
use std::time::Duration;

/// Tasks as a table, newest first as they came.
#[must_use]
pub fn list(tasks: &[v1::Task], now: Timestamp, palette: Palette, width: Option<usize>) -> String {
    if tasks.is_empty() {
        return "no tasks\n".to_owned();
    }
    let mut table = Table::new(&["ID", "KIND", "STATE", ">PRI", ">TRY", "CREATED", ">TOOK", "NOTE"]);
    for task in tasks {
        table.row(vec![
            Cell::new(short(&task.id), Paint::Strong),
            Cell::from(&task.kind),
            Cell::new(state(task.state), state_paint(task.state)),
            task.priority.to_string().into(),
            format!("{}/{}", task.attempt, task.max_attempts).into(),
            point(task.created_at.as_ref()).map_or_else(String::new, |at| relative(at, now)).into(),
            took(task).map_or_else(String::new, span).into(),
            Cell::from(note(task, now)),
        ]);
    }
    table.render(palette, width)
}

/// How long a task took from its admission to its end.
fn took(task: &v1::Task) -> Option<Duration> {
    Some(point(task.finished_at.as_ref())?.since(point(task.created_at.as_ref())?))
}

/// The one thing worth knowing about a task beside its state.
fn note(task: &v1::Task, now: Timestamp) -> String {
    match (task.state(), &task.progress, &task.error) {
        (v1::TaskState::Scheduled, _, error) => {
            let due = point(task.run_at.as_ref())
                .map_or_else(String::new, |at| format!("due {}", relative(at, now)));
            match error {
                Some(error) => format!("{due}, after {}", failure(error)),
                None => due,
            }
        }
        (v1::TaskState::Running, _, _) if task.cancel_requested => "cancel requested".to_owned(),
        (v1::TaskState::Running, Some(progress), _) => progressed(progress),
        (v1::TaskState::Succeeded | v1::TaskState::Cancelled, _, _) => String::new(),
        (_, _, Some(error)) => failure(error),
        _ => String::new(),
    }
}

fn progressed(progress: &v1::TaskProgress) -> String {
    format!("{}% {}", progress.percent, progress.message).trim_end().to_owned()
}

fn failure(error: &v1::TaskError) -> String {
    if error.message.is_empty() {
        error.reason.clone()
    } else {
        format!("{}: {}", error.reason, error.message)
    }
}

/// One task with all that is set, its input and its result.
#[must_use]
pub fn detail(task: &v1::Task, now: Timestamp, palette: Palette) -> String {
    let at = |t: &Option<prost_types::Timestamp>| point(t.as_ref()).map(|t| Cell::from(both(t, now)));
    let text = |t: &str| (!t.is_empty()).then(|| Cell::from(t));
    let waits = task.state() == v1::TaskState::Scheduled;
    let rows: Vec<(&str, Option<Cell>)> = vec![
        ("id", Some(Cell::new(&task.id, Paint::Strong))),
        ("kind", text(&task.kind)),
        ("state", Some(Cell::new(standing(task), state_paint(task.state)))),
        ("priority", Some(task.priority.to_string().into())),
        ("queue", text(&task.queue)),
        ("namespace", text(&task.namespace).filter(|_| task.namespace != "default")),
        ("attempt", Some(attempts(task).into())),
        ("timeout", duration(task.timeout.as_ref()).map(|t| span(t).into())),
        ("created", at(&task.created_at)),
        ("due", at(&task.run_at).filter(|_| waits)),
        ("started", at(&task.started_at)),
        ("finished", at(&task.finished_at)),
        ("took", took(task).map(|t| span(t).into())),
        ("node", text(&task.node)),
        ("progress", task.progress.as_ref().map(|p| progressed(p).into())),
        ("error", task.error.as_ref().map(|e| Cell::new(failure(e), Paint::Bad))),
        ("retry of", text(&task.retry_of)),
        ("request id", text(&task.request_id)),
        ("trace", text(&task.traceparent)),
    ];
    let rows: Vec<_> = rows.into_iter().filter_map(|(name, cell)| Some((name, cell?))).collect();
    let mut out = pairs(&rows, palette);
    for (name, bytes) in [("input", &task.input), ("result", &task.result)] {
        if !bytes.is_empty() {
            out.push_str(&format!("\n{}\n{}\n", palette.paint(name, Paint::Dim), payload(bytes)));
        }
    }
    out
}

fn standing(task: &v1::Task) -> String {
    let word = state(task.state);
    if task.cancel_requested && !is_terminal(task.state()) {
        format!("{word}, cancel requested")
    } else {
        word
    }
}

fn attempts(task: &v1::Task) -> String {
    let mut text = format!("{} of {}", task.attempt, task.max_attempts);
    for (count, what) in [(task.failures, "failed"), (task.lost, "lost with their node")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

/// An input or a result, as JSON over several lines.
#[must_use]
pub fn payload(bytes: &[u8]) -> String {
    clean_lines(&json::pretty(&String::from_utf8_lossy(bytes)))
}

/// What was submitted, on one line.
#[must_use]
pub fn submitted(task: &v1::Task, existed: bool, palette: Palette) -> String {
    let verb = if existed { "found" } else { "submitted" };
    let id = palette.paint(short(&task.id), Paint::Strong);
    format!("{verb} {id} ({}), {}", clean(&task.id), state(task.state))
}

/// A timeline of events. Offsets are from the first event.
#[must_use]
pub fn timeline(events: &[v1::TaskEvent], palette: Palette, width: Option<usize>) -> String {
    let Some(start) = events.first().and_then(|e| point(e.at.as_ref())) else {
        return "no events\n".to_owned();
    };
    let mut table = Table::new(&[">SEQ", "AT", ">AFTER", "EVENT", ">ATTEMPT", "NODE", "DETAIL"]);
    for event in events {
        let at = point(event.at.as_ref());
        table.row(vec![
            event.seq.to_string().into(),
            Cell::new(at.map_or_else(String::new, clock), Paint::Dim),
            at.map_or_else(String::new, |at| offset(at, start)).into(),
            Cell::new(event_word(event.r#type), event_paint(event)),
            attempt(event).into(),
            Cell::from(&event.node),
            Cell::from(event_detail(event)),
        ]);
    }
    table.render(palette, width)
}

/// One event on a line of its own, for a stream that knows no widths. Offsets are from the admission.
#[must_use]
pub fn event_line(event: &v1::TaskEvent, start: Option<Timestamp>, palette: Palette) -> String {
    let after = match (point(event.at.as_ref()), start) {
        (Some(at), Some(start)) => offset(at, start),
        _ => String::new(),
    };
    let word = palette.paint(&format!("{:<16}", event_word(event.r#type)), event_paint(event));
    let mut parts = Vec::new();
    if event.attempt > 0 {
        parts.push(format!("attempt {}", event.attempt));
    }
    if !event.node.is_empty() {
        parts.push(format!("on {}", clean(&event.node)));
    }
    let detail = event_detail(event);
    if !detail.is_empty() {
        parts.push(clean(&detail));
    }
    format!("{:>4}  {after:>11}  {word}  {}", event.seq, parts.join(", ")).trim_end().to_owned()
}

fn attempt(event: &v1::TaskEvent) -> String {
    if event.attempt == 0 { String::new() } else { event.attempt.to_string() }
}

fn event_detail(event: &v1::TaskEvent) -> String {
    let mut parts = Vec::new();
    parts.extend(event.progress.as_ref().map(progressed));
    parts.extend(event.error.as_ref().map(failure));
    if let (Some(at), Some(run_at)) = (point(event.at.as_ref()), point(event.run_at.as_ref()))
        && run_at > at
    {
        parts.push(format!("due after {}", span(run_at.since(at))));
    }
    parts.join(", ")
}

fn event_paint(event: &v1::TaskEvent) -> Paint {
    match event.r#type() {
        v1::TaskEventType::Succeeded => Paint::Good,
        v1::TaskEventType::Failed => Paint::Bad,
        v1::TaskEventType::AttemptFailed
        | v1::TaskEventType::Lost
        | v1::TaskEventType::CancelRequested
        | v1::TaskEventType::Cancelled => Paint::Warn,
        v1::TaskEventType::Claimed | v1::TaskEventType::Started | v1::TaskEventType::Progressed => {
            Paint::Busy
        }
        _ => Paint::Plain,
    }
}

/// How a task ended, in a sentence without its first word: `succeeded after 1.2 s`.
#[must_use]
pub fn ending(task: &v1::Task) -> String {
    let mut text = state(task.state);
    if let Some(took) = took(task) {
        text.push_str(&format!(" after {}", span(took)));
    }
    if task.attempt > 1 {
        text.push_str(&format!(" and {} attempts", task.attempt));
    }
    if let (v1::TaskState::Failed, Some(error)) = (task.state(), &task.error) {
        text.push_str(&format!(": {}", failure(error)));
    }
    clean(&text)
}

/// Where a task stands, on one line, while somebody waits.
#[must_use]
pub fn progress_line(task: &v1::Task) -> String {
    let mut text = format!("{} {}", short(&task.id), standing(task));
    if let (v1::TaskState::Running, Some(progress)) = (task.state(), &task.progress) {
        text.push_str(&format!(", {}", progressed(progress)));
    }
    clean(&text)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NOW, ago, events, failed, running, seconds, succeeded, task};
    use super::*;

    #[test]
    fn a_list_says_the_one_thing_worth_knowing_of_each() {
        let later = v1::Task {
            run_at: Some(crate::cli::values::time_to_proto(NOW.after(seconds(600)))),
            ..task("0c0739c3", "echo", v1::TaskState::Scheduled)
        };
        let tasks = [running(), failed(), succeeded(), later];
        insta::assert_snapshot!(list(&tasks, NOW, Palette::plain(), None));
        assert_eq!(list(&[], NOW, Palette::plain(), None), "no tasks\n");
    }

    #[test]
    fn a_list_fits_the_terminal() {
        let text = list(&[running(), failed()], NOW, Palette::plain(), Some(80));
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 80), "{text}");
        assert!(text.contains('…'), "{text}");
    }

    #[test]
    fn a_task_is_shown_with_input_and_result() {
        insta::assert_snapshot!(detail(&succeeded(), NOW, Palette::plain()));
        insta::assert_snapshot!(detail(&failed(), NOW, Palette::plain()));
    }

    #[test]
    fn a_timeline_counts_from_the_first_event() {
        insta::assert_snapshot!(timeline(&events(), Palette::plain(), None));
        assert_eq!(timeline(&[], Palette::plain(), None), "no events\n");
    }

    #[test]
    fn events_as_they_come_have_the_same_shape() {
        let start = point(ago(seconds(200)).as_ref());
        let lines: Vec<_> = events().iter().map(|e| event_line(e, start, Palette::plain())).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn an_end_is_told_in_a_line() {
        assert_eq!(ending(&succeeded()), "succeeded after 12 s and 2 attempts");
        assert_eq!(
            ending(&failed()),
            "failed after 1 min 28 s and 3 attempts: TIMEOUT: the attempt took over 60 s[2J"
        );
        assert_eq!(progress_line(&running()), "0c0739b2 running, 40% painting the image");
        assert_eq!(
            submitted(&running(), true, Palette::plain()),
            "found 0c0739b2 (01939e2c-7e10-7cc3-98c4-dc0c0c0739b2), running"
        );
    }
}
