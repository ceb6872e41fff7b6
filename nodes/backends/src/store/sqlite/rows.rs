//! How the columns of a task become values.
//!
//! Two views of one row share a column layout: [`Row`], all that a transition reads and writes, and the
//! whole [`Task`] for a caller.

use crate::store::names::Names;
use crate::store::recent::Stored;
use callboard_domain::{
    Band, Lifecycle, Priority, Progress, SessionId, Spec, State, Task, TaskError, TaskId, Timestamp,
};
use rusqlite::types::{FromSqlError, Type};
use std::sync::Arc;
use std::time::Duration;

/// The columns of a [`Row`], from 0.
macro_rules! row_columns {
    () => {
        "t.n, t.id, t.state, t.attempt, t.failures, t.lost, t.last_seq, t.session, t.started, \
         t.cancel_requested, t.run_at, t.handoff, t.queued_at, t.not_before, t.started_at, t.finished_at, \
         t.node, t.queue, t.band, t.max_attempts, \
         t.progress_percent IS NOT NULL OR t.error_reason IS NOT NULL"
    };
}

/// The columns of a [`Task`]: those of a [`Row`], then its own.
macro_rules! task_columns {
    () => {
        concat!(
            crate::store::sqlite::rows::row_columns!(),
            ", t.namespace, t.kind, t.priority, t.timeout_us, t.created_at, t.request_id, t.traceparent, \
             t.retry_of, t.progress_percent, t.progress_message, t.error_reason, t.error_message, \
             t.error_retryable"
        )
    };
}

pub(super) use {row_columns, task_columns};

/// The first column after those of a [`Task`].
pub(super) const AFTER_TASK: usize = 34;
const SPEC: usize = 21;

/// What a transition reads and writes of a task.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Its key within this file.
    pub(super) n: i64,
    pub(super) id: TaskId,
    pub(super) life: Lifecycle,
    pub(super) handoff: u64,
    pub(super) queued_at: Option<Timestamp>,
    pub(super) not_before: Option<Timestamp>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) node: Option<Arc<str>>,
    pub(super) queue: Arc<str>,
    pub(super) band: Band,
    pub(super) max_attempts: u32,
    /// Whether progress or an error is stored.
    pub(super) noted: bool,
}

impl Stored for Row {
    fn id(&self) -> TaskId {
        self.id
    }

    fn has_ended(&self) -> bool {
        self.life.state.is_terminal()
    }

    /// There is one writer.
    fn is_after(&self, _: &Self) -> bool {
        true
    }
}

/// Reads a [`Row`].
pub(super) fn row(sql: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Row> {
    Ok(Row {
        n: sql.get(0)?,
        id: TaskId::from_bytes(bytes16(sql, 1)?),
        life: Lifecycle {
            state: state(sql, 2)?,
            attempt: sql.get(3)?,
            failures: sql.get(4)?,
            lost: sql.get(5)?,
            seq: count(sql, 6)?,
            session: maybe(sql, 7, bytes16)?.map(SessionId::from_bytes),
            started: sql.get(8)?,
            cancel_requested: sql.get(9)?,
            run_at: time(sql, 10)?,
        },
        handoff: count(sql, 11)?,
        queued_at: maybe(sql, 12, time)?,
        not_before: maybe(sql, 13, time)?,
        started_at: maybe(sql, 14, time)?,
        finished_at: maybe(sql, 15, time)?,
        node: maybe(sql, 16, |sql, i| name(sql, i, names))?,
        queue: name(sql, 17, names)?,
        band: band(sql, 18)?,
        max_attempts: sql.get(19)?,
        noted: sql.get(20)?,
    })
}

/// Reads the whole [`Task`].
pub(super) fn task(sql: &rusqlite::Row<'_>, names: &mut Names) -> rusqlite::Result<Task> {
    let row = row(sql, names)?;
    let spec = spec(sql, names, &row)?;
    Ok(Task {
        spec,
        life: row.life,
        started_at: row.started_at,
        finished_at: row.finished_at,
        progress: progress(sql)?,
        error: error(sql)?,
        node: row.node,
    })
}

/// Reads what never changes about a task.
pub(super) fn spec(sql: &rusqlite::Row<'_>, names: &mut Names, row: &Row) -> rusqlite::Result<Spec> {
    Ok(Spec {
        id: row.id,
        namespace: name(sql, SPEC, names)?,
        kind: name(sql, SPEC + 1, names)?,
        queue: Arc::clone(&row.queue),
        priority: Priority::new(sql.get(SPEC + 2)?).ok_or_else(|| wrong(SPEC + 2, Type::Integer))?,
        max_attempts: row.max_attempts,
        timeout: span(sql, SPEC + 3)?,
        created_at: time(sql, SPEC + 4)?,
        request_id: maybe(sql, SPEC + 5, text)?.map(Arc::from),
        traceparent: maybe(sql, SPEC + 6, text)?.map(Arc::from),
        retry_of: maybe(sql, SPEC + 7, bytes16)?.map(TaskId::from_bytes),
    })
}

fn progress(sql: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Progress>> {
    let Some(percent) = sql.get(SPEC + 8)? else { return Ok(None) };
    Ok(Some(Progress { percent, message: sql.get::<_, Option<String>>(SPEC + 9)?.unwrap_or_default() }))
}

fn error(sql: &rusqlite::Row<'_>) -> rusqlite::Result<Option<TaskError>> {
    let Some(reason) = sql.get(SPEC + 10)? else { return Ok(None) };
    Ok(Some(TaskError {
        reason,
        message: sql.get::<_, Option<String>>(SPEC + 11)?.unwrap_or_default(),
        retryable: sql.get::<_, Option<bool>>(SPEC + 12)?.unwrap_or_default(),
    }))
}

/// A value that may be NULL.
pub(super) fn maybe<'a, T>(
    sql: &'a rusqlite::Row<'_>,
    i: usize,
    read: impl FnOnce(&'a rusqlite::Row<'_>, usize) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    if sql.get_ref(i)? == rusqlite::types::ValueRef::Null { Ok(None) } else { read(sql, i).map(Some) }
}

/// The 16 bytes of an id.
pub(super) fn bytes16(sql: &rusqlite::Row<'_>, i: usize) -> rusqlite::Result<[u8; 16]> {
    sql.get_ref(i)?.as_blob().ok().and_then(|b| b.try_into().ok()).ok_or_else(|| wrong(i, Type::Blob))
}

/// A point in time.
pub(super) fn time(sql: &rusqlite::Row<'_>, i: usize) -> rusqlite::Result<Timestamp> {
    sql.get(i).map(Timestamp::from_micros)
}

/// A span, stored as microseconds.
pub(super) fn span(sql: &rusqlite::Row<'_>, i: usize) -> rusqlite::Result<Duration> {
    count(sql, i).map(Duration::from_micros)
}

/// A number that is never negative.
pub(super) fn count(sql: &rusqlite::Row<'_>, i: usize) -> rusqlite::Result<u64> {
    u64::try_from(sql.get::<_, i64>(i)?).map_err(|_| wrong(i, Type::Integer))
}

/// A state, stored as its code.
pub(super) fn state(sql: &rusqlite::Row<'_>, i: usize) -> rusqlite::Result<State> {
    State::from_code(sql.get(i)?).ok_or_else(|| wrong(i, Type::Integer))
}

/// A band, stored as its index.
pub(super) fn band(sql: &rusqlite::Row<'_>, i: usize) -> rusqlite::Result<Band> {
    Band::from_index(sql.get(i)?).ok_or_else(|| wrong(i, Type::Integer))
}

/// A name that many rows share.
pub(super) fn name(sql: &rusqlite::Row<'_>, i: usize, names: &mut Names) -> rusqlite::Result<Arc<str>> {
    text(sql, i).map(|t| names.get(t))
}

/// Text, borrowed from the row.
pub(super) fn text<'a>(sql: &'a rusqlite::Row<'_>, i: usize) -> rusqlite::Result<&'a str> {
    sql.get_ref(i)?.as_str().map_err(|_| wrong(i, Type::Text))
}

/// A value that is not what was stored.
pub(super) fn wrong(i: usize, kind: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(i, kind, Box::new(FromSqlError::InvalidType))
}

/// A count as SQLite stores it.
pub(super) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A span as SQLite stores it, in microseconds.
pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Bytes, borrowed from the row.
pub(super) fn blob<'a>(sql: &'a rusqlite::Row<'_>, i: usize) -> rusqlite::Result<&'a [u8]> {
    sql.get_ref(i)?.as_blob().map_err(|_| wrong(i, Type::Blob))
}
