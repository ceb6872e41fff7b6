//! Writing new tasks down.

use super::fault::Fault;
use super::rows::{self, AFTER_TASK, Row, task_columns};
use super::tx::Tx;
use callboard_domain::{Lifecycle, NewTask, Spec, State, Task, Timestamp, limits};
use callboard_ports::store::{Admitted, Error};
use rusqlite::{ErrorCode, params};
use std::sync::Arc;

const INSERT: &str = "INSERT INTO tasks (id, state, attempt, failures, lost, last_seq, started, \
    cancel_requested, run_at, handoff, alone, queued_at, queue, band, max_attempts, namespace, kind, \
    priority, timeout_us, created_at, request_id, traceparent, retry_of) \
    VALUES (?1, ?2, 0, 0, 0, 1, 0, 0, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
const INSERT_INPUT: &str = "INSERT INTO task_inputs (task, input) VALUES (?1, ?2)";
const BY_REQUEST: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", i.input FROM tasks t LEFT JOIN task_inputs i ON i.task = t.n \
     WHERE t.namespace = ?1 AND t.request_id = ?2"
);
const BY_ID: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", i.input FROM tasks t LEFT JOIN task_inputs i ON i.task = t.n WHERE t.id = ?1"
);

/// Admits a batch. The outer error undoes all of it, the inner ones are each for one task.
pub(super) fn admit(tx: &mut Tx<'_>, batch: &[NewTask]) -> Result<Vec<Result<Admitted, Error>>, Fault> {
    batch.iter().map(|new| tx.isolated(|tx| one(tx, new), |_, fault| Ok(Err(Error::from(&fault))))).collect()
}

fn one(tx: &mut Tx<'_>, new: &NewTask) -> Result<Result<Admitted, Error>, Fault> {
    if new.input.len() > limits::INPUT_BYTES {
        let message =
            format!("an input of {} bytes, at most {} are kept", new.input.len(), limits::INPUT_BYTES);
        return Ok(Err(Error::Refused(message)));
    }
    let (life, submitted) = Lifecycle::submit(new.run_at, tx.now);
    let mut row = Row {
        n: 0,
        id: new.spec.id,
        life,
        handoff: 0,
        queued_at: None,
        not_before: None,
        started_at: None,
        finished_at: None,
        node: None,
        queue: Arc::clone(&new.spec.queue),
        band: new.spec.priority.band(),
        max_attempts: new.spec.max_attempts,
        noted: false,
    };
    let queued = row.life.state == State::Queued;
    match insert(tx, &row, &new.spec, queued) {
        Ok(n) => row.n = n,
        // The statement undid itself; the transaction goes on.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            return Ok(known(tx, new)?.unwrap_or_else(|| Err(Error::Refused(error.to_string()))));
        }
        Err(error) => return Err(error.into()),
    }
    tx.sql(INSERT_INPUT)?.execute(params![row.n, new.input.as_ref()])?;
    tx.entered(&mut row);
    tx.append(&row, submitted, None)?;
    let spec = Spec { created_at: tx.now, ..new.spec.clone() };
    if !tx.careful {
        tx.scratch.recent.admitted(&row, &spec, &new.input);
    }
    let task = Task {
        spec,
        life: row.life,
        started_at: None,
        finished_at: None,
        progress: None,
        error: None,
        node: None,
    };
    Ok(Ok(Admitted { task, existed: false }))
}

/// Inserts the row as [`Tx::entered`] will leave it, so that it is written once.
fn insert(tx: &Tx<'_>, row: &Row, spec: &Spec, queued: bool) -> rusqlite::Result<i64> {
    tx.sql(INSERT)?.insert(params![
        spec.id.as_bytes().as_slice(),
        row.life.state.code(),
        row.life.run_at.micros(),
        queued,
        queued.then_some(tx.now).map(Timestamp::micros),
        &*spec.queue,
        row.band.index(),
        spec.max_attempts,
        &*spec.namespace,
        &*spec.kind,
        spec.priority.value(),
        rows::micros(spec.timeout),
        tx.now.micros(),
        spec.request_id.as_deref(),
        spec.traceparent.as_deref(),
        spec.retry_of.as_ref().map(|id| id.as_bytes().as_slice()),
    ])
}

/// The task that is in the way of a new one: the same one, admitted before, or another.
fn known(tx: &mut Tx<'_>, new: &NewTask) -> Result<Option<Result<Admitted, Error>>, Fault> {
    if let Some(request_id) = &new.spec.request_id {
        let mut statement = tx.sql(BY_REQUEST)?;
        let mut found = statement.query(params![&*new.spec.namespace, &**request_id])?;
        if let Some(sql) = found.next()? {
            let task = rows::task(sql, &mut tx.scratch.names)?;
            let same = is_same(sql, &task, new)?;
            let reused = Error::RequestIdReused(task.spec.id);
            return Ok(Some(if same { Ok(Admitted { task, existed: true }) } else { Err(reused) }));
        }
    }
    // The caller did not learn that its write was committed, and tries again with the same id.
    let mut statement = tx.sql(BY_ID)?;
    let mut found = statement.query([new.spec.id.as_bytes().as_slice()])?;
    let Some(sql) = found.next()? else { return Ok(None) };
    let task = rows::task(sql, &mut tx.scratch.names)?;
    let same = task.spec.namespace == new.spec.namespace
        && task.spec.request_id == new.spec.request_id
        && is_same(sql, &task, new)?;
    let taken = Error::Refused(format!("another task has the id {}", new.spec.id));
    Ok(Some(if same { Ok(Admitted { task, existed: true }) } else { Err(taken) }))
}

fn is_same(sql: &rusqlite::Row<'_>, task: &Task, new: &NewTask) -> rusqlite::Result<bool> {
    let input = rows::maybe(sql, AFTER_TASK, rows::blob)?;
    Ok(task.spec.kind == new.spec.kind && input == Some(new.input.as_ref()))
}
