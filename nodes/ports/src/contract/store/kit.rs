//! What the properties of the store share: making tasks, moving them, and the audit at the end.

use super::Fixture;
use crate::contract::{Ids, soon};
use crate::handoff::Ready;
use crate::sessions::NewSession;
use crate::store::{
    Claim, ClaimRequest, Claimed, Commit, CommitObserver, Error, Fenced, Finish, Started, Store,
};
use bytes::Bytes;
use callboard_domain::{
    Attempt, Event, Happening, Lifecycle, NewTask, Outcome, Priority, RetryPolicy, SessionId, Spec, State,
    Task, TaskError, TaskId, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The kind that nodes host unless a property says otherwise.
pub(in crate::contract) const KIND: &str = "echo";
/// The queue tasks wait in unless a property says otherwise.
pub(in crate::contract) const QUEUE: &str = "default";

/// Remembers every commit that the nodes are told of.
#[derive(Default)]
pub(in crate::contract) struct Recorder {
    commits: Mutex<Vec<Commit>>,
    /// What one node was told out of order.
    disorder: Mutex<Vec<String>>,
    more: Notify,
}

/// Listens to one node. Each node is told in order per task; what two nodes are told may cross.
#[derive(Default)]
struct Ear {
    recorder: Arc<Recorder>,
    heard: Mutex<BTreeMap<TaskId, (u64, u64)>>,
}

impl CommitObserver for Ear {
    fn committed(&self, commit: &Commit) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut disorder = Vec::new();
        for event in &commit.events {
            let (seq, _) = heard.entry(event.task_id).or_default();
            if event.seq <= std::mem::replace(seq, event.seq) {
                disorder.push(format!("{event:?}"));
            }
        }
        for ready in &commit.ready {
            let (_, handoff) = heard.entry(ready.id).or_default();
            if ready.handoff <= std::mem::replace(handoff, ready.handoff) {
                disorder.push(format!("{ready:?}"));
            }
        }
        let recorder = &self.recorder;
        recorder.disorder.lock().unwrap_or_else(PoisonError::into_inner).extend(disorder);
        recorder.commits.lock().unwrap_or_else(PoisonError::into_inner).push(commit.clone());
        recorder.more.notify_waiters();
    }
}

impl Recorder {
    /// Every event of a task that the nodes were told of, in order.
    pub(in crate::contract) fn events(&self, id: TaskId) -> Vec<Event> {
        let mut events = self.all(|c| c.events.iter().filter(|e| e.task_id == id).cloned().collect());
        events.sort_by_key(|e| e.seq);
        events
    }

    /// Every time a task was reported as ready, in order.
    pub(in crate::contract) fn ready(&self, id: TaskId) -> Vec<Ready> {
        let mut ready = self.all(|c| c.ready.iter().filter(|r| r.id == id).cloned().collect());
        ready.sort_by_key(|r| r.handoff);
        ready
    }

    /// What a node was told out of order.
    fn disorder(&self) -> Vec<String> {
        self.disorder.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The times that commits named as due next.
    pub(in crate::contract) fn due(&self) -> Vec<Timestamp> {
        self.all(|c| c.next_due.into_iter().collect())
    }

    fn all<T>(&self, pick: impl Fn(&Commit) -> Vec<T>) -> Vec<T> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).iter().flat_map(pick).collect()
    }

    /// Waits until what it was told of holds. A store may answer before it tells its observers.
    pub(in crate::contract) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        soon(what, async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if holds(self) {
                    return;
                }
                more.await;
            }
        })
        .await;
    }
}

/// A store under test with two nodes on it.
pub(in crate::contract) struct Kit<F> {
    pub(in crate::contract) fixture: F,
    pub(in crate::contract) store: Arc<dyn Store>,
    pub(in crate::contract) other: Arc<dyn Store>,
    pub(in crate::contract) told: Arc<Recorder>,
    ids: Ids,
    sessions: AtomicU64,
    admitted: Mutex<BTreeSet<TaskId>>,
    taken: Mutex<BTreeSet<TaskId>>,
}

impl<F: Fixture> Kit<F> {
    pub(in crate::contract) fn new(fixture: F) -> Self {
        let (store, other) = (fixture.store(), fixture.other());
        let told = Arc::new(Recorder::default());
        let ear = || Arc::new(Ear { recorder: Arc::clone(&told), heard: Mutex::default() });
        store.observe(ear());
        if !std::ptr::addr_eq(Arc::as_ptr(&store), Arc::as_ptr(&other)) {
            other.observe(ear());
        }
        let (ids, sessions) = (Ids::default(), AtomicU64::new(1));
        let (admitted, taken) = (Mutex::default(), Mutex::default());
        Self { fixture, store, other, told, ids, sessions, admitted, taken }
    }

    /// A task to admit: of [`KIND`] in [`QUEUE`], with three attempts.
    pub(in crate::contract) fn task(&self) -> NewTask {
        let now = self.fixture.now();
        let id = self.ids.next(now);
        NewTask {
            spec: Spec {
                id,
                namespace: "default".into(),
                kind: KIND.into(),
                queue: QUEUE.into(),
                priority: Priority::DEFAULT,
                max_attempts: 3,
                timeout: Duration::from_secs(60),
                created_at: now,
                request_id: None,
                traceparent: None,
                retry_of: None,
            },
            run_at: None,
            input: Bytes::from(format!(r#"{{"task":"{id}"}}"#)),
        }
    }

    /// A task that waits for its time.
    pub(in crate::contract) fn later(&self, delay: Duration) -> NewTask {
        NewTask { run_at: Some(self.fixture.now().after(delay)), ..self.task() }
    }

    /// Admits tasks, all of which are taken as new.
    pub(in crate::contract) async fn admit(&self, batch: Vec<NewTask>) -> Vec<Task> {
        let answers = self.store.admit(batch).await;
        answers.into_iter().map(|a| self.note(a.expect("a sound task is admitted").task)).collect()
    }

    /// Admits one more task as [`task`](Self::task) makes it.
    pub(in crate::contract) async fn admit_one(&self) -> TaskId {
        let task = self.task();
        let id = task.spec.id;
        self.admit(vec![task]).await;
        id
    }

    /// Admits `count` tasks as [`task`](Self::task) makes them.
    pub(in crate::contract) async fn admit_many(&self, count: usize) -> Vec<TaskId> {
        let batch = (0..count).map(|_| self.task()).collect();
        self.admit(batch).await.into_iter().map(|t| t.spec.id).collect()
    }

    /// Takes a task into the audit at the end.
    pub(in crate::contract) fn note(&self, task: Task) -> Task {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner).insert(task.spec.id);
        task
    }

    /// Tells the audit of tasks that were claimed with their admission.
    pub(in crate::contract) fn took(&self, ids: impl IntoIterator<Item = TaskId>) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }

    fn is_taken(&self, id: TaskId) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    pub(in crate::contract) fn new_session(&self, node: &str) -> NewSession {
        let count = self.sessions.fetch_add(1, Ordering::Relaxed);
        NewSession {
            id: SessionId::from_bytes(u128::from(count).to_be_bytes()),
            node: node.to_owned(),
            version: "0.0.0".to_owned(),
            roles: vec!["worker".to_owned(), "alert".to_owned()],
            addresses: BTreeMap::from([("mesh".to_owned(), "127.0.0.1:7071".to_owned())]),
            revival: false,
        }
    }

    /// Opens a session for a node.
    pub(in crate::contract) async fn session(&self, node: &str) -> SessionId {
        let session = self.new_session(node);
        let id = session.id;
        self.store.open_session(session).await.expect("a session opens");
        id
    }

    /// Claims one task that waits.
    pub(in crate::contract) async fn claim_one(&self, session: SessionId, id: TaskId) -> Attempt {
        let claimed = self.claim(session, vec![id]).await.remove(0);
        claimed_of(claimed).map(|c| attempt_of(&c.task)).expect("a waiting task is claimed")
    }

    /// Claims tasks of [`KIND`].
    pub(in crate::contract) async fn claim(&self, session: SessionId, take: Vec<TaskId>) -> Vec<Claim> {
        self.store.claim(request(session, take)).await.expect("a live session claims")
    }

    /// Claims one waiting task and says that its handler has started.
    pub(in crate::contract) async fn run_one(&self, session: SessionId, id: TaskId) -> Attempt {
        let attempt = self.claim_one(session, id).await;
        let at = self.fixture.now();
        let answer =
            self.store.start(session, vec![Started { attempt, at }]).await.expect("starts are written");
        assert_eq!(answer, [Fenced::Recorded(State::Running)]);
        attempt
    }

    /// Records the end of one attempt.
    pub(in crate::contract) async fn finish_one(&self, session: SessionId, finish: Finish) -> Fenced {
        self.store.finish(session, vec![finish]).await.expect("an end is written").remove(0)
    }

    /// The task as it is stored.
    pub(in crate::contract) async fn get(&self, id: TaskId) -> Task {
        self.store.get(vec![id]).await.expect("a task is read").pop().expect("the task exists")
    }

    /// Moves the clock past every backoff and queues what is due.
    pub(in crate::contract) async fn let_time_pass(&self) {
        self.fixture.advance(Duration::from_secs(600)).await;
        self.store.release_due(1_000).await.expect("due tasks are released");
    }

    /// The newest hand-off of a task that the observers were told of, once there are `count`.
    pub(in crate::contract) async fn nth_ready(&self, id: TaskId, count: usize) -> Ready {
        let what = format!("hand-off {count} of {id}");
        self.told.until(&what, |told| told.ready(id).len() >= count).await;
        self.told.ready(id).swap_remove(count - 1)
    }

    /// The audit: every admitted task tells one story, in the store and to its observers.
    pub(in crate::contract) async fn audit(self) {
        let admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut tally = [0; 6];
        for id in admitted {
            let task = self.get(id).await;
            tally[usize::from(task.life.state.code()) - 1] += 1;
            self.audit_task(&task).await;
        }
        assert_eq!(self.told.disorder(), [""; 0], "a node is told in order per task");
        assert_eq!(self.store.counts().await.expect("counts are read"), tally, "counts by state");
        assert_eq!(
            self.other.counts().await.expect("counts are read"),
            tally,
            "counts, seen by the other node"
        );
    }

    async fn audit_task(&self, task: &Task) {
        let id = task.spec.id;
        let events = self.other.events(id, 0, 10_000).await.expect("events are read");
        assert_eq!(replay(&events), task.life, "the log of {id} replays to another lifecycle: {events:#?}");
        assert_eq!(task.finished_at.is_some(), task.life.state.is_terminal(), "{task:#?}");
        let what = format!("the observers are told every event of {id}");
        self.told.until(&what, |told| told.events(id).len() >= events.len()).await;
        assert_eq!(self.told.events(id), events, "what observers were told of {id} is its log");
        let ready = self.told.ready(id);
        assert!(
            ready.windows(2).all(|w| w[0].handoff < w[1].handoff),
            "handoff rises with every way into QUEUED: {ready:#?}"
        );
        // What is claimed with its admission never was QUEUED.
        let ways = queued_again(&events) - usize::from(self.is_taken(id));
        assert!(
            ready.len() >= ways,
            "{id} came into QUEUED {ways} times, and was ready {} times",
            ready.len()
        );
        if task.life.state == State::Queued {
            let queued = self
                .store
                .queued(std::slice::from_ref(&task.spec.queue), 10_000)
                .await
                .expect("queued tasks are read");
            let stored = queued.iter().find(|r| r.id == id).expect("a QUEUED task is among the queued");
            let newest = ready.last().expect("a QUEUED task was reported as ready");
            assert_eq!(stored, newest, "what a hand-off refills from is what it was told");
        }
    }
}

/// How often a log comes into QUEUED.
fn queued_again(events: &[Event]) -> usize {
    let into = |e: &&Event| {
        e.state == State::Queued
            && matches!(
                e.what,
                Happening::Submitted { .. } | Happening::Due | Happening::Lost { .. } | Happening::Returned
            )
    };
    events.iter().filter(into).count()
}

/// What a log replays to. It must be dense, and each event must tell the state and attempt after it.
fn replay(events: &[Event]) -> Lifecycle {
    let first = events.first().expect("a log begins with the admission");
    let Happening::Submitted { run_at } = first.what else { panic!("a log begins with {first:?}") };
    let (mut life, _) = Lifecycle::submit(run_at, first.at);
    for (event, seq) in events.iter().zip(1..) {
        if seq > 1 {
            life = life.apply(&event.what).expect("a legal event");
        }
        assert_eq!(event.seq, seq, "a log is dense: {events:#?}");
        assert_eq!((event.state, event.attempt), (life.state, life.attempt), "{event:?}");
    }
    life
}

/// A claim by a node that hosts [`KIND`].
pub(in crate::contract) fn request(session: SessionId, take: Vec<TaskId>) -> ClaimRequest {
    ClaimRequest {
        session,
        node: "node-a".into(),
        hosted: Arc::new(HashSet::from([KIND.to_owned()])),
        take,
        give_back: Vec::new(),
    }
}

/// What was claimed, if it was.
pub(in crate::contract) fn claimed_of(claim: Claim) -> Option<Claimed> {
    match claim {
        Claim::Claimed(claimed) => Some(*claimed),
        Claim::Gone(_) | Claim::NotMine(_) => None,
    }
}

/// The newest attempt of a task.
pub(in crate::contract) fn attempt_of(task: &Task) -> Attempt {
    Attempt { task_id: task.spec.id, number: task.life.attempt }
}

/// The end of an attempt with a result.
pub(in crate::contract) fn success(attempt: Attempt, result: impl Into<Bytes>) -> Finish {
    Finish { attempt, started_at: None, outcome: Outcome::Succeeded, result: Some(result.into()) }
}

/// The end of an attempt with an error.
pub(in crate::contract) fn failure(attempt: Attempt, retryable: bool) -> Finish {
    let outcome = Outcome::Failed {
        error: TaskError::new("BROKEN", "it broke", retryable),
        policy: RetryPolicy { base: Duration::from_secs(10), cap: Duration::from_secs(60) },
        retry_after: None,
        jitter: 0.5,
    };
    Finish { attempt, started_at: None, outcome, result: None }
}

/// That a write was refused for its data: one item's fault, whatever the backend calls it.
pub(in crate::contract) fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Refused(_))
}
