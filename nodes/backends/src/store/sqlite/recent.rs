//! Tasks the writer has just written, kept in memory.
//!
//! Most tasks are claimed and finished soon after they were admitted. There is one writer, so what it
//! wrote last is what is stored, and reading it back would be a quarter of a task's cost. Only a
//! transaction that fails can make this wrong; then all of it is forgotten.

use super::rows::Row;
use bytes::Bytes;
use callboard_domain::{Spec, TaskId};
use std::collections::HashMap;

/// The most tasks of one generation. There are two.
const TASKS: usize = 2_048;
/// The largest input that is kept. Larger ones are read back.
const INPUT_BYTES: usize = 2 << 10;

/// A task as it was written last.
#[derive(Debug)]
struct Recent {
    row: Row,
    /// What the first claim needs beside the row.
    unclaimed: Option<(Spec, Bytes)>,
}

/// The tasks written last, in two generations: the older one is dropped when the newer one is full.
#[derive(Debug, Default)]
pub(super) struct RecentTasks {
    newer: HashMap<TaskId, Recent>,
    older: HashMap<TaskId, Recent>,
}

impl RecentTasks {
    /// A task's row, if it is here.
    pub(super) fn row(&self, id: TaskId) -> Option<&Row> {
        self.newer.get(&id).or_else(|| self.older.get(&id)).map(|recent| &recent.row)
    }

    /// What the first claim of a task needs beside the row. It is given out once.
    pub(super) fn take_unclaimed(&mut self, id: TaskId) -> Option<(Spec, Bytes)> {
        let recent = match self.newer.get_mut(&id) {
            Some(recent) => recent,
            None => self.older.get_mut(&id)?,
        };
        recent.unclaimed.take()
    }

    /// Keeps a new task.
    pub(super) fn admitted(&mut self, row: &Row, spec: &Spec, input: &[u8]) {
        // A copy: the input may be a small part of a large buffer that would be held with it.
        let unclaimed = (input.len() <= INPUT_BYTES).then(|| (spec.clone(), Bytes::copy_from_slice(input)));
        self.insert(Recent { row: row.clone(), unclaimed });
    }

    /// Keeps a task as it was written. One that has ended is not looked for again.
    pub(super) fn saved(&mut self, row: &Row) {
        if row.life.state.is_terminal() {
            self.newer.remove(&row.id);
            self.older.remove(&row.id);
            return;
        }
        match self.newer.get_mut(&row.id).or_else(|| self.older.get_mut(&row.id)) {
            Some(recent) => recent.row.clone_from(row),
            None => self.insert(Recent { row: row.clone(), unclaimed: None }),
        }
    }

    fn insert(&mut self, recent: Recent) {
        if self.newer.len() >= TASKS {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(recent.row.id, recent);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.newer.clear();
        self.older.clear();
    }
}
