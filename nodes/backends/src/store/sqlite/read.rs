//! Reads of tasks.

use super::events::{self, event_columns};
use super::fault::Fault;
use super::readers::Reader;
use super::rows::{self, AFTER_TASK, task_columns};
use crate::store::names::Names;
use bytes::Bytes;
use callboard_domain::{Attempt, Band, Event, SessionId, State, Task, TaskId, Timestamp};
use callboard_ports::handoff::Ready;
use callboard_ports::store::{Error, Filter, FullTask, QueueDepth};
use rusqlite::{Connection, ToSql, params};
use std::sync::Arc;

/// Up to so many tasks in one state are sorted rather than looked for among all tasks.
const FEW: u64 = 20_000;

const TASK: &str = concat!("SELECT ", task_columns!(), " FROM tasks t WHERE t.id = ?1");
const FULL: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", i.input, r.result FROM tasks t LEFT JOIN task_inputs i ON i.task = t.n \
     LEFT JOIN task_results r ON r.task = t.n WHERE t.id = ?1"
);
const EVENTS: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM task_events e WHERE e.task = (SELECT n FROM tasks WHERE id = ?1) AND e.seq > ?2 \
     ORDER BY e.seq LIMIT ?3"
);
/// The ids are read from their index alone, 26 bytes each, newest first.
const ENDING: &str = "SELECT id FROM tasks WHERE substr(id, -?1) = ?2 ORDER BY id DESC";
const COUNTS: &str = "SELECT state, total FROM task_totals";
/// The queues with QUEUED tasks: one look into the index for each.
const QUEUES: &str = "WITH RECURSIVE q (queue) AS ( \
    SELECT min(queue) FROM tasks INDEXED BY tasks_queued WHERE state = 2 \
    UNION ALL \
    SELECT (SELECT min(t.queue) FROM tasks t INDEXED BY tasks_queued WHERE t.state = 2 AND t.queue > q.queue) \
    FROM q WHERE q.queue IS NOT NULL) \
    SELECT queue FROM q WHERE queue IS NOT NULL";
const DEPTH: &str = "SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY tasks_queued \
    WHERE state = 2 AND queue = ?1 AND band = ?2 LIMIT ?3)";
const QUEUED: &str = "SELECT id, queued_at, handoff, alone, not_before FROM tasks INDEXED BY tasks_queued \
    WHERE state = 2 AND queue = ?1 AND band = ?2 ORDER BY queued_at, id LIMIT ?3";
const HELD: &str =
    "SELECT id, attempt FROM tasks INDEXED BY tasks_running WHERE state = 3 AND session = ?1 ORDER BY id";

/// The tasks with these ids.
pub(super) fn get(reader: &mut Reader, ids: &[TaskId]) -> Result<Vec<Task>, Fault> {
    let snapshot = reader.conn.unchecked_transaction()?;
    let mut statement = snapshot.prepare_cached(TASK)?;
    let mut tasks = Vec::with_capacity(ids.len());
    for id in ids {
        let mut found = statement.query([id.as_bytes().as_slice()])?;
        if let Some(sql) = found.next()? {
            tasks.push(rows::task(sql, &mut reader.names)?);
        }
    }
    Ok(tasks)
}

/// One task with input and result.
pub(super) fn get_full(reader: &mut Reader, id: TaskId) -> Result<Result<FullTask, Error>, Fault> {
    let mut statement = reader.conn.prepare_cached(FULL)?;
    let mut found = statement.query([id.as_bytes().as_slice()])?;
    let Some(sql) = found.next()? else { return Ok(Err(Error::NotFound)) };
    Ok(Ok(FullTask {
        task: rows::task(sql, &mut reader.names)?,
        input: Bytes::copy_from_slice(rows::blob(sql, AFTER_TASK)?),
        result: rows::maybe(sql, AFTER_TASK + 1, rows::blob)?.map(Bytes::copy_from_slice),
    }))
}

/// The one task whose id ends in these digits.
pub(super) fn find(reader: &mut Reader, suffix: &str) -> Result<Result<TaskId, Error>, Fault> {
    // SQLite compares whole bytes; the digit that may stand before them is looked at here.
    let (half, whole) = suffix.split_at_checked(suffix.len() % 2).unwrap_or(("", suffix));
    let Some(bytes) = unhex(whole).filter(|b| (1..=16).contains(&b.len())) else {
        return Ok(Err(Error::NotFound));
    };
    let mut statement = reader.conn.prepare_cached(ENDING)?;
    let mut matching = statement.query(params![bytes.len() as i64, bytes])?;
    let mut found = None;
    while let Some(sql) = matching.next()? {
        let id = rows::bytes16(sql, 0)?;
        let fits = half.is_empty() || {
            let before = id.len().checked_sub(bytes.len() + 1).and_then(|i| id.get(i));
            before.is_some_and(|b| u32::from(b & 0xf) == u32::from_str_radix(half, 16).unwrap_or(u32::MAX))
        };
        if fits && found.replace(TaskId::from_bytes(id)).is_some() {
            return Ok(Err(Error::Ambiguous));
        }
    }
    Ok(found.ok_or(Error::NotFound))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(value(*high)? << 4 | value(*low)?).ok(),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

/// Tasks that fit, newest first. One search per state, so that a rare state is read from its own index.
pub(super) fn list(
    reader: &mut Reader,
    filter: &Filter,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Vec<Task>, Fault> {
    let snapshot = reader.conn.unchecked_transaction()?;
    if filter.states.is_empty() {
        return search(&snapshot, &mut reader.names, "", None, filter, before, limit);
    }
    let totals = totals(&snapshot)?;
    let mut states = filter.states.clone();
    states.sort_unstable();
    states.dedup();
    let mut tasks = Vec::new();
    for state in states {
        let few = totals[state as usize] <= FEW;
        let index = match state {
            State::Failed => "INDEXED BY tasks_failed",
            State::Cancelled => "INDEXED BY tasks_cancelled",
            State::Scheduled if few => "INDEXED BY tasks_scheduled",
            State::Queued if few => "INDEXED BY tasks_queued",
            State::Running => "INDEXED BY tasks_running",
            State::Scheduled | State::Queued | State::Succeeded => "",
        };
        tasks.extend(search(&snapshot, &mut reader.names, index, Some(state), filter, before, limit)?);
    }
    tasks.sort_unstable_by_key(|task| std::cmp::Reverse(task.spec.id));
    tasks.truncate(limit);
    Ok(tasks)
}

fn search(
    conn: &Connection,
    names: &mut Names,
    index: &str,
    state: Option<State>,
    filter: &Filter,
    before: Option<TaskId>,
    limit: usize,
) -> Result<Vec<Task>, Fault> {
    let mut sql = format!("SELECT {} FROM tasks t {index} WHERE true", task_columns!());
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(state) = state {
        // A number in the text, not a parameter: only so does SQLite see that a partial index fits.
        sql.push_str(&format!(" AND t.state = {}", state.code()));
    }
    let mut and = |condition: &str, value: Box<dyn ToSql>| {
        values.push(value);
        sql.push_str(&format!(" AND {condition} ?{}", values.len()));
    };
    if let Some(id) = before {
        and("t.id <", Box::new(id.as_bytes().to_vec()));
    }
    if let Some(kind) = &filter.kind {
        and("t.kind =", Box::new(kind.clone()));
    }
    if let Some(queue) = &filter.queue {
        and("t.queue =", Box::new(queue.clone()));
    }
    if let Some(at) = filter.created_after {
        and("t.created_at >=", Box::new(at.micros()));
    }
    if let Some(at) = filter.created_before {
        and("t.created_at <", Box::new(at.micros()));
    }
    values.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
    sql.push_str(&format!(" ORDER BY t.id DESC LIMIT ?{}", values.len()));

    let mut statement = conn.prepare_cached(&sql)?;
    let mut found = statement.query(rusqlite::params_from_iter(values))?;
    let mut tasks = Vec::new();
    while let Some(sql) = found.next()? {
        match rows::task(sql, names) {
            Ok(task) => tasks.push(task),
            // One row that cannot be read must not hide all the others.
            Err(error) => tracing::error!(%error, "a stored task cannot be read, it is not listed"),
        }
    }
    Ok(tasks)
}

/// Events of a task after a seq.
pub(super) fn log(
    reader: &mut Reader,
    id: TaskId,
    after_seq: u64,
    limit: usize,
) -> Result<Vec<Event>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = params![id.as_bytes().as_slice(), rows::stored(after_seq), limit];
    Ok(events::read_all(&mut reader.conn.prepare_cached(EVENTS)?, values, id, &mut reader.names)?)
}

/// How many tasks are in each state.
pub(super) fn counts(reader: &mut Reader) -> Result<[u64; 6], Fault> {
    Ok(totals(&reader.conn)?)
}

fn totals(conn: &Connection) -> rusqlite::Result<[u64; 6]> {
    let mut totals = [0; 6];
    let mut statement = conn.prepare_cached(COUNTS)?;
    let mut found = statement.query([])?;
    while let Some(sql) = found.next()? {
        totals[rows::state(sql, 0)? as usize] = rows::count(sql, 1)?;
    }
    Ok(totals)
}

fn queues(conn: &Connection, names: &mut Names) -> rusqlite::Result<Vec<Arc<str>>> {
    conn.prepare_cached(QUEUES)?.query_map([], |sql| rows::name(sql, 0, names))?.collect()
}

/// How deep each of so many queues is, each band counted up to `most`.
pub(super) fn queue_depths(
    reader: &mut Reader,
    most_queues: usize,
    most: u64,
) -> Result<Vec<QueueDepth>, Fault> {
    let snapshot = reader.conn.unchecked_transaction()?;
    let mut depths = Vec::new();
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    for queue in queues(&snapshot, &mut reader.names)?.into_iter().take(most_queues) {
        let mut depth = QueueDepth { queue, bands: [0; 3], oldest: None };
        for band in Band::ALL {
            let index = band.index();
            depth.bands[usize::from(index)] = snapshot
                .prepare_cached(DEPTH)?
                .query_one(params![&*depth.queue, index, most], |sql| rows::count(sql, 0))?;
            let mut statement = snapshot.prepare_cached(QUEUED)?;
            let mut first = statement.query(params![&*depth.queue, index, 1])?;
            if let Some(sql) = first.next()? {
                let this = (TaskId::from_bytes(rows::bytes16(sql, 0)?), rows::time(sql, 1)?);
                let age = |(id, at): &(TaskId, Timestamp)| (*at, *id);
                depth.oldest = depth.oldest.into_iter().chain([this]).min_by_key(age);
            }
        }
        depths.push(depth);
    }
    Ok(depths)
}

/// The oldest QUEUED tasks of each queue and band. All from the index.
pub(super) fn queued(reader: &mut Reader, only: Vec<Arc<str>>, limit: usize) -> Result<Vec<Ready>, Fault> {
    let snapshot = reader.conn.unchecked_transaction()?;
    let names = if only.is_empty() { queues(&snapshot, &mut reader.names)? } else { only };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut waiting = Vec::new();
    for queue in names {
        for band in Band::ALL {
            let mut statement = snapshot.prepare_cached(QUEUED)?;
            let mut found = statement.query(params![&*queue, band.index(), limit])?;
            while let Some(sql) = found.next()? {
                waiting.push(Ready {
                    id: TaskId::from_bytes(rows::bytes16(sql, 0)?),
                    handoff: rows::count(sql, 2)?,
                    queue: Arc::clone(&queue),
                    band,
                    alone: sql.get(3)?,
                    not_before: rows::maybe(sql, 4, rows::time)?,
                });
            }
        }
    }
    Ok(waiting)
}

/// The attempts a session holds.
pub(super) fn held_by(reader: &mut Reader, session: SessionId) -> Result<Vec<Attempt>, Fault> {
    let mut statement = reader.conn.prepare_cached(HELD)?;
    let held = statement.query_map([session.as_bytes().as_slice()], |sql| {
        Ok(Attempt { task_id: TaskId::from_bytes(rows::bytes16(sql, 0)?), number: sql.get(1)? })
    })?;
    Ok(held.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn what_runs_often_or_over_much_reads_an_index_alone() {
        let folder = tempfile::tempdir().unwrap();
        let conn = schema::open_writer(&folder.path().join("store.db")).unwrap();
        for sql in [QUEUED, DEPTH, HELD, ENDING] {
            let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let mut found = statement.raw_query();
            let mut plan = String::new();
            while let Some(row) = found.next().unwrap() {
                plan += &row.get::<_, String>(3).unwrap();
            }
            assert!(plan.contains("COVERING INDEX") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
    }
}
