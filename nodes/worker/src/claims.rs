use callboard_domain::{Attempt, SessionId, TaskId};
use callboard_ports::handoff::Ready;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The attempts this node holds, and the ids whose claim is under way or in doubt.
#[derive(Clone, Default)]
pub struct Claims {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: Mutex<HashMap<TaskId, Entry>>,
    /// Told whenever one leaves: for the take loop.
    left: Notify,
    /// Told when the last one leaves: for the drain.
    emptied: Notify,
}

enum Entry {
    /// Its claim is under way.
    Claiming {
        handoff: u64,
        /// Whether a cancel was asked for meanwhile.
        cancel: bool,
    },
    /// Whether its claim under this session has committed is not known.
    Doubtful(SessionId),
    Held(Held),
}

struct Held {
    attempt: u32,
    session: SessionId,
    handoff: u64,
    since: Instant,
    cancel: CancellationToken,
    lost: CancellationToken,
}

/// A delivery sorted out, its claim about to be sent. Dropped, it forgets what no [`Hold`] took over.
pub(crate) struct Claiming {
    claims: Claims,
    session: SessionId,
    /// What to take, with the hand-off of each.
    take: Vec<(TaskId, u64)>,
    /// What does not fit any more.
    rest: Vec<TaskId>,
}

/// One attempt that is held. Dropped, it is held no more.
pub(crate) struct Hold {
    claims: Claims,
    /// The session it is held under.
    pub(crate) session: SessionId,
    /// The attempt.
    pub(crate) attempt: Attempt,
    /// Set when a cancel was asked for.
    pub(crate) cancel: CancellationToken,
    /// Set when the attempt is over for this node, whatever its handler does: others run it, or will.
    pub(crate) lost: CancellationToken,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Entry>> {
        self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are, those under way and in doubt included.
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

    fn leave(&self, entries: MutexGuard<'_, HashMap<TaskId, Entry>>) {
        let empty = entries.is_empty();
        drop(entries);
        self.inner.left.notify_one();
        if empty {
            self.inner.emptied.notify_one();
        }
    }

    /// Notes the tasks of a delivery before their claim is sent, up to `room` of them.
    ///
    /// A second delivery of a hand-off that is held here is left out. A later hand-off of such a task is not:
    /// it means that the attempt is over, and its runner about to leave. The store decides.
    pub(crate) fn begin(&self, session: SessionId, tasks: &[Ready], room: usize) -> Claiming {
        let mut entries = self.lock();
        let (mut take, mut rest) = (Vec::new(), Vec::new());
        for Ready { id, handoff, .. } in tasks {
            match entries.get(id) {
                Some(Entry::Claiming { .. }) => continue,
                Some(Entry::Held(held)) if held.handoff >= *handoff => continue,
                _ if take.len() >= room => rest.push(*id),
                Some(Entry::Held(_)) => take.push((*id, *handoff)),
                Some(Entry::Doubtful(_)) | None => {
                    entries.insert(*id, Entry::Claiming { handoff: *handoff, cancel: false });
                    take.push((*id, *handoff));
                }
            }
        }
        Claiming { claims: self.clone(), session, take, rest }
    }

    /// Since when the oldest of the attempts has been held.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let since = |entry: &Entry| if let Entry::Held(held) = entry { Some(held.since) } else { None };
        self.lock().values().filter_map(since).min()
    }

    /// Whether exactly this attempt is held.
    pub(crate) fn holds(&self, attempt: Attempt) -> bool {
        matches!(self.lock().get(&attempt.task_id), Some(Entry::Held(held)) if held.attempt == attempt.number)
    }

    /// The tasks that are held.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        let held = |(id, entry): (&TaskId, &Entry)| matches!(entry, Entry::Held(_)).then_some(*id);
        self.lock().iter().filter_map(held).collect()
    }

    /// The tasks whose claim is in doubt.
    pub(crate) fn doubtful(&self) -> Vec<TaskId> {
        let doubtful = |(id, entry): (&TaskId, &Entry)| matches!(entry, Entry::Doubtful(_)).then_some(*id);
        self.lock().iter().filter_map(doubtful).collect()
    }

    /// What these stood in doubt about is known: no attempt of theirs is held.
    pub(crate) fn resolve(&self, ids: &[TaskId]) {
        let mut entries = self.lock();
        for id in ids {
            if matches!(entries.get(id), Some(Entry::Doubtful(_))) {
                entries.remove(id);
            }
        }
        self.leave(entries);
    }

    /// Passes a cancel request on. Returns whether the task is held, or about to be.
    pub(crate) fn cancel(&self, id: TaskId) -> bool {
        match self.lock().get_mut(&id) {
            Some(Entry::Held(held)) => held.cancel.cancel(),
            Some(Entry::Claiming { cancel, .. }) => *cancel = true,
            Some(Entry::Doubtful(_)) | None => return false,
        }
        true
    }

    /// Gives up every attempt, or those of one session. Returns how many were held.
    pub(crate) fn lose(&self, session: Option<SessionId>) -> usize {
        let concerned = |of: SessionId| session.is_none_or(|session| session == of);
        let mut entries = self.lock();
        let mut count = 0;
        entries.retain(|_, entry| match entry {
            Entry::Held(held) if concerned(held.session) => {
                held.lost.cancel();
                held.cancel.cancel();
                count += 1;
                true
            }
            // Under a session that is over nothing can be held: whoever ended it has handed it off again.
            Entry::Doubtful(of) => session != Some(*of),
            _ => true,
        });
        self.leave(entries);
        count
    }
}

impl Claiming {
    /// The session it is made under.
    pub(crate) const fn session(&self) -> SessionId {
        self.session
    }

    /// The tasks to take.
    pub(crate) fn ids(&self) -> Vec<TaskId> {
        self.take.iter().map(|(id, _)| *id).collect()
    }

    /// The tasks to give back.
    pub(crate) fn rest(&self) -> &[TaskId] {
        &self.rest
    }

    /// The claim of one of them has committed.
    pub(crate) fn hold(&self, attempt: Attempt) -> Hold {
        let (cancel, lost) = (CancellationToken::new(), CancellationToken::new());
        let mut entries = self.claims.lock();
        let handoff = match entries.get(&attempt.task_id) {
            Some(Entry::Claiming { handoff, cancel: wanted }) => {
                if *wanted {
                    cancel.cancel();
                }
                *handoff
            }
            before => {
                if let Some(Entry::Held(before)) = before {
                    // The store has said that the attempt before is over.
                    before.lost.cancel();
                }
                self.take.iter().find(|(id, _)| *id == attempt.task_id).map_or(0, |(_, handoff)| *handoff)
            }
        };
        let (number, session) = (attempt.number, self.session);
        let held = Held {
            attempt: number,
            session,
            handoff,
            since: Instant::now(),
            cancel: cancel.clone(),
            lost: lost.clone(),
        };
        entries.insert(attempt.task_id, Entry::Held(held));
        drop(entries);
        Hold { claims: self.claims.clone(), session: self.session, attempt, cancel, lost }
    }

    /// Whether the claim has committed is not known: its tasks stay until it is.
    pub(crate) fn doubt(self) {
        let mut entries = self.claims.lock();
        for (id, _) in &self.take {
            if let Some(entry @ Entry::Claiming { .. }) = entries.get_mut(id) {
                *entry = Entry::Doubtful(self.session);
            }
        }
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        let mut entries = self.claims.lock();
        for (id, _) in &self.take {
            if matches!(entries.get(id), Some(Entry::Claiming { .. })) {
                entries.remove(id);
            }
        }
        self.claims.leave(entries);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut entries = self.claims.lock();
        let id = &self.attempt.task_id;
        if matches!(entries.get(id), Some(Entry::Held(held)) if held.attempt == self.attempt.number) {
            entries.remove(id);
        }
        self.claims.leave(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::Band;

    const SESSION: SessionId = SessionId::from_bytes([7; 16]);

    fn id(n: u8) -> TaskId {
        TaskId::from_bytes([n; 16])
    }

    fn ready(n: u8, handoff: u64) -> Ready {
        Ready { id: id(n), handoff, queue: "q".into(), band: Band::Low, alone: false, not_before: None }
    }

    fn attempt(n: u8, number: u32) -> Attempt {
        Attempt { task_id: id(n), number }
    }

    #[test]
    fn a_claim_that_is_dropped_forgets_only_what_nobody_holds() {
        let claims = Claims::default();
        let claiming = claims.begin(SESSION, &[ready(1, 1), ready(2, 1), ready(1, 1)], 9);
        assert_eq!(claiming.ids(), [id(1), id(2)]);
        assert_eq!(claims.begin(SESSION, &[ready(1, 1)], 9).ids(), [], "under way already");
        let hold = claiming.hold(attempt(1, 3));
        drop(claiming);
        assert!(claims.holds(attempt(1, 3)) && !claims.holds(attempt(1, 4)) && claims.len() == 1);
        assert!(!claims.cancel(id(2)), "it is not held");
        assert!(claims.cancel(id(1)) && hold.cancel.is_cancelled() && !hold.lost.is_cancelled());
        drop(hold);
        assert!(claims.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_given_back_but_never_what_runs_here() {
        let claims = Claims::default();
        let hold = claims.begin(SESSION, &[ready(1, 5)], 1).hold(attempt(1, 1));
        let tasks: Vec<_> = (1..=4).map(|n| ready(n, 5)).collect();
        let claiming = claims.begin(SESSION, &tasks, 2);
        assert_eq!(claiming.ids(), [id(2), id(3)]);
        assert_eq!(claiming.rest(), [id(4)]);
        drop((claiming, hold));
        assert!(claims.is_empty());
    }

    #[test]
    fn a_later_hand_off_of_a_task_whose_runner_is_about_to_leave_is_taken() {
        let claims = Claims::default();
        let first = claims.begin(SESSION, &[ready(1, 5)], 9).hold(attempt(1, 1));
        assert_eq!(claims.begin(SESSION, &[ready(1, 4)], 9).ids(), [], "an old message");
        // It turns out to be a duplicate with a higher number: the runner stays.
        drop(claims.begin(SESSION, &[ready(1, 6)], 9));
        assert!(claims.holds(attempt(1, 1)) && !first.lost.is_cancelled());
        // It is a hand-off of its own: the runner before is over, and its leaving takes nothing away.
        let second = claims.begin(SESSION, &[ready(1, 6)], 9).hold(attempt(1, 2));
        assert!(first.lost.is_cancelled() && !second.lost.is_cancelled());
        drop(first);
        assert!(claims.holds(attempt(1, 2)));
    }

    #[test]
    fn a_claim_in_doubt_stays_until_it_is_resolved_or_its_session_is_over() {
        let claims = Claims::default();
        claims.begin(SESSION, &[ready(1, 1), ready(2, 1), ready(3, 1)], 9).doubt();
        assert_eq!((claims.len(), claims.doubtful().len(), claims.ids().len()), (3, 3, 0));
        let again = claims.begin(SESSION, &[ready(1, 1)], 9);
        assert_eq!(again.ids(), [id(1)], "its delivery came back: the store decides");
        claims.resolve(&[id(1), id(2)]);
        assert_eq!(claims.len(), 2, "what is under way again is not forgotten");
        drop(again);
        claims.lose(Some(SessionId::from_bytes([8; 16])));
        assert_eq!(claims.doubtful(), [id(3)]);
        claims.lose(Some(SESSION));
        assert!(claims.is_empty());
    }

    #[test]
    fn a_cancel_that_comes_while_the_claim_is_under_way_reaches_the_attempt() {
        let claims = Claims::default();
        let claiming = claims.begin(SESSION, &[ready(1, 1)], 9);
        assert!(claims.cancel(id(1)));
        assert!(claiming.hold(attempt(1, 1)).cancel.is_cancelled());
    }

    #[test]
    fn only_the_attempts_of_the_session_that_is_over_are_lost() {
        let claims = Claims::default();
        let later = SessionId::from_bytes([8; 16]);
        let old = claims.begin(SESSION, &[ready(1, 1)], 9).hold(attempt(1, 1));
        let new = claims.begin(later, &[ready(2, 1)], 9).hold(attempt(2, 1));
        assert_eq!(claims.lose(Some(SESSION)), 1);
        assert!(old.lost.is_cancelled() && !new.lost.is_cancelled());
        assert_eq!(claims.lose(None), 2);
        assert!(new.lost.is_cancelled() && new.cancel.is_cancelled());
    }
}
