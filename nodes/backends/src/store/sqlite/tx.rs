//! The inside of one write transaction.
//!
//! Every change of a task goes through [`Tx::happen`]: the domain decides, the log gets its line, the
//! hand-off number and the totals follow, and the observers' [`Commit`] grows. Nothing else writes the
//! lifecycle columns.

use super::events;
use super::fault::Fault;
use super::rows::{self, Row, row_columns};
use crate::store::names::Names;
use crate::store::recent::RecentTasks;
use callboard_domain::{Event, Happening, Lifecycle, State, TaskId, Timestamp};
use callboard_ports::handoff::Ready;
use callboard_ports::store::Commit;
use rusqlite::{CachedStatement, Connection, params};
use std::sync::Arc;

const LOAD: &str = concat!("SELECT ", row_columns!(), " FROM tasks t WHERE t.id = ?1");
const MOVE: &str = "UPDATE tasks SET state = ?2, attempt = ?3, failures = ?4, lost = ?5, last_seq = ?6, \
    session = ?7, started = ?8, cancel_requested = ?9, run_at = ?10, handoff = ?11, alone = ?12, \
    queued_at = ?13, not_before = ?14, started_at = ?15, finished_at = ?16, node = ?17 WHERE n = ?1";
const HAND_OFF: &str = "UPDATE tasks SET handoff = ?2, not_before = ?3 WHERE n = ?1";
const CLEAR_NOTES: &str = "UPDATE tasks SET progress_percent = NULL, progress_message = NULL, \
    error_reason = NULL, error_message = NULL, error_retryable = NULL WHERE n = ?1";
const SET_PROGRESS: &str = "UPDATE tasks SET progress_percent = ?2, progress_message = ?3 WHERE n = ?1";
const SET_ERROR: &str =
    "UPDATE tasks SET error_reason = ?2, error_message = ?3, error_retryable = ?4 WHERE n = ?1";
const KEY: &str = "SELECT n, max(handoff, 0), queue, band, max_attempts FROM tasks WHERE id = ?1";
const LOG: &str =
    concat!("SELECT ", events::event_columns!(), " FROM task_events e WHERE e.task = ?1 ORDER BY e.seq");

/// What the writer keeps between transactions, and what one transaction gathers.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) names: Names,
    pub(super) buffer: Vec<u8>,
    /// Not looked at when `careful`: there, an item that is undone would make it wrong.
    pub(super) recent: RecentTasks<Row>,
    /// What the observers will be told.
    pub(super) commit: Commit,
    /// How the totals change, by state.
    pub(super) totals: [i64; 6],
}

impl Scratch {
    /// Forgets what a transaction gathered.
    pub(super) fn clear(&mut self) {
        self.rewind(&Mark::default());
    }

    fn mark(&self) -> Mark {
        Mark {
            events: self.commit.events.len(),
            ready: self.commit.ready.len(),
            next_due: self.commit.next_due,
            totals: self.totals,
        }
    }

    fn rewind(&mut self, mark: &Mark) {
        self.commit.events.truncate(mark.events);
        self.commit.ready.truncate(mark.ready);
        self.commit.next_due = mark.next_due;
        self.totals = mark.totals;
    }
}

#[derive(Default)]
struct Mark {
    events: usize,
    ready: usize,
    next_due: Option<Timestamp>,
    totals: [i64; 6],
}

/// One write transaction.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    /// The store's clock: one time for all of the transaction.
    pub(super) now: Timestamp,
    /// A random number in `0.0..1.0`.
    pub(super) jitter: &'a (dyn Fn() -> f64 + Send + Sync),
    /// Whether each item runs in a savepoint of its own. Set when a first try of the same work failed.
    pub(super) careful: bool,
    pub(super) scratch: &'a mut Scratch,
}

impl<'a> Tx<'a> {
    /// A prepared statement.
    pub(super) fn sql(&self, sql: &str) -> rusqlite::Result<CachedStatement<'a>> {
        self.conn.prepare_cached(sql)
    }

    /// Runs `work`; if an item's data makes it fail, undoes it alone and answers what `refused` says.
    /// A first try has no savepoints: there the whole transaction fails, and is run again with care.
    pub(super) fn isolated<R>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<R, Fault>,
        refused: impl FnOnce(&mut Self, Fault) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        if !self.careful {
            return work(self);
        }
        let mark = self.scratch.mark();
        self.sql("SAVEPOINT item")?.execute([])?;
        match work(self) {
            Ok(done) => {
                self.sql("RELEASE item")?.execute([])?;
                Ok(done)
            }
            // Some failures end the transaction; then there is no savepoint to go back to.
            Err(fault) if !fault.is_of_data() || self.conn.is_autocommit() => Err(fault),
            Err(fault) => {
                self.sql("ROLLBACK TO item")?.execute([])?;
                self.sql("RELEASE item")?.execute([])?;
                self.scratch.rewind(&mark);
                refused(self, fault)
            }
        }
    }

    /// The task's row, if there is one.
    pub(super) fn load(&mut self, id: TaskId) -> Result<Option<Row>, Fault> {
        if let Some(row) = self.recent(id) {
            return Ok(Some(row.clone()));
        }
        let mut statement = self.sql(LOAD)?;
        let mut found = statement.query([id.as_bytes().as_slice()])?;
        let Some(sql) = found.next()? else { return Ok(None) };
        match rows::row(sql, &mut self.scratch.names) {
            Err(error) if self.careful => self.rebuild(id, &error),
            row => Ok(Some(row?)),
        }
    }

    /// The task's row, if it was written recently.
    pub(super) fn recent(&self, id: TaskId) -> Option<&Row> {
        if self.careful { None } else { self.scratch.recent.row(id) }
    }

    /// A row that cannot be read, from the task's log.
    fn rebuild(&mut self, id: TaskId, cause: &rusqlite::Error) -> Result<Option<Row>, Fault> {
        tracing::error!(task.id = %id, error = %cause, "a task's row cannot be read, rebuilding it from its log");
        let mut statement = self.sql(KEY)?;
        let mut row = statement.query_one([id.as_bytes().as_slice()], |sql| {
            Ok(Row {
                n: sql.get(0)?,
                id,
                life: Lifecycle::submit(None, self.now).0,
                handoff: rows::count(sql, 1)?,
                queued_at: Some(self.now),
                not_before: None,
                started_at: None,
                finished_at: None,
                node: None,
                queue: rows::name(sql, 2, &mut self.scratch.names)?,
                band: rows::band(sql, 3)?,
                max_attempts: sql.get(4)?,
                noted: true,
            })
        })?;
        let log = events::read_all(&mut self.sql(LOG)?, [row.n], id, &mut self.scratch.names)?;
        row.life = replay(&log)?;
        row.node = log.iter().rev().find_map(|e| e.node.clone());
        self.save(&row)?;
        Ok(Some(row))
    }

    /// The task's log.
    pub(super) fn log(&mut self, row: &Row) -> Result<Vec<Event>, Fault> {
        Ok(events::read_all(&mut self.sql(LOG)?, [row.n], row.id, &mut self.scratch.names)?)
    }

    /// Makes `what` happen to the task and appends it to the log. [`Self::save`] must follow.
    pub(super) fn happen(&mut self, row: &mut Row, what: Happening) -> Result<(), Fault> {
        let next = row.life.apply(&what)?;
        let before = std::mem::replace(&mut row.life, next).state;
        self.note(row, &what)?;
        if row.life.state != before {
            self.scratch.totals[before as usize] -= 1;
            self.entered(row);
        }
        let node = match what {
            Happening::Due | Happening::CancelRequested => None,
            Happening::Cancelled if before != State::Running => None,
            _ => row.node.clone(),
        };
        self.append(row, what, node)
    }

    /// What entering a state brings with it.
    pub(super) fn entered(&mut self, row: &mut Row) {
        self.scratch.totals[row.life.state as usize] += 1;
        match row.life.state {
            State::Queued => {
                row.handoff += 1;
                row.queued_at = Some(self.now);
                row.not_before = None;
                self.ready(row);
            }
            State::Scheduled => {
                let next = &mut self.scratch.commit.next_due;
                *next = Some(next.map_or(row.life.run_at, |due| due.min(row.life.run_at)));
            }
            State::Running => row.not_before = None,
            State::Succeeded | State::Failed | State::Cancelled => row.finished_at = Some(self.now),
        }
    }

    /// Appends to the log of a task that stands as `row` says.
    pub(super) fn append(&mut self, row: &Row, what: Happening, node: Option<Arc<str>>) -> Result<(), Fault> {
        let event = Event {
            task_id: row.id,
            seq: row.life.seq,
            at: self.now,
            state: row.life.state,
            attempt: row.life.attempt,
            node,
            what,
        };
        events::insert(self, row.n, &event)?;
        self.scratch.commit.events.push(event);
        Ok(())
    }

    /// Writes down what a happening says about the newest attempt.
    fn note(&mut self, row: &mut Row, what: &Happening) -> Result<(), Fault> {
        match what {
            Happening::Claimed { .. } => {
                row.started_at = None;
                if std::mem::take(&mut row.noted) {
                    self.sql(CLEAR_NOTES)?.execute([row.n])?;
                }
            }
            Happening::Started { at } => row.started_at = Some(*at),
            Happening::Progressed(progress) => {
                // Who makes progress has started; if that was not said, it is known from now.
                row.started_at = row.started_at.or(Some(self.now));
                row.noted = true;
                self.sql(SET_PROGRESS)?.execute(params![row.n, progress.percent, progress.message])?;
            }
            Happening::AttemptFailed { error, .. } | Happening::Failed { error, .. } => {
                row.noted = true;
                let values = params![row.n, error.reason, error.message, error.retryable];
                self.sql(SET_ERROR)?.execute(values)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the row down.
    pub(super) fn save(&mut self, row: &Row) -> Result<(), Fault> {
        let life = &row.life;
        self.sql(MOVE)?.execute(params![
            row.n,
            life.state.code(),
            life.attempt,
            life.failures,
            life.lost,
            rows::stored(life.seq),
            life.session.as_ref().map(|s| s.as_bytes().as_slice()),
            life.started,
            life.cancel_requested,
            life.run_at.micros(),
            rows::stored(row.handoff),
            life.is_suspect(),
            row.queued_at.map(Timestamp::micros),
            row.not_before.map(Timestamp::micros),
            row.started_at.map(Timestamp::micros),
            row.finished_at.map(Timestamp::micros),
            row.node.as_deref(),
        ])?;
        self.saved(row);
        Ok(())
    }

    /// Hands a task off again that stays QUEUED.
    pub(super) fn hand_off_again(&mut self, row: &mut Row) -> Result<(), Fault> {
        row.handoff += 1;
        let not_before = row.not_before.map(Timestamp::micros);
        self.sql(HAND_OFF)?.execute(params![row.n, rows::stored(row.handoff), not_before])?;
        self.saved(row);
        self.ready(row);
        Ok(())
    }

    /// Remembers a row as it was written.
    pub(super) fn saved(&mut self, row: &Row) {
        if !self.careful {
            self.scratch.recent.saved(row);
        }
    }

    fn ready(&mut self, row: &Row) {
        self.scratch.commit.ready.push(Ready {
            id: row.id,
            handoff: row.handoff,
            queue: Arc::clone(&row.queue),
            band: row.band,
            alone: row.life.is_suspect(),
            not_before: row.not_before,
        });
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
