//! Tasks that were just written, kept in memory.
//!
//! Most tasks are claimed and finished soon after they were admitted, and to read them back first would be a
//! good part of a task's cost. Whether what is kept is still what is stored is for the backend to see to: SQLite
//! has one writer, which forgets all of it when a transaction fails; PostgreSQL fences each update by it.

use bytes::Bytes;
use callboard_domain::{Spec, TaskId};
use std::collections::HashMap;

/// The most tasks of one generation. There are two.
const TASKS: usize = 2_048;
/// The largest input that is kept. Larger ones are read back.
const INPUT_BYTES: usize = 2 << 10;

/// What a backend keeps of a task.
pub(super) trait Stored: Clone {
    fn id(&self) -> TaskId;

    /// Whether nothing happens to it any more.
    fn has_ended(&self) -> bool;

    /// Whether `self` was written after `other`, of the same task.
    fn is_after(&self, other: &Self) -> bool;
}

/// A task as it was written last.
#[derive(Debug)]
struct Recent<R> {
    row: R,
    /// What the first claim needs beside the row.
    unclaimed: Option<(Spec, Bytes)>,
}

/// The tasks written last, in two generations: the older one is dropped when the newer one is full.
#[derive(Debug)]
pub(super) struct RecentTasks<R> {
    newer: HashMap<TaskId, Recent<R>>,
    older: HashMap<TaskId, Recent<R>>,
}

impl<R> Default for RecentTasks<R> {
    fn default() -> Self {
        Self { newer: HashMap::new(), older: HashMap::new() }
    }
}

impl<R: Stored> RecentTasks<R> {
    /// A task's row, if it is here.
    pub(super) fn row(&self, id: TaskId) -> Option<&R> {
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
    pub(super) fn admitted(&mut self, row: &R, spec: &Spec, input: &[u8]) {
        // A copy: the input may be a small part of a large buffer that would be held with it.
        let unclaimed = (input.len() <= INPUT_BYTES).then(|| (spec.clone(), Bytes::copy_from_slice(input)));
        if self.row(row.id()).is_none() {
            self.insert(Recent { row: row.clone(), unclaimed });
        }
    }

    /// Keeps a task as it was written. One that has ended is not looked for again.
    pub(super) fn saved(&mut self, row: &R) {
        let id = row.id();
        if row.has_ended() {
            return self.forget(id);
        }
        match self.newer.get_mut(&id).or_else(|| self.older.get_mut(&id)) {
            Some(recent) if row.is_after(&recent.row) => recent.row.clone_from(row),
            Some(_) => {}
            None => self.insert(Recent { row: row.clone(), unclaimed: None }),
        }
    }

    fn insert(&mut self, recent: Recent<R>) {
        if self.newer.len() >= TASKS {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(recent.row.id(), recent);
    }

    /// Forgets one task.
    pub(super) fn forget(&mut self, id: TaskId) {
        self.newer.remove(&id);
        self.older.remove(&id);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.newer.clear();
        self.older.clear();
    }
}
