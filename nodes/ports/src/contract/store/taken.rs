//! Tasks that a worker takes as they are admitted.

use super::Fixture;
use super::kit::{Kit, attempt_of, is_refusal, success};
use crate::store::{Claimed, Fenced, Store};
use crate::taker::{Taker, Taking};
use bytes::Bytes;
use callboard_domain::{Happening, NewTask, SessionId, State, Task, TaskId, limits};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What a worker was told of.
#[derive(Default)]
struct Seen {
    claimed: Vec<Claimed>,
    settled: usize,
    gone: usize,
}

/// A worker that takes whatever is in one queue.
struct Worker {
    session: Mutex<SessionId>,
    seen: Arc<Mutex<Seen>>,
}

const TAKEN: &str = "taken";

impl Worker {
    /// Lets a worker take what a store admits.
    fn on(store: &Arc<dyn Store>, session: SessionId) -> Arc<Self> {
        let worker = Arc::new(Self { session: Mutex::new(session), seen: Arc::default() });
        store.offer_to(worker.clone());
        worker
    }

    fn session(&self) -> MutexGuard<'_, SessionId> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has another session.
    fn takes_under(&self, session: SessionId) {
        *self.session() = session;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many takings were settled, and how many are gone, settled or not.
    fn told(&self) -> (usize, usize) {
        let seen = self.seen();
        (seen.settled, seen.gone)
    }

    /// The ids it was told to have claimed.
    fn ids(&self) -> BTreeSet<TaskId> {
        self.seen().claimed.iter().map(|claimed| claimed.task.spec.id).collect()
    }
}

impl Taker for Worker {
    fn take(&self, tasks: &mut dyn Iterator<Item = &NewTask>) -> Option<Box<dyn Taking>> {
        let ids: BTreeSet<_> = tasks.filter(|new| *new.spec.queue == *TAKEN).map(|new| new.spec.id).collect();
        let taking = || Offer { session: *self.session(), ids: ids.clone(), seen: Arc::clone(&self.seen) };
        (!ids.is_empty()).then(|| Box::new(taking()) as Box<dyn Taking>)
    }
}

struct Offer {
    session: SessionId,
    ids: BTreeSet<TaskId>,
    seen: Arc<Mutex<Seen>>,
}

impl Taking for Offer {
    fn session(&self) -> SessionId {
        self.session
    }

    fn node(&self) -> Arc<str> {
        "node-a".into()
    }

    fn takes(&self, id: TaskId) -> bool {
        self.ids.contains(&id)
    }

    fn settle(self: Box<Self>, claimed: Vec<Claimed>, in_doubt: bool) {
        assert!(!in_doubt, "every commit was answered");
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.settled += 1;
        seen.claimed.extend(claimed);
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).gone += 1;
    }
}

fn taken(kit: &Kit<impl Fixture>) -> NewTask {
    let mut new = kit.task();
    new.spec.queue = TAKEN.into();
    new
}

/// What is taken is RUNNING with its admission: submitted and claimed in one commit, and never handed off. The caller
/// is told of it as it was submitted.
pub async fn what_is_taken_is_claimed_with_its_admission(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let worker = Worker::on(&kit.store, session);
    let (first, second, other) = (taken(&kit), taken(&kit), kit.task());
    let answers = kit.admit(vec![first.clone(), other.clone(), second.clone()]).await;
    for answer in &answers {
        assert_eq!((answer.life.state, answer.life.attempt, answer.life.seq), (State::Queued, 0, 1));
        assert_eq!(answer.node, None);
    }
    assert_eq!(worker.ids(), BTreeSet::from([first.spec.id, second.spec.id]));
    kit.took(worker.ids());
    let claimed = std::mem::take(&mut worker.seen().claimed);
    for Claimed { task, input } in claimed {
        let new = if task.spec.id == first.spec.id { &first } else { &second };
        assert_eq!((&task.spec, &input), (&new.spec, &new.input));
        assert_eq!((task.life.state, task.life.attempt, task.life.seq), (State::Running, 1, 2));
        assert_eq!((task.life.session, task.node.as_deref()), (Some(session), Some("node-a")));
        assert!(!task.life.started, "a claim is not a start");
        assert_eq!(kit.get(task.spec.id).await, task);
        let events = kit.other.events(task.spec.id, 0, 10).await.expect("events are read");
        assert!(matches!(
            events.iter().map(|event| &event.what).collect::<Vec<_>>()[..],
            [Happening::Submitted { run_at: None }, Happening::Claimed { .. }]
        ));
        let end = success(attempt_of(&task), "1");
        assert_eq!(kit.finish_one(session, end).await, Fenced::Recorded(State::Succeeded));
        assert_eq!(kit.told.ready(task.spec.id), [], "it was never handed off");
    }
    kit.nth_ready(other.spec.id, 1).await;
    kit.audit().await;
}

/// What is for later, was admitted before or cannot be admitted is not taken, whatever the worker asks for.
pub async fn only_what_is_new_and_due_is_taken(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let mut known = kit.task();
    known.spec.request_id = Some("r-1".into());
    kit.admit(vec![known.clone()]).await;
    let worker = Worker::on(&kit.store, session);
    let mut later = kit.later(Duration::from_secs(60));
    later.spec.queue = TAKEN.into();
    let mut again = taken(&kit);
    (again.spec.request_id, again.input) = (known.spec.request_id.clone(), known.input.clone());
    let large = NewTask { input: Bytes::from(vec![b'1'; limits::INPUT_BYTES + 1]), ..taken(&kit) };
    let sound = taken(&kit);
    let batch = vec![later.clone(), again, large, sound.clone()];
    let [for_later, existed, refused, admitted]: [_; 4] =
        kit.store.admit(batch).await.try_into().expect("an answer for each");
    assert_eq!(kit.note(for_later.expect("it is sound").task).life.state, State::Scheduled);
    assert!(existed.expect("it is the same request").existed);
    assert!(is_refusal(&refused.expect_err("it is too large")));
    let id = kit.note(admitted.expect("it is sound").task).spec.id;
    // Beside one that is known already, what is new may be taken or not.
    let state = kit.get(id).await.life.state;
    let ids = if state == State::Running { BTreeSet::from([id]) } else { BTreeSet::new() };
    assert_eq!(worker.ids(), ids);
    kit.took(ids);
    kit.audit().await;
}

/// Under a session that has ended nothing is taken: it is handed off as ever.
pub async fn only_under_a_live_session_is_anything_taken(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let ended = kit.session("a").await;
    kit.store.end_session(ended, "stopped").await.expect("a session ends");
    let worker = Worker::on(&kit.store, ended);
    let task: Task = kit.admit(vec![taken(&kit)]).await.remove(0);
    assert_eq!(kit.get(task.spec.id).await, task);
    kit.nth_ready(task.spec.id, 1).await;
    assert_eq!(worker.told(), (1, 1), "it is told");
    assert_eq!(worker.ids(), BTreeSet::new());
    kit.audit().await;
}

/// A session's end hands off what it had taken, under the first number.
pub async fn what_was_taken_is_recovered(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.session("a").await, kit.session("b").await);
    let worker = Worker::on(&kit.store, a);
    let id = kit.admit(vec![taken(&kit)]).await[0].spec.id;
    kit.took(worker.ids());
    assert_eq!(kit.other.held_by(a).await.expect("attempts are read").len(), 1);
    kit.other.end_session(a, "dead").await.expect("a session ends");
    assert_eq!(kit.nth_ready(id, 1).await.handoff, 1);
    let attempt = kit.claim_one(b, id).await;
    assert_eq!(attempt.number, 2);
    assert_eq!(kit.finish_one(b, success(attempt, "1")).await, Fenced::Recorded(State::Succeeded));
    kit.audit().await;
}

/// Admissions that take and the end of their session, at once: what is taken is found by the end, or was not taken.
pub async fn an_admission_and_the_end_of_its_session_agree(fixture: impl Fixture) {
    const ADMITS: usize = 6;
    let kit = Kit::new(fixture);
    let worker = Worker::on(&kit.store, kit.session("a").await);
    let mut admitted = Vec::new();
    for round in 0..4 * ADMITS {
        let session = kit.session("a").await;
        worker.takes_under(session);
        let begins = Notify::new();
        let admits = async {
            let mut ids = Vec::new();
            for n in 0..ADMITS {
                if n == round % ADMITS {
                    begins.notify_one();
                }
                ids.push(kit.admit(vec![taken(&kit)]).await[0].spec.id);
            }
            ids
        };
        let end = async {
            begins.notified().await;
            kit.other.end_session(session, "dead").await.expect("a session ends");
        };
        admitted.extend(futures::future::join(admits, end).await.0);
    }
    for id in admitted {
        assert_eq!(kit.get(id).await.life.state, State::Queued, "{id} is held by a session that is over");
        kit.nth_ready(id, 1).await;
    }
    let (settled, gone) = worker.told();
    assert_eq!(settled, gone, "it is told of each");
    assert!(!worker.ids().is_empty(), "none was taken before the end");
    kit.took(worker.ids());
    kit.audit().await;
}
