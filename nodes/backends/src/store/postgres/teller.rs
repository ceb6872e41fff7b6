//! Telling the observers of commits, in order per task.
//!
//! Several transactions of a node commit at the same time, and the answers to two commits on one task may
//! arrive in the wrong order. So each takes its turn for its tasks before it commits, while it still holds
//! their rows: the turns are in the order of the commits, and each waits for those before it.

use callboard_domain::TaskId;
use callboard_ports::store::{Commit, CommitObserver};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Turns {
    next: u64,
    /// The newest turn of each task that has not ended.
    newest: HashMap<TaskId, (u64, CancellationToken)>,
}

/// Tells observers.
#[derive(Default)]
pub(super) struct Teller {
    observers: Mutex<Vec<Arc<dyn CommitObserver>>>,
    turns: Mutex<Turns>,
}

/// A commit's turn. Dropped without [`Self::tell`], it was not committed.
pub(super) struct Turn {
    teller: Arc<Teller>,
    number: u64,
    tasks: Vec<TaskId>,
    after: Vec<CancellationToken>,
    ended: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing can panic while it is held, but for an allocation.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Teller {
    pub(super) fn observe(&self, observer: Arc<dyn CommitObserver>) {
        lock(&self.observers).push(observer);
    }

    /// Takes a turn for the tasks of a commit. Call it while their rows are locked.
    pub(super) fn turn(self: &Arc<Self>, commit: &Commit) -> Turn {
        let ids = commit.events.iter().map(|e| e.task_id).chain(commit.ready.iter().map(|r| r.id));
        let mut tasks: Vec<TaskId> = ids.collect();
        tasks.sort_unstable();
        tasks.dedup();
        let (ended, mut after, mut waited_for) = (CancellationToken::new(), Vec::new(), Vec::new());
        let mut turns = lock(&self.turns);
        turns.next += 1;
        let number = turns.next;
        for id in &tasks {
            if let Some((earlier, token)) = turns.newest.insert(*id, (number, ended.clone()))
                && !waited_for.contains(&earlier)
            {
                waited_for.push(earlier);
                after.push(token);
            }
        }
        drop(turns);
        Turn { teller: Arc::clone(self), number, tasks, after, ended }
    }

    /// Tells a commit out of turn: one that is found later to have been made.
    pub(super) fn tell(&self, commit: &Commit) {
        if commit.events.is_empty() && commit.ready.is_empty() && commit.next_due.is_none() {
            return;
        }
        let observers = lock(&self.observers).clone();
        for observer in observers {
            // An observer's fault must not stop the writes of the node.
            if catch_unwind(AssertUnwindSafe(|| observer.committed(commit))).is_err() {
                tracing::error!("an observer of the store panicked");
            }
        }
    }
}

impl Turn {
    /// Tells the commit, once all before it are told.
    pub(super) async fn tell(self, commit: &Commit) {
        for earlier in &self.after {
            earlier.cancelled().await;
        }
        self.teller.tell(commit);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock(&self.teller.turns);
        for id in &self.tasks {
            if turns.newest.get(id).is_some_and(|(number, _)| *number == self.number) {
                turns.newest.remove(id);
            }
        }
        drop(turns);
        self.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::{Event, Happening, State, Timestamp};

    #[derive(Default)]
    struct Seen(Mutex<Vec<u64>>);

    impl CommitObserver for Seen {
        fn committed(&self, commit: &Commit) {
            lock(&self.0).extend(commit.events.iter().map(|e| e.seq));
        }
    }

    fn commit(task: u8, seq: u64) -> Commit {
        let event = Event {
            task_id: TaskId::from_bytes([task; 16]),
            seq,
            at: Timestamp::default(),
            state: State::Queued,
            attempt: 0,
            node: None,
            what: Happening::Due,
        };
        Commit { events: vec![event], ..Commit::default() }
    }

    #[tokio::test]
    async fn a_task_is_told_of_in_the_order_of_the_turns() {
        let (teller, seen) = (Arc::new(Teller::default()), Arc::new(Seen::default()));
        teller.observe(seen.clone());
        let (one, two, other) = (commit(1, 1), commit(1, 2), commit(2, 9));
        let (first, second) = (teller.turn(&one), teller.turn(&two));
        let mut late = Box::pin(second.tell(&two));
        assert!(futures::poll!(&mut late).is_pending());
        teller.turn(&other).tell(&other).await;
        first.tell(&one).await;
        late.await;
        assert_eq!(*lock(&seen.0), [9, 1, 2]);
        assert!(lock(&teller.turns).newest.is_empty(), "nothing is kept");
    }

    #[tokio::test]
    async fn a_commit_that_failed_holds_up_nobody() {
        let (teller, seen) = (Arc::new(Teller::default()), Arc::new(Seen::default()));
        teller.observe(seen.clone());
        let (one, two) = (commit(1, 1), commit(1, 1));
        let (first, second) = (teller.turn(&one), teller.turn(&two));
        drop(first);
        second.tell(&two).await;
        assert_eq!(*lock(&seen.0), [1]);
    }
}
