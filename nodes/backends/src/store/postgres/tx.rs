//! One write transaction: rows are read, the [`Draft`] changes, and all is written at once.
//!
//! A row is locked when it is read, or only when it is written. In both cases it is written only if it is still what
//! it was read as, or remembered as: see [`Fence`](rows::Fence). If it is not, all is undone and run again with locks.
//! So a decision that changes a row may rest on what was read without a lock, and one that leaves it as it is may
//! not, unless it holds for whatever was committed last.
//!
//! Everything is set-based and in the order of the ids, so that two transactions on the same tasks wait for
//! each other instead of deadlocking. A batch is split by the day its ids are of, so that each statement
//! touches one partition.
//!
//! Where a table is joined with the arrays of a batch, its rows are found by `= ANY` of the ids and the join is a
//! hash join, whatever the statistics say: see [`line`](super::line).

use super::draft::Draft;
use super::events;
use super::fault::Fault;
use super::partitions::Days;
use super::rows::{self, AFTER_TASK, Fence, Note, Row, row_columns, task_columns};
use crate::store::names::Names;
use crate::store::recent::RecentTasks;
use bytes::Bytes;
use callboard_domain::{Event, Happening, Lifecycle, SessionId, Spec, State, TaskId, Timestamp};
use callboard_ports::planted::Bug;
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

const LOAD: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM tasks{day} t WHERE t.id = ANY($1) AND t.id BETWEEN $2 AND $3 ORDER BY t.id FOR UPDATE"
);
const LOAD_WHOLE: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks{day} t WHERE t.id = ANY($1) AND t.id BETWEEN $2 AND $3 ORDER BY t.id FOR UPDATE"
);
const LOAD_WHOLE_SKIPPING: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM tasks{day} t WHERE t.id = ANY($1) AND t.id BETWEEN $2 AND $3 ORDER BY t.id FOR UPDATE SKIP LOCKED"
);
/// An input is read if those before it have not reached the bound. The size of one is known without reading it.
const READ_CLAIMABLE: &str = concat!(
    "SELECT ",
    task_columns!(),
    ", i.task_id IS NOT NULL, CASE WHEN sum(octet_length(i.input)) OVER (ORDER BY t.id) - octet_length(i.input) < $4 \
        THEN i.input END \
     FROM tasks{day} t LEFT JOIN task_inputs{day} i ON i.task_id = t.id AND i.task_id = ANY($1) \
        AND i.task_id BETWEEN $2 AND $3 \
     WHERE t.id = ANY($1) AND t.id BETWEEN $2 AND $3"
);
/// What a row is rebuilt with beside its log.
const KEY: &str = "SELECT greatest(handoff, 0), queue, band, max_attempts FROM tasks WHERE id = $1";

/// What never changes about each task, or why that cannot be read.
pub(super) type Specs = HashMap<TaskId, Result<Spec, String>>;
/// The input of each task; none if it was too much at once.
pub(super) type Inputs = HashMap<TaskId, Option<Bytes>>;

/// The tasks this process wrote last, shared by all its lines.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<RecentTasks<Row>>);

impl Recent {
    fn lock(&self) -> MutexGuard<'_, RecentTasks<Row>> {
        // Nothing can panic while it is held, but for an allocation.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, ids: impl Iterator<Item = TaskId>) {
        let mut recent = self.lock();
        ids.for_each(|id| recent.forget(id));
    }

    /// Keeps what was committed.
    pub(super) fn committed(&self, draft: &Draft) {
        let mut recent = self.lock();
        draft.admitted.iter().for_each(|(row, spec, input)| recent.admitted(row, spec, input));
        draft.rows.values().filter(|row| row.written).for_each(|row| recent.saved(row));
    }
}

/// One write transaction.
pub(super) struct Tx<'c> {
    pub(super) conn: &'c mut PgConnection,
    pub(super) draft: Draft,
    pub(super) jitter: &'c (dyn Fn() -> f64 + Send + Sync),
    pub(super) names: Names,
    pub(super) recent: &'c Recent,
    pub(super) days: &'c Days,
    /// Whether rows may be decided on that are not locked: not once they were found to have changed.
    pub(super) trusts: bool,
    /// Those of the work's sessions that are live, held so until the commit.
    pub(super) live: HashSet<SessionId>,
}

impl<'c> Tx<'c> {
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
            let found = sqlx::query(self.named(LOAD, &day)).bind(&day.ids).bind(day.first).bind(day.last);
            for sql in found.fetch_all(&mut *self.conn).await? {
                match rows::row(&sql, &mut self.names) {
                    Ok(row) => drop(self.draft.rows.insert(row.id, row)),
                    Err(fault) => self.rebuild(rows::id(&sql, 0)?, &fault).await?,
                }
            }
        }
        Ok(())
    }

    /// A statement on the tables of a day.
    pub(super) fn named(&self, sql: &str, day: &Day) -> AssertSqlSafe<String> {
        on(sql, &self.days.suffix(Day::of(TaskId::new(day.first))))
    }

    /// Takes the rows into the draft that are remembered, without a lock, if `fits`. Answers the other ids.
    pub(super) fn recall(
        &mut self,
        ids: impl IntoIterator<Item = TaskId>,
        fits: impl Fn(TaskId, &Row) -> bool,
    ) -> Vec<TaskId> {
        if !self.trusts {
            return ids.into_iter().collect();
        }
        let (recent, rows) = (self.recent.lock(), &mut self.draft.rows);
        let is_unknown = |id: &TaskId| match recent.row(*id).filter(|row| fits(*id, row)) {
            Some(row) => {
                rows.insert(*id, remembered(row));
                false
            }
            None => true,
        };
        ids.into_iter().filter(is_unknown).collect()
    }

    /// As [`Self::recall`], with what a first claim needs.
    pub(super) fn recall_claimable(
        &mut self,
        ids: Vec<TaskId>,
        specs: &mut Specs,
        inputs: &mut Inputs,
    ) -> Vec<TaskId> {
        if !self.trusts {
            return ids;
        }
        let (mut recent, rows) = (self.recent.lock(), &mut self.draft.rows);
        let mut is_unknown = |id: &TaskId| {
            let Some((spec, input)) = recent.take_unclaimed(*id) else { return true };
            // Only a claim is fenced: what is not QUEUED is looked at again.
            let Some(row) = recent.row(*id).filter(|row| row.life.state == State::Queued) else {
                return true;
            };
            rows.insert(*id, remembered(row));
            specs.insert(*id, Ok(spec));
            inputs.insert(*id, Some(input));
            false
        };
        ids.into_iter().filter(|id| is_unknown(id)).collect()
    }

    /// Reads tasks into the draft with what a claim needs of them, without a lock: of the inputs up to about so many
    /// bytes. Answers those whose row makes no sense: they must be locked.
    pub(super) async fn read_claimable(
        &mut self,
        ids: Vec<TaskId>,
        bytes: usize,
        specs: &mut Specs,
        inputs: &mut Inputs,
    ) -> Result<Vec<TaskId>, Fault> {
        let (mut left, mut senseless) = (bytes, Vec::new());
        for day in Day::split(ids) {
            let found =
                sqlx::query(self.named(READ_CLAIMABLE, &day)).bind(&day.ids).bind(day.first).bind(day.last);
            let found = found.bind(i64::try_from(left).unwrap_or(i64::MAX));
            for sql in found.fetch_all(&mut *self.conn).await? {
                let id = rows::id(&sql, 0)?;
                let Ok(row) = rows::row(&sql, &mut self.names) else {
                    senseless.push(id);
                    continue;
                };
                let spec = rows::spec(&sql, &mut self.names, &row);
                specs.insert(id, spec.map_err(|fault| fault.to_string()));
                self.draft.rows.insert(id, row);
                if rows::get(&sql, AFTER_TASK)? {
                    let input: Option<&[u8]> = rows::get(&sql, AFTER_TASK + 1)?;
                    left = left.saturating_sub(input.map_or(0, <[u8]>::len));
                    // A copy: a part of the whole answer would hold all of it in memory.
                    inputs.insert(id, input.map(Bytes::copy_from_slice));
                }
            }
        }
        Ok(senseless)
    }

    /// As [`Self::load`], with what never changes about each, or why that cannot be read.
    pub(super) async fn load_whole(&mut self, ids: Vec<TaskId>, specs: &mut Specs) -> Result<(), Fault> {
        let sql = if Bug::ClaimSkipsLocked.is_planted() { LOAD_WHOLE_SKIPPING } else { LOAD_WHOLE };
        for day in Day::split(ids) {
            let found = sqlx::query(self.named(sql, &day)).bind(&day.ids).bind(day.first).bind(day.last);
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
        Ok(())
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
                written: false,
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
}

/// A statement on the tables whose names end in `suffix`: in the place of each `{day}`.
pub(super) fn on(sql: &str, suffix: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql.replace("{day}", suffix))
}

/// A row as it is taken from memory.
fn remembered(row: &Row) -> Row {
    Row { fence: Some(Fence::of(&row.life, row.handoff)), changed: false, written: false, ..row.clone() }
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
