//! Tasks that wait: releasing those whose time has come, and cancelling.

use super::fault::Fault;
use super::rows::{self, task_columns};
use super::tx::Tx;
use callboard_domain::{Command, TaskId, Timestamp};
use callboard_ports::store::{Cancelled, Error, Released};
use rusqlite::params;

const DUE: &str = "SELECT id FROM tasks INDEXED BY tasks_scheduled WHERE state = 1 AND run_at <= ?1 \
                   ORDER BY run_at, id LIMIT ?2";
const NEXT_DUE: &str = "SELECT min(run_at) FROM tasks INDEXED BY tasks_scheduled WHERE state = 1";
const TASK: &str = concat!("SELECT ", task_columns!(), " FROM tasks t WHERE t.id = ?1");

/// Queues tasks whose time has come.
pub(super) fn release_due(tx: &mut Tx<'_>, limit: usize) -> Result<Released, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let due: Vec<TaskId> = tx
        .sql(DUE)?
        .query_map(params![tx.now.micros(), limit], |sql| rows::bytes16(sql, 0).map(TaskId::from_bytes))?
        .collect::<Result<_, _>>()?;
    let mut count = 0;
    for id in due {
        count += tx.isolated(
            |tx| release(tx, id),
            |_, fault| {
                tracing::error!(task.id = %id, error = %fault, "a task that is due cannot be queued");
                Ok(0)
            },
        )?;
    }
    let next: Option<i64> = tx.sql(NEXT_DUE)?.query_one([], |sql| sql.get(0))?;
    Ok(Released { count, next_due: next.map(Timestamp::from_micros) })
}

fn release(tx: &mut Tx<'_>, id: TaskId) -> Result<usize, Fault> {
    let Some(mut row) = tx.load(id)? else { return Ok(0) };
    let Ok(what) = row.life.decide(Command::Release { now: tx.now }) else { return Ok(0) };
    tx.happen(&mut row, what)?;
    tx.save(&row)?;
    Ok(1)
}

/// Cancels a task, or asks the one who runs it to.
pub(super) fn cancel(tx: &mut Tx<'_>, id: TaskId) -> Result<Result<Cancelled, Error>, Fault> {
    let Some(mut row) = tx.load(id)? else { return Ok(Err(Error::NotFound)) };
    let decided = row.life.decide(Command::Cancel);
    let changed = decided.is_ok();
    if let Ok(what) = decided {
        tx.happen(&mut row, what)?;
        tx.save(&row)?;
    }
    let task =
        tx.sql(TASK)?.query_one([id.as_bytes().as_slice()], |sql| rows::task(sql, &mut tx.scratch.names))?;
    Ok(Ok(Cancelled { task, changed, running_under: row.life.session }))
}
