//! Asks Jaeger until its answer is whole, and says what holds.

use super::check::{self, Submitted};
use super::server::Jaeger;
use super::tasks::Task;
use super::trace::{self, Trace};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long spans may take from the end of a task to the answer.
const WHOLE_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One line of the verdict: it holds if nothing is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) what: &'static str,
    /// What was seen, if it holds.
    pub(super) seen: String,
    pub(super) missing: Vec<String>,
}

impl Line {
    pub(super) fn shown(&self) -> String {
        if self.missing.is_empty() {
            return format!("ok    {}: {}", self.what, self.seen);
        }
        let missing = self.missing.iter().map(|one| format!("\n        {one}")).collect::<String>();
        format!("FAIL  {}; missing or wrong:{missing}", self.what)
    }
}

/// A task, how it was submitted, and what its trace has come to.
pub(super) struct Traced {
    pub(super) task: Task,
    pub(super) submitted: Submitted,
    pub(super) trace: Trace,
}

/// Gets a task's trace, as soon as `missing` finds nothing to be missing; in the end as it is.
///
/// # Errors
/// Jaeger does not answer, or knows nothing of the trace.
pub(super) fn fetch(jaeger: &Jaeger, id: &str, missing: impl Fn(&Trace) -> Vec<String>) -> Result<Trace> {
    let until = Instant::now() + WHOLE_WITHIN;
    loop {
        let answer = jaeger.ask(&format!("/api/traces/{id}"))?;
        let found = answer.map(|answer| trace::read(&answer)).transpose()?.and_then(|mut all| all.pop());
        let late = Instant::now() > until;
        match found {
            Some(trace) if late || missing(&trace).is_empty() => return Ok(trace),
            None if late => bail!("Jaeger knows no trace {id} after {} s", WHOLE_WITHIN.as_secs()),
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// What each campaign's trace must be.
pub(super) fn whole(trace: &Trace, submitted: Submitted) -> Vec<String> {
    let mut missing = check::shape(trace, submitted);
    missing.extend(check::causes(trace));
    missing
}

/// What holds of the campaigns that nothing happened to.
///
/// # Errors
/// Jaeger does not answer.
pub(super) fn campaigns(jaeger: &Jaeger, traced: &[Traced]) -> Result<Vec<Line>> {
    let each = |check: &dyn Fn(&Traced) -> Vec<String>| {
        traced
            .iter()
            .flat_map(|one| check(one).into_iter().map(|what| format!("task {}: {what}", one.task.id)))
            .collect::<Vec<_>>()
    };
    let spans: usize = traced.iter().map(|one| one.trace.spans.len()).sum();
    let ids: BTreeSet<&str> = traced.iter().map(|one| one.trace.id.as_str()).collect();
    let mut apart = Vec::new();
    for one in traced {
        let traces = naming(jaeger, &one.task.id)?;
        if traces != [one.trace.id.as_str()] {
            apart
                .push(format!("task {} is in traces {traces:?}, not in {} alone", one.task.id, one.trace.id));
        }
    }
    if ids.len() != traced.len() {
        apart.push(format!("{} tasks are in {} traces", traced.len(), ids.len()));
    }
    let mut lines = vec![
        Line {
            what: "each task is one trace of its own",
            seen: format!("{} tasks, {} traces, {spans} spans", traced.len(), ids.len()),
            missing: apart,
        },
        Line {
            what: "each trace has one root",
            seen: "the call, or the task itself where it came in a batch".into(),
            missing: each(&|one| check::root(&one.trace, one.submitted)),
        },
        Line {
            what: "every span's parent is there",
            seen: format!("{} of them", spans.saturating_sub(traced.len())),
            missing: each(&|one| check::causes(&one.trace)),
        },
        Line {
            what: "the spans are those of a campaign",
            seen: "names, kinds, each below its cause, and no other".into(),
            missing: each(&|one| check::shape(&one.trace, one.submitted)),
        },
        Line {
            what: "they say what the conventions ask",
            seen: "rpc.*, messaging.*, gen_ai.*, service.*".into(),
            missing: each(&|one| check::attributes(&one.trace, &one.task.id)),
        },
        crossings(traced),
    ];
    lines.push(messages(jaeger, traced)?);
    lines.push(calls(jaeger, traced)?);
    Ok(lines)
}

/// The traces in which a span names a task.
fn naming(jaeger: &Jaeger, task: &str) -> Result<Vec<String>> {
    // {"messaging.message.id":"…"}, as part of an address.
    let tags = format!("%7B%22messaging.message.id%22%3A%22{task}%22%7D");
    let answer = jaeger.ask(&format!("/api/traces?service=callboard&lookback=1h&limit=20&tags={tags}"))?;
    let traces = answer.map(|answer| trace::read(&answer)).transpose()?.unwrap_or_default();
    Ok(traces.into_iter().map(|trace| trace.id).collect())
}

fn crossings(traced: &[Traced]) -> Line {
    let ways: BTreeSet<String> = traced
        .iter()
        .filter_map(|one| check::crossing(&one.trace))
        .map(|[submitted, ran, asked]| {
            format!("submitted to {submitted}, run on {ran}, the model asked by {asked}")
        })
        .collect();
    let missing = if ways.is_empty() {
        vec!["a task that ran on one replica and asked a model on another".into()]
    } else {
        Vec::new()
    };
    Line { what: "a tree crosses replicas", seen: ways.into_iter().collect::<Vec<_>>().join("; "), missing }
}

/// The messages that brought the attempts: each is a trace of its own, and there.
fn messages(jaeger: &Jaeger, traced: &[Traced]) -> Result<Line> {
    let mut missing = Vec::new();
    let mut sent = BTreeSet::new();
    for one in traced {
        match check::messages(&one.trace) {
            Ok(links) => sent.extend(links.into_iter().map(str::to_owned)),
            Err(why) => missing.push(format!("task {}: {why}", one.task.id)),
        }
    }
    for id in &sent {
        missing.extend(check::sent(&fetch(jaeger, id, check::sent)?));
    }
    let seen = format!("{} tasks in {} messages of RabbitMQ", traced.len(), sent.len());
    Ok(Line { what: "each attempt is linked to the message it came in", seen, missing })
}

/// The call of a batch: the tasks in it are linked to it, and to no other.
fn calls(jaeger: &Jaeger, traced: &[Traced]) -> Result<Line> {
    let mut missing = Vec::new();
    let mut calls = BTreeSet::new();
    let batch = traced.iter().filter(|one| one.submitted == Submitted::InBatch);
    for one in batch.clone() {
        let links: Vec<_> = one.trace.roots().flat_map(|root| root.links.clone()).collect();
        if links.len() != 1 {
            missing.push(format!("task {}: one link to its call; there are {}", one.task.id, links.len()));
        }
        calls.extend(links);
    }
    let is_there = |trace: &Trace| {
        let there = trace.of("SERVER").any(|span| span.name.ends_with("/BatchSubmitTasks"));
        if there { Vec::new() } else { vec![format!("the call BatchSubmitTasks, in trace {}", trace.id)] }
    };
    for id in &calls {
        missing.extend(is_there(&fetch(jaeger, id, is_there)?));
    }
    let seen = format!("{} tasks, {} call", batch.count(), calls.len());
    Ok(Line { what: "each task of a batch is linked to its call", seen, missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_is_missing() {
        let line = Line { what: "a tree", seen: "8 spans".into(), missing: Vec::new() };
        assert_eq!(line.shown(), "ok    a tree: 8 spans");
        let line = Line { missing: vec!["one".into(), "two".into()], ..line };
        assert_eq!(line.shown(), "FAIL  a tree; missing or wrong:\n        one\n        two");
    }

    #[test]
    fn a_run_in_which_nothing_crosses_does_not_hold() {
        assert_eq!(crossings(&[]).missing.len(), 1);
    }
}
