use callboard_domain::{Event, TaskId};
use callboard_ports::store::{Commit, CommitObserver};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use tokio::sync::mpsc;

/// How many events may wait for one watcher.
const BUFFER: usize = 256;

type Watchers = HashMap<TaskId, Vec<(u64, mpsc::Sender<Event>)>>;

/// Is told what is watched on this node. Called without any lock of the hub.
pub(super) trait Interest: Send + Sync {
    /// A watch on the task has begun or ended: [`Hub::is_watched`] says whether there is one now.
    fn changed(&self, task: TaskId);

    /// Who watches the task knows its events up to a seq.
    fn known(&self, task: TaskId, seq: u64);
}

#[derive(Default)]
struct Inner {
    watchers: Mutex<(u64, Watchers)>,
    /// How many there are, so that a commit nobody watches costs one load.
    count: AtomicUsize,
    interest: OnceLock<Weak<dyn Interest>>,
}

impl Inner {
    fn interest(&self) -> Option<Arc<dyn Interest>> {
        self.interest.get()?.upgrade()
    }
}

/// Passes events on to those who watch.
#[derive(Clone, Default)]
pub struct Hub {
    inner: Arc<Inner>,
}

/// A watch on one task; it ends when dropped.
pub struct Subscription {
    inner: Arc<Inner>,
    task: TaskId,
    number: u64,
    events: mpsc::Receiver<Event>,
}

impl Hub {
    /// A hub without watchers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a task: every event committed from now on.
    #[must_use]
    pub fn subscribe(&self, task: TaskId) -> Subscription {
        let (sender, events) = mpsc::channel(BUFFER);
        let mut guard = self.inner.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        guard.0 += 1;
        let number = guard.0;
        guard.1.entry(task).or_default().push((number, sender));
        drop(guard);
        self.inner.count.fetch_add(1, Ordering::SeqCst);
        if let Some(interest) = self.inner.interest() {
            interest.changed(task);
        }
        Subscription { inner: Arc::clone(&self.inner), task, number, events }
    }

    /// How many watches there are.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.inner.count.load(Ordering::SeqCst)
    }

    /// Whether anybody watches a task.
    #[must_use]
    pub fn is_watched(&self, task: TaskId) -> bool {
        self.inner.watchers.lock().unwrap_or_else(PoisonError::into_inner).1.contains_key(&task)
    }

    /// Tells somebody what is watched from now on. The first one stays.
    pub(super) fn tell(&self, interest: Weak<dyn Interest>) {
        let _ = self.inner.interest.set(interest);
    }

    /// Passes events on.
    pub(super) fn pass(&self, events: &[Event]) {
        let mut guard = self.inner.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            if let Some(watchers) = guard.1.get_mut(&event.task_id) {
                // A full channel is a slow watcher: dropping the sender ends its channel after what it holds.
                watchers.retain(|(_, sender)| sender.try_send(event.clone()).is_ok());
            }
        }
    }
}

impl CommitObserver for Hub {
    fn committed(&self, commit: &Commit) {
        if self.watchers() > 0 {
            self.pass(&commit.events);
        }
    }
}

impl Subscription {
    /// The watcher has read the task's events up to a seq: a hub that hears of a task from several nodes
    /// then finds out what it missed before it heard anything. To be said after the watch has begun.
    pub fn known(&self, seq: u64) {
        if let Some(interest) = self.inner.interest() {
            interest.known(self.task, seq);
        }
    }

    /// The next event. `None`: the watcher was too slow and must read on from the store.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut guard = self.inner.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watchers) = guard.1.get_mut(&self.task) {
            watchers.retain(|(number, _)| *number != self.number);
            if watchers.is_empty() {
                guard.1.remove(&self.task);
            }
        }
        drop(guard);
        self.inner.count.fetch_sub(1, Ordering::SeqCst);
        if let Some(interest) = self.inner.interest() {
            interest.changed(self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::{Happening, State, Timestamp};

    fn event(id: u8, seq: u64) -> Event {
        Event {
            task_id: TaskId::from_bytes([id; 16]),
            seq,
            at: Timestamp::default(),
            state: State::Queued,
            attempt: 0,
            node: None,
            what: Happening::Due,
        }
    }

    fn commit(events: Vec<Event>) -> Commit {
        Commit { events, ..Commit::default() }
    }

    #[tokio::test]
    async fn a_watcher_gets_its_own_events_in_order_and_a_slow_one_is_cut() {
        let hub = Hub::new();
        let mut watch = hub.subscribe(TaskId::from_bytes([1; 16]));
        hub.committed(&commit(vec![event(1, 1), event(2, 1), event(1, 2)]));
        assert_eq!(watch.next().await.unwrap().seq, 1);
        assert_eq!(watch.next().await.unwrap().seq, 2);
        let buffer = u64::try_from(BUFFER).unwrap();
        hub.committed(&commit((3..4 + buffer).map(|seq| event(1, seq)).collect()));
        for seq in 3..3 + buffer {
            assert_eq!(watch.next().await.unwrap().seq, seq);
        }
        assert!(watch.next().await.is_none());
        assert_eq!(hub.watchers(), 1);
        drop(watch);
        assert_eq!(hub.watchers(), 0);
        assert!(hub.inner.watchers.lock().unwrap().1.is_empty());
    }
}
