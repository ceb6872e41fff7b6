//! What a transaction is about to write: pure.
//!
//! Every change of a task goes through [`Draft::happen`]: the domain decides, the log gets its line, the
//! hand-off number and the totals follow, and the observers' [`Commit`] grows. Nothing else writes the
//! lifecycle columns.

use super::fault::Fault;
use super::rows::{Fence, Note, Row};
use bytes::Bytes;
use callboard_domain::{Event, Happening, Spec, State, TaskId, Timestamp};
use callboard_ports::handoff::Ready;
use callboard_ports::store::Commit;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The gathered writes of one transaction.
#[derive(Debug)]
pub(super) struct Draft {
    /// The store's clock: one time for all of the transaction.
    pub(super) now: Timestamp,
    /// The rows that were read, by id.
    pub(super) rows: BTreeMap<TaskId, Row>,
    /// What the observers will be told.
    pub(super) commit: Commit,
    /// When each of `commit.ready` became QUEUED.
    pub(super) queued_at: Vec<Timestamp>,
    /// How the totals change, by state.
    pub(super) totals: [i64; 6],
    /// Results to keep.
    pub(super) results: Vec<(TaskId, Bytes)>,
    /// New tasks, with what their first claim needs.
    pub(super) admitted: Vec<(Row, Spec, Bytes)>,
    /// How many events, hand-offs and results are written already.
    written: (usize, usize, usize),
}

/// What is only ever appended, and is not written yet.
pub(super) struct Unwritten<'a> {
    pub(super) events: &'a [Event],
    pub(super) ready: &'a [Ready],
    pub(super) queued_at: &'a [Timestamp],
    pub(super) results: &'a [(TaskId, Bytes)],
}

impl Draft {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            rows: BTreeMap::new(),
            commit: Commit::default(),
            queued_at: Vec::new(),
            totals: [0; 6],
            results: Vec::new(),
            admitted: Vec::new(),
            written: (0, 0, 0),
        }
    }

    /// Makes `what` happen to a task that was read, and appends it to its log.
    pub(super) fn happen(&mut self, id: TaskId, what: Happening) -> Result<(), Fault> {
        // Taken out for the while, so that the rest of the draft can grow.
        let Some(mut row) = self.rows.remove(&id) else {
            return Err(Fault::Unreadable(format!("task {id} was not read")));
        };
        let next = row.life.apply(&what)?;
        let before = std::mem::replace(&mut row.life, next).state;
        self.note(&mut row, &what);
        if row.life.state != before {
            self.totals[before as usize] -= 1;
            self.entered(&mut row);
        }
        let node = match what {
            Happening::Due | Happening::CancelRequested => None,
            Happening::Cancelled if before != State::Running => None,
            _ => row.node.clone(),
        };
        row.changed = true;
        self.append(&row, what, node);
        self.rows.insert(id, row);
        Ok(())
    }

    /// What entering a state brings with it.
    pub(super) fn entered(&mut self, row: &mut Row) {
        self.totals[row.life.state as usize] += 1;
        match row.life.state {
            State::Queued => {
                row.handoff += 1;
                row.queued_at = Some(self.now);
                row.not_before = None;
                self.ready(row);
            }
            State::Scheduled => {
                let next = &mut self.commit.next_due;
                *next = Some(next.map_or(row.life.run_at, |due| due.min(row.life.run_at)));
            }
            State::Running => row.not_before = None,
            State::Succeeded | State::Failed | State::Cancelled => row.finished_at = Some(self.now),
        }
    }

    /// Appends to the log of a task that stands as `row` says.
    pub(super) fn append(&mut self, row: &Row, what: Happening, node: Option<Arc<str>>) {
        self.commit.events.push(Event {
            task_id: row.id,
            seq: row.life.seq,
            at: self.now,
            state: row.life.state,
            attempt: row.life.attempt,
            node,
            what,
        });
    }

    /// Writes down what a happening says about the newest attempt.
    fn note(&self, row: &mut Row, what: &Happening) {
        match what {
            Happening::Claimed { .. } => {
                row.started_at = None;
                if std::mem::take(&mut row.noted) {
                    (row.progress, row.error) = (Note::Clear, Note::Clear);
                }
            }
            Happening::Started { at } => row.started_at = Some(*at),
            Happening::Progressed(progress) => {
                // Who makes progress has started; if that was not said, it is known from now.
                row.started_at = row.started_at.or(Some(self.now));
                row.noted = true;
                row.progress = Note::Set(progress.clone());
            }
            Happening::AttemptFailed { error, .. } | Happening::Failed { error, .. } => {
                row.noted = true;
                row.error = Note::Set(error.clone());
            }
            _ => {}
        }
    }

    /// Hands a task off again that stays QUEUED, not before a time if there is one.
    pub(super) fn hand_off_again(&mut self, id: TaskId, not_before: Option<Timestamp>) {
        let Some(mut row) = self.rows.remove(&id) else { return };
        row.handoff += 1;
        row.not_before = not_before;
        row.changed = true;
        self.ready(&row);
        self.rows.insert(id, row);
    }

    /// The tasks of what is only appended, and is not written yet.
    pub(super) fn appended_to(&self) -> impl Iterator<Item = TaskId> {
        let Unwritten { events, results, .. } = self.unwritten();
        events.iter().map(|event| event.task_id).chain(results.iter().map(|(id, _)| *id))
    }

    pub(super) fn has_more_to_append(&self) -> bool {
        self.written != (self.commit.events.len(), self.commit.ready.len(), self.results.len())
    }

    pub(super) fn unwritten(&self) -> Unwritten<'_> {
        let (events, ready, results) = self.written;
        Unwritten {
            events: self.commit.events.get(events..).unwrap_or_default(),
            ready: self.commit.ready.get(ready..).unwrap_or_default(),
            queued_at: self.queued_at.get(ready..).unwrap_or_default(),
            results: self.results.get(results..).unwrap_or_default(),
        }
    }

    /// Takes note that all of it is written.
    pub(super) fn flushed(&mut self) {
        self.written = (self.commit.events.len(), self.commit.ready.len(), self.results.len());
        for row in self.rows.values_mut().filter(|row| row.changed) {
            (row.changed, row.written) = (false, true);
            (row.progress, row.error) = (Note::Keep, Note::Keep);
            row.fence = Some(Fence::of(&row.life, row.handoff));
        }
    }

    fn ready(&mut self, row: &Row) {
        self.queued_at.push(row.queued_at.unwrap_or(self.now));
        self.commit.ready.push(Ready {
            id: row.id,
            handoff: row.handoff,
            queue: Arc::clone(&row.queue),
            band: row.band,
            alone: row.life.is_suspect(),
            not_before: row.not_before,
        });
    }
}
