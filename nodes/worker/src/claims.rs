use callboard_domain::{Attempt, TaskId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The attempts this node holds, and the ids whose claim is under way.
#[derive(Clone, Default)]
pub struct Claims {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    held: Mutex<HashMap<TaskId, Entry>>,
    /// Told whenever one leaves: for the take loop.
    left: Notify,
    /// Told when the last one leaves: for the drain.
    emptied: Notify,
}

/// `None`: its claim is under way.
type Entry = Option<Held>;

struct Held {
    attempt: u32,
    cancel: CancellationToken,
}

/// Ids whose claim is under way. Dropped, it forgets those that no [`Hold`] took over.
pub(crate) struct Claiming {
    claims: Claims,
    ids: Vec<TaskId>,
}

/// One attempt that is held. Dropped, it is held no more.
pub(crate) struct Hold {
    claims: Claims,
    /// The attempt.
    pub(crate) attempt: Attempt,
    /// Set when a cancel was asked for.
    pub(crate) cancel: CancellationToken,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Entry>> {
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are, those under way included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until one leaves after this call.
    pub(crate) async fn one_left(&self) {
        self.inner.left.notified().await;
    }

    /// Waits until there are none.
    pub(crate) async fn empty(&self) {
        while !self.is_empty() {
            self.inner.emptied.notified().await;
        }
    }

    fn leave(&self, held: MutexGuard<'_, HashMap<TaskId, Entry>>) {
        let empty = held.is_empty();
        drop(held);
        self.inner.left.notify_one();
        if empty {
            self.inner.emptied.notify_one();
        }
    }

    /// Notes ids before their claim is sent. Those that are noted already are left out: a second
    /// delivery of what runs here.
    pub(crate) fn begin(&self, ids: impl Iterator<Item = TaskId>) -> Claiming {
        let mut held = self.lock();
        let mut fresh = Vec::new();
        for id in ids {
            held.entry(id).or_insert_with(|| {
                fresh.push(id);
                None
            });
        }
        Claiming { claims: self.clone(), ids: fresh }
    }

    /// Whether anything is known of a task here.
    pub(crate) fn knows(&self, id: TaskId) -> bool {
        self.lock().contains_key(&id)
    }

    /// The tasks that are held.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        self.lock().iter().filter_map(|(id, entry)| entry.as_ref().map(|_| *id)).collect()
    }

    /// Passes a cancel request on. Returns whether the task is held.
    pub(crate) fn cancel(&self, id: TaskId) -> bool {
        let held = self.lock();
        let Some(Some(held)) = held.get(&id) else { return false };
        held.cancel.cancel();
        true
    }
}

impl Claiming {
    pub(crate) fn ids(&self) -> &[TaskId] {
        &self.ids
    }

    /// The claim of one of them has committed.
    pub(crate) fn hold(&self, attempt: Attempt) -> Hold {
        let cancel = CancellationToken::new();
        let held = Held { attempt: attempt.number, cancel: cancel.clone() };
        self.claims.lock().insert(attempt.task_id, Some(held));
        Hold { claims: self.claims.clone(), attempt, cancel }
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        let mut held = self.claims.lock();
        for id in &self.ids {
            if matches!(held.get(id), Some(None)) {
                held.remove(id);
            }
        }
        self.claims.leave(held);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.claims.lock();
        if matches!(held.get(&self.attempt.task_id), Some(Some(h)) if h.attempt == self.attempt.number) {
            held.remove(&self.attempt.task_id);
        }
        self.claims.leave(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_is_dropped_forgets_only_what_nobody_holds() {
        let claims = Claims::default();
        let id = |n| TaskId::from_bytes([n; 16]);
        let claiming = claims.begin([id(1), id(2)].into_iter());
        assert_eq!(claims.begin([id(1)].into_iter()).ids(), [], "under way already");
        let hold = claiming.hold(Attempt { task_id: id(1), number: 3 });
        assert!(!claims.cancel(id(2)), "not held yet");
        drop(claiming);
        assert!(claims.knows(id(1)) && !claims.knows(id(2)));
        assert!(claims.cancel(id(1)) && hold.cancel.is_cancelled());
        drop(hold);
        assert!(claims.is_empty());
    }
}
