//! Taking tasks for their next attempt.

use super::fault::Fault;
use super::rows::{self, AFTER_TASK, Row, task_columns};
use super::tx::Tx;
use bytes::Bytes;
use callboard_domain::{
    Command, Happening, Outcome, RetryPolicy, SessionId, Spec, State, Task, TaskError, TaskId,
};
use callboard_ports::store::{Claim, ClaimRequest, Claimed, Error};
use std::sync::Arc;
use std::time::Duration;

/// How long a task that a node does not host waits before it is handed off again.
const NOT_MINE: Duration = Duration::from_secs(5);

const SELECT: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", i.input FROM tasks t LEFT JOIN task_inputs i ON i.task = t.n WHERE t.id = ?1"
);
const IS_LIVE: &str = "SELECT 1 FROM node_sessions WHERE id = ?1 AND ended_at IS NULL";

/// Whether a session is live.
pub(super) fn is_live(tx: &Tx<'_>, session: SessionId) -> Result<bool, Fault> {
    Ok(tx.sql(IS_LIVE)?.exists([session.as_bytes().as_slice()])?)
}

/// Claims what `request` takes and hands off again what it gives back.
pub(super) fn claim(tx: &mut Tx<'_>, request: &ClaimRequest) -> Result<Result<Vec<Claim>, Error>, Fault> {
    if !is_live(tx, request.session)? {
        return Ok(Err(Error::SessionEnded));
    }
    let claims = request
        .take
        .iter()
        .map(|id| tx.isolated(|tx| one(tx, request, *id), |tx, fault| unreadable(tx, request, *id, &fault)))
        .collect::<Result<_, _>>()?;
    for id in &request.give_back {
        tx.isolated(
            |tx| give_back(tx, *id),
            |_, fault| {
                tracing::error!(task.id = %id, error = %fault, "a task cannot be handed off again");
                Ok(())
            },
        )?;
    }
    Ok(Ok(claims))
}

/// What is read of a task to claim it.
#[expect(clippy::large_enum_variant, reason = "lives for one call, and nearly always is the large one")]
enum Found {
    Gone,
    NotMine(Row),
    Mine { row: Row, what: Happening, spec: Spec, input: Bytes },
}

fn one(tx: &mut Tx<'_>, request: &ClaimRequest, id: TaskId) -> Result<Claim, Fault> {
    if tx.careful {
        // A row that cannot be read may be rebuilt from the log.
        tx.load(id)?;
    }
    match find(tx, request, id)? {
        Found::Gone => Ok(Claim::Gone(id)),
        Found::NotMine(mut row) => {
            row.not_before = Some(tx.now.after(NOT_MINE));
            tx.hand_off_again(&mut row)?;
            Ok(Claim::NotMine(id))
        }
        Found::Mine { mut row, what, spec, input } => {
            row.node = Some(Arc::clone(&request.node));
            tx.happen(&mut row, what)?;
            tx.save(&row)?;
            let task = Task {
                spec,
                life: row.life,
                started_at: None,
                finished_at: None,
                progress: None,
                error: None,
                node: row.node,
            };
            Ok(Claim::Claimed(Box::new(Claimed { task, input })))
        }
    }
}

fn find(tx: &mut Tx<'_>, request: &ClaimRequest, id: TaskId) -> Result<Found, Fault> {
    if let Some(row) = tx.recent(id) {
        let Ok(what) = row.life.decide(Command::Claim { session: request.session }) else {
            return Ok(Found::Gone);
        };
        let row = row.clone();
        if let Some((spec, input)) = tx.scratch.recent.take_unclaimed(id) {
            return Ok(if request.hosted.contains(&*spec.kind) {
                Found::Mine { row, what, spec, input }
            } else {
                Found::NotMine(row)
            });
        }
    }
    read(tx, request, id)
}

fn read(tx: &mut Tx<'_>, request: &ClaimRequest, id: TaskId) -> Result<Found, Fault> {
    let mut statement = tx.sql(SELECT)?;
    let mut found = statement.query([id.as_bytes().as_slice()])?;
    let Some(sql) = found.next()? else { return Ok(Found::Gone) };
    let row = rows::row(sql, &mut tx.scratch.names)?;
    let Ok(what) = row.life.decide(Command::Claim { session: request.session }) else {
        return Ok(Found::Gone);
    };
    let spec = rows::spec(sql, &mut tx.scratch.names, &row)?;
    if !request.hosted.contains(&*spec.kind) {
        return Ok(Found::NotMine(row));
    }
    let input = Bytes::copy_from_slice(rows::blob(sql, AFTER_TASK)?);
    Ok(Found::Mine { row, what, spec, input })
}

/// Ends a task that no attempt can ever run, so that it is not handed off for ever.
fn unreadable(tx: &mut Tx<'_>, request: &ClaimRequest, id: TaskId, fault: &Fault) -> Result<Claim, Fault> {
    tracing::error!(task.id = %id, error = %fault, "a stored task cannot be read, it ends as failed");
    let end = |tx: &mut Tx<'_>| {
        let Some(mut row) = tx.load(id)? else { return Ok(Claim::Gone(id)) };
        let Ok(claimed) = row.life.decide(Command::Claim { session: request.session }) else {
            return Ok(Claim::Gone(id));
        };
        row.node = Some(Arc::clone(&request.node));
        tx.happen(&mut row, claimed)?;
        let message = format!("what is stored of the task cannot be read: {fault}");
        let finish = Command::Finish {
            session: request.session,
            attempt: row.life.attempt,
            outcome: Outcome::Failed {
                error: TaskError::new("TASK_UNREADABLE", message, false),
                policy: RetryPolicy::default(),
                retry_after: None,
                jitter: 0.0,
            },
            max_attempts: row.max_attempts,
            now: tx.now,
        };
        if let Ok(failed) = row.life.decide(finish) {
            tx.happen(&mut row, failed)?;
        }
        tx.save(&row)?;
        Ok(Claim::Gone(id))
    };
    tx.isolated(end, |_, fault| {
        tracing::error!(task.id = %id, error = %fault, "a stored task cannot be read, nor ended");
        Ok(Claim::Gone(id))
    })
}

fn give_back(tx: &mut Tx<'_>, id: TaskId) -> Result<(), Fault> {
    match tx.load(id)? {
        Some(mut row) if row.life.state == State::Queued => tx.hand_off_again(&mut row),
        _ => Ok(()),
    }
}
