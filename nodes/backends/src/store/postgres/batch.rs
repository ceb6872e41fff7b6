//! Many items in one transaction, an answer for each.
//!
//! A transaction that one item's data makes fail is rolled back and run again in halves, until the guilty
//! item is alone; the others are unharmed. One whose commit got no answer is run again until the store says
//! what became of it, or the deadline passes.

use super::fault::Blame;
use super::line::{Failed, Line, Work};
use callboard_domain::{TaskId, TraceContext};
use callboard_ports::store::{Commit, Error};
use callboard_ports::trace::{Kind, Span, Tracer};
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a commit without an answer is asked after.
const ASK: Duration = Duration::from_secs(5);
/// The wait between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The most traces that the span of a transaction is linked to.
const LINKS: usize = 32;

/// How a batch is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As if nothing of it had ever been tried.
    Plain,
    /// An id of it is known to be taken.
    Taken,
    /// It may have been committed before.
    Again,
    /// The one item's data made its transaction fail, for this reason.
    Blamed(String),
}

/// Some neighbours of a list, shared between the tries at it.
pub(super) struct Part<I> {
    all: Arc<[I]>,
    range: Range<usize>,
}

impl<I> Deref for Part<I> {
    type Target = [I];

    fn deref(&self) -> &[I] {
        self.all.get(self.range.clone()).unwrap_or_default()
    }
}

impl<I> Clone for Part<I> {
    fn clone(&self) -> Self {
        Self { all: Arc::clone(&self.all), range: self.range.clone() }
    }
}

impl<I> Part<I> {
    fn of(all: &Arc<[I]>, range: Range<usize>) -> Self {
        Self { all: Arc::clone(all), range }
    }
}

/// A batch as [`Work`].
pub(super) trait Batch: Work<Out = Vec<Self::Answer>> {
    type Item: Send + Sync;
    type Answer: Send;

    /// Whether it can be run again when it is not known whether it was committed.
    const CAN_ASK: bool;

    /// Which call of the store it is, for its spans, and what that is in SQL: the statement that counts, and its table.
    const CALL: &'static str;
    /// See [`CALL`](Self::CALL).
    const SUMMARY: &'static str = "UPDATE tasks";

    fn new(items: Part<Self::Item>, mode: Mode) -> Self;

    /// The `traceparent` of an item's task, if that is known here.
    fn trace<'a>(item: &'a Self::Item, answer: &'a Self::Answer) -> Option<&'a str> {
        let _ = (item, answer);
        None
    }

    /// The answer when the whole transaction failed.
    fn failed(item: &Self::Item, error: &Error) -> Self::Answer;

    /// The tasks that, going by a run in [`Mode::Again`], an earlier run had written.
    fn found(&self) -> Vec<TaskId>;
}

/// Runs a batch. The answers are in the order of the items.
pub(super) async fn run<B: Batch>(line: &mut Line, items: Arc<[B::Item]>) -> Vec<B::Answer> {
    let mut answers = Vec::with_capacity(items.len());
    let mut todo = vec![(0..items.len(), Mode::Plain)];
    while let Some((range, mode)) = todo.pop() {
        let part = Part::of(&items, range.clone());
        let mut span = begin::<B>(&line.context().tracer, part.len());
        let failed = match line.run(&mut B::new(part.clone(), mode.clone())).await {
            Ok(done) => {
                link::<B>(&mut span, &part, &done);
                answers.extend(done);
                continue;
            }
            Err(failed) => failed,
        };
        span.fail(|| failed.to_string());
        span.end();
        match failed {
            Failed::Unknown { fault, commit } if B::CAN_ASK => {
                tracing::warn!(error = %fault, "a commit got no answer, asking after it");
                match ask::<B>(line, &part, *commit).await {
                    Some(done) => answers.extend(done),
                    // Committed it cannot have been then.
                    None => todo.push((range, Mode::Plain)),
                }
            }
            Failed::Before(fault) if mode == Mode::Plain && fault.is_taken_id() => {
                todo.push((range, Mode::Taken));
            }
            Failed::Before(fault) if fault.blame() == Blame::Data && range.len() > 1 => {
                tracing::debug!(error = %fault, "a batch failed for one item, running it in halves");
                let [first, second] = halves(range);
                todo.extend([(second, Mode::Plain), (first, Mode::Plain)]);
            }
            Failed::Before(fault) if fault.blame() == Blame::Data && !matches!(mode, Mode::Blamed(_)) => {
                todo.push((range, Mode::Blamed(Error::from(&fault).to_string())));
            }
            failed => {
                let error = Error::from(failed);
                tracing::warn!(%error, "a transaction of the store failed");
                answers.extend(part.iter().map(|item| B::failed(item, &error)));
            }
        }
    }
    answers
}

/// Begins the span of a transaction, by the conventions for databases. It is the first of its trace: the transaction serves
/// tasks of many.
fn begin<B: Batch>(tracer: &Tracer, rows: usize) -> Span {
    let mut span = tracer.start(|| B::SUMMARY, Kind::Client, None);
    span.set("db.system.name", "postgresql");
    span.set("db.query.summary", B::SUMMARY);
    span.set("callboard.store.call", B::CALL);
    if let Some((operation, table)) = B::SUMMARY.split_once(' ') {
        span.set("db.operation.name", operation);
        span.set("db.collection.name", table);
    }
    // As the conventions have it: one by itself is no batch.
    if rows > 1 {
        span.set("db.operation.batch.size", rows as u64);
    }
    span
}

/// Links a transaction with those of its tasks' traces that are recorded.
fn link<B: Batch>(span: &mut Span, items: &[B::Item], answers: &[B::Answer]) {
    if !span.is_recorded() {
        return;
    }
    let traces = items.iter().zip(answers).filter_map(|(item, answer)| B::trace(item, answer)?.parse().ok());
    traces.filter(|trace: &TraceContext| trace.is_sampled()).take(LINKS).for_each(|trace| span.link(trace));
}

fn halves(range: Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [range.start..middle, middle..range.end]
}

/// Runs a batch again whose commit got no answer. None if its data was refused.
async fn ask<B: Batch>(line: &mut Line, part: &Part<B::Item>, commit: Commit) -> Option<Vec<B::Answer>> {
    let (deadline, mut commits) = (Instant::now() + ASK, vec![commit]);
    loop {
        let mut batch = B::new(part.clone(), Mode::Again);
        let fault = match line.run(&mut batch).await {
            Ok(answers) => {
                batch.found().into_iter().for_each(|id| tell(line, &commits, id));
                return Some(answers);
            }
            Err(Failed::Unknown { fault, commit }) => {
                commits.push(*commit);
                fault
            }
            Err(Failed::Before(fault)) if fault.blame() == Blame::Data => return None,
            Err(Failed::Before(fault)) => fault,
        };
        if Instant::now() >= deadline {
            let error = Error::Unknown(fault.to_string());
            return Some(part.iter().map(|item| B::failed(item, &error)).collect());
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Tells the observers what an unanswered commit did to one task: of several tries, the last one's.
fn tell(line: &Line, commits: &[Commit], id: TaskId) {
    let of_task = commits.iter().rev().find(|c| c.events.iter().any(|e| e.task_id == id));
    let Some(commit) = of_task else { return };
    line.context().teller.tell(&Commit {
        events: commit.events.iter().filter(|e| e.task_id == id).cloned().collect(),
        ready: commit.ready.iter().filter(|r| r.id == id).cloned().collect(),
        next_due: commit.next_due,
    });
}
