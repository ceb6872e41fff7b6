//! How the columns of a task become values.
//!
//! Two views of one row share a column layout: [`Row`], all that a transition reads and writes, and the
//! whole [`Task`] for a caller.

use super::fault::Fault;
use crate::store::names::Names;
use crate::store::recent::Stored;
use callboard_domain::{
    Band, Lifecycle, Priority, Progress, SessionId, Spec, State, Task, TaskError, TaskId, Timestamp,
};
use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row as _, Type};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The columns of a [`Row`], from 0.
macro_rules! row_columns {
    () => {
        "t.id, t.state, t.attempt, t.failures, t.lost, t.last_seq, t.session, t.started, \
         t.cancel_requested, t.run_at, t.handoff, t.queued_at, t.not_before, t.started_at, t.finished_at, \
         t.node, t.queue, t.band, t.max_attempts, \
         t.progress_percent IS NOT NULL OR t.error_reason IS NOT NULL"
    };
}

/// The columns of a [`Task`]: those of a [`Row`], then its own.
macro_rules! task_columns {
    () => {
        concat!(
            crate::store::postgres::rows::row_columns!(),
            ", t.namespace, t.kind, t.priority, t.timeout_us, t.created_at, t.request_id, t.traceparent, \
             t.retry_of, t.progress_percent, t.progress_message, t.error_reason, t.error_message, \
             t.error_retryable"
        )
    };
}

pub(super) use {row_columns, task_columns};

/// The first column after those of a [`Task`].
pub(super) const AFTER_TASK: usize = 33;
const SPEC: usize = 20;

/// What becomes of a column that few transitions write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Note<T> {
    /// It stays as it is.
    #[default]
    Keep,
    Clear,
    Set(T),
}

/// What a stored row must still be when it is written: the fence of every update. No row changes without one of
/// these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fence {
    pub(super) seq: u64,
    pub(super) handoff: u64,
    pub(super) attempt: u32,
    pub(super) session: Option<SessionId>,
}

impl Fence {
    pub(super) fn of(life: &Lifecycle, handoff: u64) -> Self {
        Self { seq: life.seq, handoff, attempt: life.attempt, session: life.session }
    }
}

/// What a transition reads and writes of a task.
#[derive(Clone, Debug)]
pub(super) struct Row {
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
    pub(super) progress: Note<Progress>,
    pub(super) error: Note<TaskError>,
    /// As it was read, and is again fenced by; none if what was read made no sense.
    pub(super) fence: Option<Fence>,
    /// Whether it has to be written.
    pub(super) changed: bool,
    /// Whether it was written by this transaction.
    pub(super) written: bool,
}

impl Stored for Row {
    fn id(&self) -> TaskId {
        self.id
    }

    fn has_ended(&self) -> bool {
        self.life.state.is_terminal()
    }

    /// Several transactions are under way at once, and may be told of in any order.
    fn is_after(&self, other: &Self) -> bool {
        (self.life.seq, self.handoff) > (other.life.seq, other.handoff)
    }
}

/// A column.
pub(super) fn get<'r, T>(sql: &'r PgRow, i: usize) -> Result<T, Fault>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    Ok(sql.try_get(i)?)
}

/// Reads the id, the first column of all that is read of a task.
pub(super) fn id(sql: &PgRow, i: usize) -> Result<TaskId, Fault> {
    get::<Uuid>(sql, i).map(TaskId::new)
}

/// Reads a [`Row`].
pub(super) fn row(sql: &PgRow, names: &mut Names) -> Result<Row, Fault> {
    let life = Lifecycle {
        state: state(sql, 1)?,
        attempt: small(sql, 2)?,
        failures: small(sql, 3)?,
        lost: small(sql, 4)?,
        seq: count(sql, 5)?,
        session: get::<Option<Uuid>>(sql, 6)?.map(SessionId::new),
        started: get(sql, 7)?,
        cancel_requested: get(sql, 8)?,
        run_at: time(sql, 9)?,
    };
    let handoff = count(sql, 10)?;
    Ok(Row {
        id: id(sql, 0)?,
        fence: Some(Fence::of(&life, handoff)),
        life,
        handoff,
        queued_at: maybe_time(sql, 11)?,
        not_before: maybe_time(sql, 12)?,
        started_at: maybe_time(sql, 13)?,
        finished_at: maybe_time(sql, 14)?,
        node: get::<Option<&str>>(sql, 15)?.map(|n| names.get(n)),
        queue: name(sql, 16, names)?,
        band: band(sql, 17)?,
        max_attempts: small(sql, 18)?,
        noted: get(sql, 19)?,
        progress: Note::Keep,
        error: Note::Keep,
        changed: false,
        written: false,
    })
}

/// Reads the whole [`Task`].
pub(super) fn task(sql: &PgRow, names: &mut Names) -> Result<Task, Fault> {
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
pub(super) fn spec(sql: &PgRow, names: &mut Names, row: &Row) -> Result<Spec, Fault> {
    Ok(Spec {
        id: row.id,
        namespace: name(sql, SPEC, names)?,
        kind: name(sql, SPEC + 1, names)?,
        queue: Arc::clone(&row.queue),
        priority: u32::try_from(get::<i16>(sql, SPEC + 2)?)
            .ok()
            .and_then(Priority::new)
            .ok_or_else(|| wrong("priority"))?,
        max_attempts: row.max_attempts,
        timeout: span(sql, SPEC + 3)?,
        created_at: time(sql, SPEC + 4)?,
        request_id: get::<Option<&str>>(sql, SPEC + 5)?.map(Arc::from),
        traceparent: get::<Option<&str>>(sql, SPEC + 6)?.map(Arc::from),
        retry_of: get::<Option<Uuid>>(sql, SPEC + 7)?.map(TaskId::new),
    })
}

fn progress(sql: &PgRow) -> Result<Option<Progress>, Fault> {
    let Some(percent) = get::<Option<i16>>(sql, SPEC + 8)? else { return Ok(None) };
    let percent = u8::try_from(percent).map_err(|_| wrong("progress"))?;
    Ok(Some(Progress { percent, message: get::<Option<String>>(sql, SPEC + 9)?.unwrap_or_default() }))
}

fn error(sql: &PgRow) -> Result<Option<TaskError>, Fault> {
    let Some(reason) = get(sql, SPEC + 10)? else { return Ok(None) };
    Ok(Some(TaskError {
        reason,
        message: get::<Option<String>>(sql, SPEC + 11)?.unwrap_or_default(),
        retryable: get::<Option<bool>>(sql, SPEC + 12)?.unwrap_or_default(),
    }))
}

/// A point in time.
pub(super) fn time(sql: &PgRow, i: usize) -> Result<Timestamp, Fault> {
    get(sql, i).map(Timestamp::from_micros)
}

/// A point in time that may be NULL.
pub(super) fn maybe_time(sql: &PgRow, i: usize) -> Result<Option<Timestamp>, Fault> {
    get::<Option<i64>>(sql, i).map(|at| at.map(Timestamp::from_micros))
}

/// A span, stored as microseconds.
pub(super) fn span(sql: &PgRow, i: usize) -> Result<Duration, Fault> {
    count(sql, i).map(Duration::from_micros)
}

/// A number that is never negative.
pub(super) fn count(sql: &PgRow, i: usize) -> Result<u64, Fault> {
    u64::try_from(get::<i64>(sql, i)?).map_err(|_| wrong("a count"))
}

/// A small number that is never negative.
pub(super) fn small(sql: &PgRow, i: usize) -> Result<u32, Fault> {
    u32::try_from(get::<i32>(sql, i)?).map_err(|_| wrong("a count"))
}

/// A number that fits a byte.
pub(super) fn byte(sql: &PgRow, i: usize) -> Result<u8, Fault> {
    u8::try_from(get::<i16>(sql, i)?).map_err(|_| wrong("a code"))
}

/// A state, stored as its code.
pub(super) fn state(sql: &PgRow, i: usize) -> Result<State, Fault> {
    State::from_code(byte(sql, i)?).ok_or_else(|| wrong("state"))
}

/// A band, stored as its index.
pub(super) fn band(sql: &PgRow, i: usize) -> Result<Band, Fault> {
    Band::from_index(byte(sql, i)?).ok_or_else(|| wrong("band"))
}

/// A name that many rows share.
pub(super) fn name(sql: &PgRow, i: usize, names: &mut Names) -> Result<Arc<str>, Fault> {
    get::<&str>(sql, i).map(|n| names.get(n))
}

/// A value that is not what was stored.
pub(super) fn wrong(what: &str) -> Fault {
    Fault::Unreadable(format!("a stored value makes no sense: {what}"))
}

/// A count as PostgreSQL stores it.
pub(super) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A small count as PostgreSQL stores it.
pub(super) fn stored_small(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A limit of rows as PostgreSQL takes it.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A span as PostgreSQL stores it, in microseconds.
pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// An id as PostgreSQL takes it.
pub(super) fn uuid(id: TaskId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// A session's id as PostgreSQL takes it.
pub(super) fn session_uuid(id: SessionId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// A text without the one character that PostgreSQL does not store. What a handler says when it fails must
/// not make that unrecordable.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}
