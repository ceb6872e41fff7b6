//! Random histories: whatever is asked in whatever order, the log replays to what is stored.

use super::{Place, claim, new_session, task};
use bytes::Bytes;
use callboard_domain::{
    Attempt, Event, Happening, Lifecycle, NewTask, Outcome, Progress, RetryPolicy, SessionId, State,
    TaskError, TaskId,
};
use callboard_ports::Clock;
use callboard_ports::sessions::SessionStore;
use callboard_ports::store::{
    ClaimRequest, Commit, CommitObserver, Error, Fenced, Finish, ProgressReport, Started, Store, TaskReader,
    TaskStore,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TASKS: u128 = 4;
const SESSIONS: u128 = 3;

#[derive(Clone, Debug)]
enum Step {
    Admit { task: u128, delay: u64 },
    Claim { session: u128, task: u128, hosted: bool },
    GiveBackUnclaimed { session: u128, task: u128 },
    Start { session: u128, task: u128, back: u32 },
    Progress { session: u128, task: u128, back: u32 },
    Finish { session: u128, task: u128, back: u32, how: How, started: bool },
    GiveBack { session: u128, task: u128, back: u32 },
    Cancel { task: u128 },
    Pass { seconds: u64 },
    Release,
    End { session: u128 },
    Reopen { session: u128 },
    Recover,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Succeeds,
    Fails { retryable: bool },
    Cancelled,
    TooLarge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (session, task) = (0..SESSIONS, 0..TASKS);
    // Mostly the newest attempt, now and then an older one.
    let speaker = (session.clone(), task.clone(), prop_oneof![4 => Just(0u32), 1 => 1u32..3]);
    let how = prop_oneof![
        3 => Just(How::Succeeds),
        4 => Just(How::Fails { retryable: true }),
        1 => Just(How::Fails { retryable: false }),
        1 => Just(How::Cancelled),
        1 => Just(How::TooLarge),
    ];
    let step = prop_oneof![
        4 => (task.clone(), prop_oneof![Just(0u64), Just(5)]).prop_map(|(task, delay)| Step::Admit { task, delay }),
        8 => (session.clone(), task.clone(), proptest::bool::weighted(0.9))
            .prop_map(|(session, task, hosted)| Step::Claim { session, task, hosted }),
        1 => (session.clone(), task.clone()).prop_map(|(session, task)| Step::GiveBackUnclaimed { session, task }),
        4 => speaker.clone().prop_map(|(session, task, back)| Step::Start { session, task, back }),
        2 => speaker.clone().prop_map(|(session, task, back)| Step::Progress { session, task, back }),
        5 => (speaker.clone(), how, any::<bool>())
            .prop_map(|((session, task, back), how, started)| Step::Finish { session, task, back, how, started }),
        2 => speaker.prop_map(|(session, task, back)| Step::GiveBack { session, task, back }),
        1 => task.prop_map(|task| Step::Cancel { task }),
        2 => (0u64..60).prop_map(|seconds| Step::Pass { seconds }),
        2 => Just(Step::Release),
        3 => session.clone().prop_map(|session| Step::End { session }),
        3 => session.prop_map(|session| Step::Reopen { session }),
        1 => Just(Step::Recover),
    ];
    proptest::collection::vec(step, 1..120)
}

/// Remembers every event and hand-off it was told of.
#[derive(Default)]
struct Told(Mutex<Commit>);

impl CommitObserver for Told {
    fn committed(&self, commit: &Commit) {
        let mut told = self.0.lock().unwrap();
        told.events.extend(commit.events.iter().cloned());
        told.ready.extend(commit.ready.iter().cloned());
    }
}

struct Run {
    place: Place,
    told: Arc<Told>,
    /// The incarnation of each node's session.
    incarnations: BTreeMap<u128, u128>,
    /// Who claimed which attempt.
    holders: HashMap<Attempt, SessionId>,
}

impl Run {
    fn session(&self, node: u128) -> SessionId {
        let incarnation = self.incarnations.get(&node).copied().unwrap_or_default();
        SessionId::from_bytes((node * 1_000 + incarnation).to_be_bytes())
    }

    async fn attempt(&self, number: u128, back: u32) -> Attempt {
        let task_id = task(number).spec.id;
        let newest = self.place.store.get(vec![task_id]).await.unwrap().pop().map_or(0, |t| t.life.attempt);
        Attempt { task_id, number: newest.saturating_sub(back) }
    }

    /// What only the holder may write is refused to everybody else.
    fn check_fence(&self, session: SessionId, attempt: Attempt, answer: &[Fenced]) {
        if !matches!(answer, [Fenced::Stale]) {
            assert_eq!(self.holders.get(&attempt), Some(&session), "{attempt:?} answered {answer:?}");
        }
    }

    async fn take(&mut self, step: Step) {
        let store = Arc::clone(&self.place.store);
        let now = self.place.clock.now();
        match step {
            Step::Admit { task: number, delay } => {
                let run_at = (delay > 0).then(|| now.after(Duration::from_secs(delay)));
                let answer = store.admit(vec![NewTask { run_at, ..task(number) }]).await.remove(0);
                assert!(answer.is_ok(), "{answer:?}");
            }
            Step::Claim { session, task: number, hosted } => {
                let (session, id) = (self.session(session), task(number).spec.id);
                let mut request = claim(session, &[id]);
                if !hosted {
                    request.hosted = Arc::default();
                }
                match store.claim(request).await {
                    Ok(claims) => {
                        if let [callboard_ports::store::Claim::Claimed(claimed)] = &claims[..] {
                            let attempt = Attempt { task_id: id, number: claimed.task.life.attempt };
                            assert_eq!(
                                self.holders.insert(attempt, session),
                                None,
                                "claimed twice: {attempt:?}"
                            );
                        }
                    }
                    Err(error) => assert_eq!(error, Error::SessionEnded),
                }
            }
            Step::GiveBackUnclaimed { session, task: number } => {
                let give_back = vec![task(number).spec.id];
                let request = ClaimRequest { give_back, ..claim(self.session(session), &[]) };
                let answer = store.claim(request).await;
                assert!(matches!(answer, Ok(_) | Err(Error::SessionEnded)));
            }
            Step::Start { session, task, back } => {
                let (session, attempt) = (self.session(session), self.attempt(task, back).await);
                let answer = store.start(session, vec![Started { attempt, at: now }]).await.unwrap();
                self.check_fence(session, attempt, &answer);
            }
            Step::Progress { session, task, back } => {
                let (session, attempt) = (self.session(session), self.attempt(task, back).await);
                let progress = Progress { percent: 50, message: "half".into() };
                let answer =
                    store.progress(session, vec![ProgressReport { attempt, progress }]).await.unwrap();
                self.check_fence(session, attempt, &answer);
            }
            Step::Finish { session, task, back, how, started } => {
                let (session, attempt) = (self.session(session), self.attempt(task, back).await);
                let started_at = started.then_some(now);
                let (outcome, result) = end(how);
                let answer =
                    store.finish(session, vec![Finish { attempt, started_at, outcome, result }]).await;
                self.check_fence(session, attempt, &answer.unwrap());
            }
            Step::GiveBack { session, task, back } => {
                let (session, attempt) = (self.session(session), self.attempt(task, back).await);
                let answer = store.give_back(session, vec![attempt]).await.unwrap();
                self.check_fence(session, attempt, &answer);
            }
            Step::Cancel { task: number } => {
                let answer = store.cancel(task(number).spec.id).await;
                assert!(matches!(answer, Ok(_) | Err(Error::NotFound)));
            }
            Step::Pass { seconds } => self.place.clock.advance(Duration::from_secs(seconds)),
            Step::Release => drop(store.release_due(10).await.unwrap()),
            Step::End { session } => drop(store.end_session(self.session(session), "test").await.unwrap()),
            Step::Reopen { session } => {
                *self.incarnations.entry(session).or_default() += 1;
                store.open_session(new_session(self.session(session))).await.unwrap();
            }
            Step::Recover => drop(store.recover_orphans(10).await.unwrap()),
        }
    }

    async fn audit(self) {
        let store = &self.place.store;
        let mut tally = [0u64; 6];
        let mut logs = BTreeMap::new();
        for number in 0..TASKS {
            let id = task(number).spec.id;
            let log = store.events(id, 0, 10_000).await.unwrap();
            let Some(stored) = store.get(vec![id]).await.unwrap().pop() else {
                assert_eq!(log, []);
                continue;
            };
            tally[stored.life.state as usize] += 1;
            assert_eq!(replay(&log), stored.life, "{log:#?}");
            assert_eq!(stored.finished_at.is_some(), stored.life.state.is_terminal());
            logs.insert(id, log);
        }
        let by_scan: Vec<(u8, u64)> = {
            let sql = self.place.sql();
            let mut statement = sql.prepare("SELECT state, count(*) FROM tasks GROUP BY state").unwrap();
            let counts =
                statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).unwrap();
            counts.map(Result::unwrap).collect()
        };
        let counts = store.counts().await.unwrap();
        assert_eq!(counts, tally);
        assert!(
            by_scan.iter().all(|(state, n)| counts[usize::from(*state) - 1] == *n),
            "{by_scan:?} {counts:?}"
        );
        let queued = store.queued(&[], 100).await.unwrap();
        assert_eq!(queued.len() as u64, counts[State::Queued as usize]);
        store.close().await;
        let told = self.told.0.lock().unwrap();
        for (id, log) in logs {
            let events: Vec<_> = told.events.iter().filter(|e| e.task_id == id).cloned().collect();
            assert_eq!(events, log, "what observers were told is the log");
            let ready: Vec<_> = told.ready.iter().filter(|r| r.id == id).collect();
            assert!(ready.windows(2).all(|w| w[0].handoff < w[1].handoff), "{ready:#?}");
            if let Some(waiting) = queued.iter().find(|r| r.id == id) {
                assert_eq!(ready.last(), Some(&waiting));
            }
        }
    }
}

fn end(how: How) -> (Outcome, Option<Bytes>) {
    match how {
        How::Succeeds => (Outcome::Succeeded, Some(Bytes::from_static(b"1"))),
        How::TooLarge => {
            (Outcome::Succeeded, Some(vec![b' '; callboard_domain::limits::RESULT_BYTES + 1].into()))
        }
        How::Cancelled => (Outcome::Cancelled, None),
        How::Fails { retryable } => {
            let error = TaskError::new("BROKEN", "it broke", retryable);
            let policy = RetryPolicy::default();
            (Outcome::Failed { error, policy, retry_after: None, jitter: 0.5 }, None)
        }
    }
}

fn replay(log: &[Event]) -> Lifecycle {
    let Some(Event { what: Happening::Submitted { run_at }, at, .. }) = log.first() else {
        panic!("{log:?}")
    };
    let mut life = Lifecycle::submit(*run_at, *at).0;
    for (event, seq) in log.iter().zip(1..) {
        if seq > 1 {
            life = life.apply(&event.what).unwrap();
        }
        assert_eq!((event.seq, event.state, event.attempt), (seq, life.state, life.attempt));
    }
    life
}

fn run(steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (place, told) = (Place::new(), Arc::new(Told::default()));
        place.store.observe(told.clone());
        let mut run = Run { place, told, incarnations: BTreeMap::new(), holders: HashMap::new() };
        for node in 0..SESSIONS {
            run.place.store.open_session(new_session(run.session(node))).await.unwrap();
        }
        for step in steps {
            run.take(step).await;
        }
        run.audit().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_history_replays_to_what_is_stored(steps in steps()) {
        run(steps);
    }
}

/// A history of the above must not be a row of refusals: this one reaches every kind of event.
#[test]
fn the_commands_of_the_model_reach_every_happening() {
    let (session, task, back, started) = (0, 0, 0, true);
    let finish = |how, task| Step::Finish { session, task, back, how, started };
    let claim = |task| Step::Claim { session, task, hosted: true };
    let steps = vec![
        Step::Admit { task, delay: 5 },
        Step::Pass { seconds: 6 },
        Step::Release,
        claim(0),
        Step::Start { session, task, back },
        Step::Progress { session, task, back },
        finish(How::Fails { retryable: true }, 0),
        Step::Pass { seconds: 60 },
        Step::Release,
        claim(0),
        Step::GiveBack { session, task, back },
        claim(0),
        Step::End { session },
        Step::Reopen { session },
        claim(0),
        finish(How::Succeeds, 0),
        Step::Admit { task: 1, delay: 0 },
        claim(1),
        Step::Cancel { task: 1 },
        finish(How::Cancelled, 1),
        Step::Admit { task: 2, delay: 0 },
        claim(2),
        finish(How::TooLarge, 2),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = Arc::new(Told::default());
    runtime.block_on(async {
        let place = Place::new();
        place.store.observe(told.clone());
        let mut run =
            Run { place, told: told.clone(), incarnations: BTreeMap::new(), holders: HashMap::new() };
        run.place.store.open_session(new_session(run.session(0))).await.unwrap();
        for step in steps {
            run.take(step).await;
        }
        let state = |number| {
            let (store, id): (_, TaskId) = (Arc::clone(&run.place.store), super::task(number).spec.id);
            async move { store.get(vec![id]).await.unwrap().remove(0).life.state }
        };
        assert_eq!(state(0).await, State::Succeeded);
        assert_eq!(state(1).await, State::Cancelled);
        assert_eq!(state(2).await, State::Failed);
        run.audit().await;
    });
    let told = told_kinds(&told.0.lock().unwrap().events);
    assert_eq!(told.len(), 12, "{told:?}");
}

fn told_kinds(events: &[Event]) -> std::collections::BTreeSet<String> {
    let name =
        |e: &Event| format!("{:?}", e.what).split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    events.iter().map(name).collect()
}
