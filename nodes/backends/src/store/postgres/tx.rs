//! One write transaction: rows are locked and read, the [`Draft`] changes, and all is written at once.
//!
//! Everything is set-based and in the order of the ids, so that two transactions on the same tasks wait for
//! each other instead of deadlocking. A batch is split by the day its ids are of, so that each statement
//! touches one partition.
//!
//! Where a table is joined with the arrays of a batch, its rows are found by `= ANY` of the ids and the join is a
//! hash join, whatever the statistics say: see [`line`](super::line).

use super::draft::{Draft, Unwritten};
use super::events;
use super::fault::Fault;
use super::rows::{self, Note, Row, row_columns, task_columns};
use crate::store::names::Names;
use callboard_domain::{Event, Happening, Lifecycle, Spec, TaskId, Timestamp};
use callboard_ports::planted::Bug;
use sqlx::PgConnection;
use std::collections::HashMap;
use uuid::Uuid;

/// How long a fresh outbox row is hidden, in microseconds: whoever committed publishes it from memory.
const BORN_LEASED: i64 = 2_000_000;

const LOAD: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM tasks t WHERE t.id = ANY($1) AND t.id BETWEEN $2 AND $3 ORDER BY t.id FOR UPDATE"
);
const LOAD_WHOLE: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks t WHERE t.id = ANY($1) AND t.id BETWEEN $2 AND $3 ORDER BY t.id FOR UPDATE"
);
const LOAD_WHOLE_SKIPPING: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks t WHERE t.id = ANY($1) AND t.id BETWEEN $2 AND $3 ORDER BY t.id FOR UPDATE SKIP LOCKED"
);
/// What a row is rebuilt with beside its log.
const KEY: &str = "SELECT greatest(handoff, 0), queue, band, max_attempts FROM tasks WHERE id = $1";

const MOVE: &str = "WITH moved AS ( \
    UPDATE tasks t SET state = u.state, attempt = u.attempt, failures = u.failures, lost = u.lost, \
        last_seq = u.last_seq, session = u.session, started = u.started, \
        cancel_requested = u.cancel_requested, run_at = u.run_at, handoff = u.handoff, alone = u.alone, \
        queued_at = u.queued_at, not_before = u.not_before, started_at = u.started_at, \
        finished_at = u.finished_at, node = u.node \
    FROM unnest($1::uuid[], $2::smallint[], $3::int[], $4::int[], $5::int[], $6::bigint[], $7::uuid[], \
        $8::bool[], $9::bool[], $10::bigint[], $11::bigint[], $12::bool[], $13::bigint[], $14::bigint[], \
        $15::bigint[], $16::bigint[], $17::text[], $18::bigint[], $19::int[], $20::uuid[]) \
        AS u (id, state, attempt, failures, lost, last_seq, session, started, cancel_requested, run_at, \
        handoff, alone, queued_at, not_before, started_at, finished_at, node, was_seq, was_attempt, \
        was_session) \
    WHERE t.id = u.id AND t.id = ANY($1) AND t.id BETWEEN $21 AND $22 AND (u.was_seq IS NULL OR (t.last_seq = u.was_seq \
        AND t.attempt = u.was_attempt AND t.session IS NOT DISTINCT FROM u.was_session)) \
    RETURNING 1) SELECT count(*) FROM moved";
const NOTE: &str = "UPDATE tasks t SET \
        progress_percent = CASE WHEN u.progress THEN u.percent ELSE t.progress_percent END, \
        progress_message = CASE WHEN u.progress THEN u.says ELSE t.progress_message END, \
        error_reason = CASE WHEN u.error THEN u.reason ELSE t.error_reason END, \
        error_message = CASE WHEN u.error THEN u.message ELSE t.error_message END, \
        error_retryable = CASE WHEN u.error THEN u.retryable ELSE t.error_retryable END \
    FROM unnest($1::uuid[], $2::bool[], $3::smallint[], $4::text[], $5::bool[], $6::text[], $7::text[], \
        $8::bool[]) AS u (id, progress, percent, says, error, reason, message, retryable) \
    WHERE t.id = u.id AND t.id = ANY($1) AND t.id BETWEEN $9 AND $10";
/// Nothing here depends on anything else here: one statement, one round trip.
const APPEND: &str = "WITH logged AS ( \
        INSERT INTO task_events (task_id, seq, at, type, state, attempt, node, detail) \
        SELECT e.task_id, e.seq, $1, e.type, e.state, e.attempt, e.node, e.detail FROM unnest($2::uuid[], \
            $3::bigint[], $4::smallint[], $5::smallint[], $6::int[], $7::text[], $8::text[]) \
            AS e (task_id, seq, type, state, attempt, node, detail)), \
    kept AS ( \
        INSERT INTO task_results (task_id, result) SELECT * FROM unnest($9::uuid[], $10::bytea[])) \
    INSERT INTO outbox (task_id, handoff, queue, band, alone, queued_at, not_before, next_try_at) \
        SELECT o.*, greatest(o.not_before, $1 + $11) FROM unnest($12::uuid[], $13::bigint[], $14::text[], \
            $15::smallint[], $16::bool[], $17::bigint[], $18::bigint[]) \
            AS o (task_id, handoff, queue, band, alone, queued_at, not_before)";

/// One write transaction.
pub(super) struct Tx<'c> {
    pub(super) conn: &'c mut PgConnection,
    pub(super) draft: Draft,
    pub(super) jitter: &'c (dyn Fn() -> f64 + Send + Sync),
    pub(super) names: Names,
}

impl<'c> Tx<'c> {
    pub(super) fn new(
        conn: &'c mut PgConnection,
        now: Timestamp,
        jitter: &'c (dyn Fn() -> f64 + Send + Sync),
    ) -> Self {
        Self { conn, draft: Draft::new(now), jitter, names: Names::default() }
    }

    pub(super) fn into_draft(self) -> Draft {
        self.draft
    }

    /// The store's clock: one time for all of the transaction.
    pub(super) fn now(&self) -> Timestamp {
        self.draft.now
    }

    /// Locks tasks and reads their rows into the draft. One that is locked is waited for.
    pub(super) async fn load(&mut self, ids: impl IntoIterator<Item = TaskId>) -> Result<(), Fault> {
        for day in Day::split(ids) {
            let found = sqlx::query(LOAD).bind(&day.ids).bind(day.first).bind(day.last);
            for sql in found.fetch_all(&mut *self.conn).await? {
                match rows::row(&sql, &mut self.names) {
                    Ok(row) => drop(self.draft.rows.insert(row.id, row)),
                    Err(fault) => self.rebuild(rows::id(&sql, 0)?, &fault).await?,
                }
            }
        }
        Ok(())
    }

    /// As [`Self::load`], and answers what never changes about each, or why that cannot be read.
    pub(super) async fn load_whole(
        &mut self,
        ids: impl IntoIterator<Item = TaskId>,
    ) -> Result<HashMap<TaskId, Result<Spec, String>>, Fault> {
        let sql = if Bug::ClaimSkipsLocked.is_planted() { LOAD_WHOLE_SKIPPING } else { LOAD_WHOLE };
        let mut specs = HashMap::new();
        for day in Day::split(ids) {
            let found = sqlx::query(sql).bind(&day.ids).bind(day.first).bind(day.last);
            for sql in found.fetch_all(&mut *self.conn).await? {
                let id = rows::id(&sql, 0)?;
                match rows::row(&sql, &mut self.names) {
                    Ok(row) => drop(self.draft.rows.insert(id, row)),
                    Err(fault) => self.rebuild(id, &fault).await?,
                }
                let Some(row) = self.draft.rows.get(&id) else { continue };
                let spec = rows::spec(&sql, &mut self.names, row);
                specs.insert(id, spec.map_err(|fault| fault.to_string()));
            }
        }
        Ok(specs)
    }

    /// A row that cannot be read, from the task's log. One that has no sound log is passed over.
    pub(super) async fn rebuild(&mut self, id: TaskId, cause: impl std::fmt::Display) -> Result<(), Fault> {
        tracing::error!(task.id = %id, error = %cause, "a task's row cannot be read, rebuilding it from its log");
        let log = events::of_task(self.conn, id, &mut self.names).await;
        let life = log.and_then(|log| Ok((replay(&log)?, log.iter().rev().find_map(|e| e.node.clone()))));
        let key = sqlx::query(KEY).bind(rows::uuid(id)).fetch_one(&mut *self.conn).await?;
        let row = life.and_then(|(life, node)| {
            Ok(Row {
                id,
                life,
                handoff: rows::count(&key, 0)?,
                queued_at: Some(self.draft.now),
                not_before: None,
                started_at: None,
                finished_at: None,
                node,
                queue: rows::name(&key, 1, &mut self.names)?,
                band: rows::band(&key, 2)?,
                max_attempts: rows::small(&key, 3)?,
                noted: true,
                progress: Note::Keep,
                error: Note::Keep,
                fence: None,
                changed: true,
            })
        });
        match row {
            Ok(row) => drop(self.draft.rows.insert(id, row)),
            Err(fault @ Fault::Sql(sqlx::Error::Io(_) | sqlx::Error::Database(_))) => return Err(fault),
            Err(fault) => {
                tracing::error!(task.id = %id, error = %fault, "a task cannot be rebuilt from its log");
            }
        }
        Ok(())
    }

    /// Writes what is in the draft and not yet written.
    pub(super) async fn flush(&mut self) -> Result<(), Fault> {
        let changed: Vec<&Row> = self.draft.rows.values().filter(|row| row.changed).collect();
        for day in changed.chunk_by(|a, b| Day::of(a.id) == Day::of(b.id)) {
            let found = update(self.conn, day).await?;
            if usize::try_from(found) != Ok(day.len()) {
                return Err(Fault::Moved { found, wanted: day.len() });
            }
            let noted: Vec<&&Row> =
                day.iter().filter(|r| r.progress != Note::Keep || r.error != Note::Keep).collect();
            if !noted.is_empty() {
                note(self.conn, &noted).await?;
            }
        }
        if self.draft.has_more_to_append() {
            append(self.conn, &self.draft).await?;
        }
        self.draft.flushed();
        Ok(())
    }
}

/// Tasks of one day: of one partition.
pub(super) struct Day {
    pub(super) ids: Vec<Uuid>,
    pub(super) first: Uuid,
    pub(super) last: Uuid,
}

impl Day {
    /// The day of an id, counted from 1970-01-01.
    pub(super) fn of(id: TaskId) -> u64 {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&id.as_bytes()[..6]);
        u64::from_be_bytes(millis) / 86_400_000
    }

    /// Ids by day, each once, in order.
    pub(super) fn split(ids: impl IntoIterator<Item = TaskId>) -> Vec<Self> {
        let mut ids: Vec<TaskId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let day = |ids: &[TaskId]| {
            let ids: Vec<Uuid> = ids.iter().copied().map(rows::uuid).collect();
            let (first, last) = (*ids.first()?, *ids.last()?);
            Some(Self { ids, first, last })
        };
        ids.chunk_by(|a, b| Self::of(*a) == Self::of(*b)).filter_map(day).collect()
    }
}

/// Gathers one column of many rows.
fn column<'r, R, T>(rows: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

async fn update(conn: &mut PgConnection, day: &[&Row]) -> Result<i64, Fault> {
    let ids = column(day, |r| rows::uuid(r.id));
    let (first, last) = (ids.first().copied(), ids.last().copied());
    let micros = |at: Option<Timestamp>| at.map(Timestamp::micros);
    let moved = sqlx::query_scalar(MOVE)
        .bind(ids)
        .bind(column(day, |r| i16::from(r.life.state.code())))
        .bind(column(day, |r| rows::stored_small(r.life.attempt)))
        .bind(column(day, |r| rows::stored_small(r.life.failures)))
        .bind(column(day, |r| rows::stored_small(r.life.lost)))
        .bind(column(day, |r| rows::stored(r.life.seq)))
        .bind(column(day, |r| r.life.session.map(rows::session_uuid)))
        .bind(column(day, |r| r.life.started))
        .bind(column(day, |r| r.life.cancel_requested))
        .bind(column(day, |r| r.life.run_at.micros()))
        .bind(column(day, |r| rows::stored(r.handoff)))
        .bind(column(day, |r| r.life.is_suspect()))
        .bind(column(day, |r| micros(r.queued_at)))
        .bind(column(day, |r| micros(r.not_before)))
        .bind(column(day, |r| micros(r.started_at)))
        .bind(column(day, |r| micros(r.finished_at)))
        .bind(column(day, |r| r.node.as_deref()))
        .bind(column(day, |r| r.fence.map(|f| rows::stored(f.seq))))
        .bind(column(day, |r| r.fence.map(|f| rows::stored_small(f.attempt))))
        .bind(column(day, |r| r.fence.and_then(|f| f.session).map(rows::session_uuid)))
        .bind(first)
        .bind(last);
    Ok(moved.fetch_one(conn).await?)
}

async fn note(conn: &mut PgConnection, rows: &[&&Row]) -> Result<(), Fault> {
    let ids = column(rows, |r| rows::uuid(r.id));
    let (first, last) = (ids.first().copied(), ids.last().copied());
    fn set<T>(note: &Note<T>) -> Option<&T> {
        if let Note::Set(value) = note { Some(value) } else { None }
    }
    sqlx::query(NOTE)
        .bind(ids)
        .bind(column(rows, |r| r.progress != Note::Keep))
        .bind(column(rows, |r| set(&r.progress).map(|p| i16::from(p.percent))))
        .bind(column(rows, |r| set(&r.progress).map(|p| rows::clean(&p.message))))
        .bind(column(rows, |r| r.error != Note::Keep))
        .bind(column(rows, |r| set(&r.error).map(|e| rows::clean(&e.reason))))
        .bind(column(rows, |r| set(&r.error).map(|e| rows::clean(&e.message))))
        .bind(column(rows, |r| set(&r.error).map(|e| e.retryable)))
        .bind(first)
        .bind(last)
        .execute(conn)
        .await?;
    Ok(())
}

async fn append(conn: &mut PgConnection, draft: &Draft) -> Result<(), Fault> {
    let Unwritten { events, ready, queued_at, results } = draft.unwritten();
    let details = events.iter().map(|e| events::detail(&e.what)).collect::<Result<Vec<_>, _>>()?;
    sqlx::query(APPEND)
        .bind(draft.now.micros())
        .bind(column(events, |e| rows::uuid(e.task_id)))
        .bind(column(events, |e| rows::stored(e.seq)))
        .bind(column(events, |e| events::code(&e.what)))
        .bind(column(events, |e| i16::from(e.state.code())))
        .bind(column(events, |e| rows::stored_small(e.attempt)))
        .bind(column(events, |e| e.node.as_deref()))
        .bind(details)
        .bind(column(results, |(id, _)| rows::uuid(*id)))
        .bind(column(results, |(_, result)| result.as_ref()))
        .bind(BORN_LEASED)
        .bind(column(ready, |r| rows::uuid(r.id)))
        .bind(column(ready, |r| rows::stored(r.handoff)))
        .bind(column(ready, |r| &*r.queue))
        .bind(column(ready, |r| i16::from(r.band.index())))
        .bind(column(ready, |r| r.alone))
        .bind(column(queued_at, |at| at.micros()))
        .bind(column(ready, |r| r.not_before.map(Timestamp::micros)))
        .execute(conn)
        .await?;
    Ok(())
}

/// The lifecycle a log replays to.
fn replay(log: &[Event]) -> Result<Lifecycle, Fault> {
    let mut events = log.iter();
    let mut life = match events.next() {
        Some(Event { what: Happening::Submitted { run_at }, at, .. }) => Lifecycle::submit(*run_at, *at).0,
        _ => return Err(Fault::Unreadable("the log does not begin with a submission".into())),
    };
    for event in events {
        life = life.apply(&event.what)?;
    }
    Ok(life)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_split_by_day_in_order_and_once() {
        let at = |millis: u64, tail: u8| {
            let mut bytes = [0; 16];
            bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
            bytes[15] = tail;
            TaskId::from_bytes(bytes)
        };
        let day = 86_400_000;
        let ids = [at(day * 2, 1), at(day, 2), at(day, 1), at(day * 2 - 1, 1), at(day, 2)];
        let days = Day::split(ids);
        assert_eq!(days.iter().map(|d| d.ids.len()).collect::<Vec<_>>(), [3, 1]);
        assert_eq!((days[0].first, days[0].last), (rows::uuid(ids[2]), rows::uuid(ids[3])));
        assert!(Day::split([]).is_empty());
    }
}
