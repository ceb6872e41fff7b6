//! What a worker writes about the attempts it holds: started, progress, end, given back.
//!
//! Everything here is fenced by session and attempt.

use super::events;
use super::fault::Fault;
use super::rows::Row;
use super::tx::Tx;
use callboard_domain::{
    Attempt, Command, Event, Happening, Outcome, Refused, RetryPolicy, SessionId, State, TaskError, limits,
};
use callboard_ports::store::{Fenced, Finish, ProgressReport, Started};
use rusqlite::params;

/// Why a task failed whose result was refused.
const RESULT_REFUSED: &str = "RESULT_REFUSED";

const INSERT_RESULT: &str = "INSERT INTO task_results (task, result) VALUES (?1, ?2)";

/// Records starts.
pub(super) fn start(tx: &mut Tx<'_>, session: SessionId, batch: &[Started]) -> Result<Vec<Fenced>, Fault> {
    each(tx, batch, |tx, Started { attempt, at }| {
        let command = Command::Start { session, attempt: attempt.number, at: *at };
        fenced(tx, *attempt, command, |_, _, refused| Ok(refused))
    })
}

/// Records progress.
pub(super) fn progress(
    tx: &mut Tx<'_>,
    session: SessionId,
    batch: &[ProgressReport],
) -> Result<Vec<Fenced>, Fault> {
    each(tx, batch, |tx, ProgressReport { attempt, progress }| {
        let command = Command::Progress { session, attempt: attempt.number, progress: progress.clone() };
        fenced(tx, *attempt, command, |_, _, refused| Ok(refused))
    })
}

/// Hands attempts off again.
pub(super) fn give_back(
    tx: &mut Tx<'_>,
    session: SessionId,
    batch: &[Attempt],
) -> Result<Vec<Fenced>, Fault> {
    each(tx, batch, |tx, attempt| {
        let command = Command::GiveBack { session, attempt: attempt.number };
        fenced(tx, *attempt, command, |tx, row, _| {
            let end = end_of(tx, row, session, attempt.number)?;
            Ok(match end {
                Some(Event { what: Happening::Returned | Happening::Cancelled, state, .. }) => {
                    Fenced::AlreadyRecorded(state)
                }
                _ => Fenced::Stale,
            })
        })
    })
}

/// Records ends.
pub(super) fn finish(tx: &mut Tx<'_>, session: SessionId, batch: &[Finish]) -> Result<Vec<Fenced>, Fault> {
    batch
        .iter()
        .map(|end| {
            tx.isolated(
                |tx| finish_one(tx, session, end, None),
                |tx, fault| {
                    let id = end.attempt.task_id;
                    tracing::error!(task.id = %id, error = %fault, "a result was refused, the attempt ends as failed");
                    let why = fault.to_string();
                    tx.isolated(|tx| finish_one(tx, session, end, Some(why)), |_, _| Ok(Fenced::Refused))
                },
            )
        })
        .collect()
}

fn finish_one(
    tx: &mut Tx<'_>,
    session: SessionId,
    end: &Finish,
    refused: Option<String>,
) -> Result<Fenced, Fault> {
    let Some(mut row) = tx.load(end.attempt.task_id)? else { return Ok(Fenced::Stale) };
    let refused = refused.or_else(|| too_large(end));
    let command = Command::Finish {
        session,
        attempt: end.attempt.number,
        outcome: match &refused {
            None => end.outcome.clone(),
            Some(why) => Outcome::Failed {
                error: TaskError::new(RESULT_REFUSED, why.clone(), false),
                policy: RetryPolicy::default(),
                retry_after: None,
                jitter: 0.0,
            },
        },
        max_attempts: row.max_attempts,
        now: tx.now,
    };
    let Ok(what) = row.life.decide(command) else {
        let recorded = end_of(tx, &row, session, end.attempt.number)?;
        return Ok(recorded.map_or(Fenced::Stale, |event| compare(&end.outcome, &event)));
    };
    // That it ended says that it started: the log needs no line for it.
    row.started_at = row.started_at.filter(|_| row.life.started).or(end.started_at);
    let succeeded = what == Happening::Succeeded;
    tx.happen(&mut row, what)?;
    tx.save(&row)?;
    if let Some(result) = end.result.as_ref().filter(|_| succeeded) {
        tx.sql(INSERT_RESULT)?.execute(params![row.n, result.as_ref()])?;
    }
    Ok(if refused.is_some() { Fenced::Refused } else { Fenced::Recorded(row.life.state) })
}

fn too_large(end: &Finish) -> Option<String> {
    let size = end.result.as_ref().filter(|_| end.outcome == Outcome::Succeeded)?.len();
    (size > limits::RESULT_BYTES).then(|| {
        format!(
            "a result of {size} bytes, at most {} are kept; larger ones are artifacts",
            limits::RESULT_BYTES
        )
    })
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

/// The event that ended the newest attempt, if that is this one and this session held it. Rare: read
/// from the log.
fn end_of(tx: &mut Tx<'_>, row: &Row, session: SessionId, number: u32) -> Result<Option<Event>, Fault> {
    if row.life.attempt != number {
        return Ok(None);
    }
    let log = tx.log(row)?;
    let mut of_attempt =
        log.into_iter().skip_while(|e| e.attempt != number).take_while(|e| e.attempt == number);
    let claimed = of_attempt.next();
    if claimed.and_then(|e| events::claimed_by(&[e])) != Some(session) {
        return Ok(None);
    }
    Ok(of_attempt.find(|e| e.state != State::Running))
}

fn each<T>(
    tx: &mut Tx<'_>,
    batch: &[T],
    one: impl Fn(&mut Tx<'_>, &T) -> Result<Fenced, Fault>,
) -> Result<Vec<Fenced>, Fault> {
    let refused = |_: &mut Tx<'_>, fault: Fault| {
        tracing::error!(error = %fault, "a worker's report was refused");
        Ok(Fenced::Refused)
    };
    batch.iter().map(|item| tx.isolated(|tx| one(tx, item), refused)).collect()
}

/// Runs a command on the attempt's task. `stale` looks again when it is not held.
fn fenced(
    tx: &mut Tx<'_>,
    attempt: Attempt,
    command: Command,
    stale: impl FnOnce(&mut Tx<'_>, &Row, Fenced) -> Result<Fenced, Fault>,
) -> Result<Fenced, Fault> {
    let Some(mut row) = tx.load(attempt.task_id)? else { return Ok(Fenced::Stale) };
    match row.life.decide(command) {
        Ok(what) => {
            tx.happen(&mut row, what)?;
            tx.save(&row)?;
            Ok(Fenced::Recorded(row.life.state))
        }
        Err(Refused::NoChange) => Ok(Fenced::AlreadyRecorded(row.life.state)),
        Err(_) => stale(tx, &row, Fenced::Stale),
    }
}
