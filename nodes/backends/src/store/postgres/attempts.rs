//! What a worker writes about the attempts it holds: started, progress, end, given back.
//!
//! Everything here is fenced by session and attempt, and goes through one queue: so a start is written
//! before the end that was reported after it.

use super::batch::{self, Batch, Mode, Part};
use super::events;
use super::fault::Fault;
use super::group;
use super::line::{Line, Work};
use super::rows::Row;
use super::tx::Tx;
use bytes::Bytes;
use callboard_domain::{
    Attempt, Command, Event, Happening, Outcome, Progress, Refused, RetryPolicy, SessionId, State, TaskError,
    TaskId, Timestamp, limits,
};
use callboard_ports::planted::Bug;
use callboard_ports::store::{Error, Fenced, Finish};
use std::collections::{HashMap, HashSet};

/// Why a task failed whose result was refused.
const RESULT_REFUSED: &str = "RESULT_REFUSED";

/// What a worker says about an attempt.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Started(Timestamp),
    Progress(Progress),
    GivenBack,
    Ended { started_at: Option<Timestamp>, outcome: Outcome, result: Option<Bytes> },
}

/// One report.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) session: SessionId,
    pub(super) attempt: Attempt,
    pub(super) said: Said,
}

impl Report {
    pub(super) fn end(session: SessionId, Finish { attempt, started_at, outcome, result }: Finish) -> Self {
        Self { session, attempt, said: Said::Ended { started_at, outcome, result } }
    }
}

/// What became of it.
pub(super) type Answer = Result<Fenced, Error>;

/// Commits reports.
pub(super) struct Reporter(pub(super) Line);

impl group::Commit for Reporter {
    type Item = Report;
    type Out = Answer;

    async fn commit(&mut self, items: Vec<Report>) -> Vec<Answer> {
        batch::run::<Reports>(&mut self.0, items.into()).await
    }

    async fn close(&mut self) {
        self.0.close().await;
    }
}

struct Reports {
    items: Part<Report>,
    mode: Mode,
    /// The tasks whose report had been recorded before.
    found: Vec<TaskId>,
}

impl Batch for Reports {
    type Item = Report;
    type Answer = Answer;
    const CAN_ASK: bool = true;
    const CALL: &'static str = "report";

    fn new(items: Part<Report>, mode: Mode) -> Self {
        Self { items, mode, found: Vec::new() }
    }

    fn failed(item: &Report, error: &Error) -> Answer {
        match error {
            // The item's own data, or that of its task: the others go on.
            Error::Refused(why) | Error::Corrupt(why) => {
                tracing::error!(task.id = %item.attempt.task_id, error = why, "a worker's report was refused");
                Ok(Fenced::Refused)
            }
            error => Err(error.clone()),
        }
    }

    fn found(&self) -> Vec<TaskId> {
        self.found.clone()
    }
}

/// What was decided about a report.
enum Decided {
    Answer(Fenced),
    /// It is not held: its log tells whether this very report was recorded.
    Look,
}

impl Work for Reports {
    type Out = Vec<Answer>;
    const IS_HOT: bool = true;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Answer>, Fault> {
        self.found.clear();
        let held: HashSet<_> =
            self.items.iter().map(|r| (r.attempt.task_id, r.attempt.number, r.session)).collect();
        let of_all: HashSet<TaskId> = held.iter().map(|(id, ..)| *id).collect();
        // What is reported of an attempt that is held changes its row, or was written by this very process.
        let is_held = |id, row: &Row| {
            row.life.session.is_some_and(|session| held.contains(&(id, row.life.attempt, session)))
        };
        let left = tx.recall(of_all, is_held);
        tx.load(left).await?;
        let mut decided = Vec::with_capacity(self.items.len());
        for report in self.items.iter() {
            decided.push(self.decide(tx, report)?);
        }
        let look: Vec<TaskId> = self
            .items
            .iter()
            .zip(&decided)
            .filter(|(_, decided)| matches!(decided, Decided::Look))
            .map(|(report, _)| report.attempt.task_id)
            .collect();
        let logs = if look.is_empty() { HashMap::new() } else { logs(tx, &look).await? };
        let mut answers = Vec::with_capacity(self.items.len());
        for (report, decided) in self.items.iter().zip(decided) {
            let answer = match decided {
                Decided::Answer(answer) => answer,
                Decided::Look => recorded(report, logs.get(&report.attempt.task_id)),
            };
            if matches!(answer, Fenced::AlreadyRecorded(_)) {
                self.found.push(report.attempt.task_id);
            }
            answers.push(Ok(answer));
        }
        Ok(answers)
    }
}

impl Reports {
    fn decide(&self, tx: &mut Tx<'_>, report: &Report) -> Result<Decided, Fault> {
        let Attempt { task_id, number } = report.attempt;
        let blamed = if let Mode::Blamed(why) = &self.mode { Some(why) } else { None };
        if let (Some(why), Said::Started(_) | Said::Progress(_) | Said::GivenBack) = (blamed, &report.said) {
            tracing::error!(task.id = %task_id, error = why, "a worker's report was refused");
            return Ok(Decided::Answer(Fenced::Refused));
        }
        let now = tx.now();
        let Some(row) = tx.draft.rows.get_mut(&task_id) else { return Ok(Decided::Answer(Fenced::Stale)) };
        let refused = blamed.cloned().or_else(|| too_large(&report.said));
        let command = command(report, refused.as_deref(), row, now);
        let what = match row.life.decide(command) {
            Ok(what) => what,
            Err(Refused::NoChange) => {
                return Ok(Decided::Answer(Fenced::AlreadyRecorded(row.life.state)));
            }
            Err(_) if row.life.attempt == number => return Ok(Decided::Look),
            Err(_) => return Ok(Decided::Answer(Fenced::Stale)),
        };
        if let Said::Ended { started_at, .. } = &report.said {
            // That it ended says that it started: the log needs no line for it.
            row.started_at = row.started_at.filter(|_| row.life.started).or(*started_at);
        }
        let succeeded = what == Happening::Succeeded;
        tx.draft.happen(task_id, what)?;
        if let Said::Ended { result: Some(result), .. } = &report.said
            && succeeded
        {
            tx.draft.results.push((task_id, result.clone()));
        }
        if let Some(why) = refused {
            tracing::error!(task.id = %task_id, error = why, "a result was refused, the attempt ends as failed");
            return Ok(Decided::Answer(Fenced::Refused));
        }
        let state = tx.draft.rows.get(&task_id).map_or(State::Running, |row| row.life.state);
        Ok(Decided::Answer(Fenced::Recorded(state)))
    }
}

fn command(report: &Report, refused: Option<&str>, row: &Row, now: Timestamp) -> Command {
    let (mut session, mut attempt) = (report.session, report.attempt.number);
    match &report.said {
        Said::Started(at) => Command::Start { session, attempt, at: *at },
        Said::Progress(progress) => Command::Progress { session, attempt, progress: progress.clone() },
        Said::GivenBack => Command::GiveBack { session, attempt },
        Said::Ended { outcome, .. } => {
            let outcome = match refused {
                None => outcome.clone(),
                Some(why) => Outcome::Failed {
                    error: TaskError::new(RESULT_REFUSED, why, false),
                    policy: RetryPolicy::default(),
                    retry_after: None,
                    jitter: 0.0,
                },
            };
            if let Some(holder) = row.life.session.filter(|_| Bug::NoFenceOnFinish.is_planted()) {
                (session, attempt) = (holder, row.life.attempt);
            }
            Command::Finish { session, attempt, outcome, max_attempts: row.max_attempts, now }
        }
    }
}

fn too_large(said: &Said) -> Option<String> {
    let Said::Ended { outcome: Outcome::Succeeded, result: Some(result), .. } = said else { return None };
    let (size, most) = (result.len(), limits::RESULT_BYTES);
    (size > most)
        .then(|| format!("a result of {size} bytes, at most {most} are kept; larger ones are artifacts"))
}

/// The logs of tasks, with what this transaction is about to append.
async fn logs(tx: &mut Tx<'_>, ids: &[TaskId]) -> Result<HashMap<TaskId, Vec<Event>>, Fault> {
    let mut logs = events::of_tasks(tx.conn, ids, &mut tx.names).await?;
    for event in tx.draft.unwritten().events {
        if let Some(log) = logs.get_mut(&event.task_id) {
            log.push(event.clone());
        }
    }
    Ok(logs)
}

/// What to answer to a report on an attempt that is not held: whether the log tells of it already.
fn recorded(report: &Report, log: Option<&Vec<Event>>) -> Fenced {
    let Some(event) = log.and_then(|log| end_of(log, report.session, report.attempt.number)) else {
        return Fenced::Stale;
    };
    match &report.said {
        Said::Started(_) | Said::Progress(_) => Fenced::Stale,
        Said::GivenBack => match event.what {
            Happening::Returned | Happening::Cancelled => Fenced::AlreadyRecorded(event.state),
            _ => Fenced::Stale,
        },
        Said::Ended { outcome, .. } => compare(outcome, event),
    }
}

/// What to answer when an attempt that is no longer held has been ended by `event`.
fn compare(outcome: &Outcome, event: &Event) -> Fenced {
    let same = match (outcome, &event.what) {
        (Outcome::Succeeded, Happening::Failed { error, .. }) if error.reason == RESULT_REFUSED => {
            return Fenced::Refused;
        }
        (Outcome::Succeeded, what) => *what == Happening::Succeeded,
        (Outcome::Failed { .. }, Happening::Failed { lost, .. }) => !lost,
        (Outcome::Failed { .. }, what) => {
            matches!(what, Happening::AttemptFailed { .. } | Happening::Cancelled)
        }
        (Outcome::Cancelled, what) => matches!(what, Happening::Returned | Happening::Cancelled),
    };
    if same { Fenced::AlreadyRecorded(event.state) } else { Fenced::Stale }
}

/// The event that ended an attempt, if this session held it.
fn end_of(log: &[Event], session: SessionId, number: u32) -> Option<&Event> {
    let mut of_attempt = log.iter().skip_while(|e| e.attempt != number).take_while(|e| e.attempt == number);
    let claimed = of_attempt.next()?;
    if events::claimed_by(claimed) != Some(session) {
        return None;
    }
    of_attempt.find(|e| e.state != State::Running)
}
