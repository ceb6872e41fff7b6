//! Connections that are cut: at a commit, and between two calls.

use super::proxy::{Cut, Proxy};
use super::{Place, claim, open, options, success, task};
use callboard_backends::store::postgres::Store;
use callboard_domain::{Attempt, NewTask, SessionId, State, TaskId};
use callboard_ports::store::{
    Claim, Claimed, Commit, CommitObserver, Error, Fenced, Store as _, TaskReader, TaskStore,
};
use callboard_ports::taker::{self, Taker};
use std::sync::{Arc, Mutex};

const SESSION: SessionId = SessionId::from_bytes(1_u128.to_be_bytes());

/// Remembers what it is told.
#[derive(Default)]
struct Told(Mutex<Commit>);

impl CommitObserver for Told {
    fn committed(&self, commit: &Commit) {
        let mut told = self.0.lock().unwrap();
        told.events.extend(commit.events.iter().cloned());
        told.ready.extend(commit.ready.iter().cloned());
    }
}

impl Told {
    fn seqs(&self, id: TaskId) -> Vec<u64> {
        self.0.lock().unwrap().events.iter().filter(|e| e.task_id == id).map(|e| e.seq).collect()
    }
}

/// A place whose second store runs through a proxy.
async fn through_a_proxy() -> (Place, Proxy, Arc<Store>, Arc<Told>) {
    let place = Place::new().await;
    let proxy = Proxy::new(&place.url).await;
    let store = open(&options(&proxy.url)).await;
    let told = Arc::new(Told::default());
    store.observe(told.clone());
    // The lines are opened by their first use: cut none of that.
    store.admit(vec![task(1_000)]).await.remove(0).unwrap();
    (place, proxy, store, told)
}

#[tokio::test]
async fn a_task_is_admitted_once_though_the_commit_was_cut() {
    let (place, proxy, store, told) = through_a_proxy().await;
    for (number, cut) in [(1, Cut::Before), (2, Cut::After)] {
        let mut new = task(number);
        new.spec.request_id = Some(format!("r-{number}").into());
        proxy.arm(cut);
        let admitted = store.admit(vec![new.clone()]).await.remove(0).unwrap();
        assert!(proxy.has_cut(), "{cut:?}");
        assert!(!admitted.existed, "{cut:?}: it is this call that made it");
        assert_eq!(place.other.get(vec![new.spec.id]).await, Ok(vec![admitted.task]), "{cut:?}");
        assert_eq!(told.seqs(new.spec.id), [1], "{cut:?}: told once");
        let ready = told.0.lock().unwrap().ready.iter().filter(|r| r.id == new.spec.id).count();
        assert_eq!(ready, 1, "{cut:?}: handed off once");
    }
    assert_eq!(place.other.counts().await, Ok([0, 3, 0, 0, 0, 0]));
}

#[tokio::test]
async fn a_claim_whose_commit_was_cut_is_unknown_and_can_be_found() {
    let (place, proxy, store, _) = through_a_proxy().await;
    let session = place.session(1).await;
    let ids = place.admit(0..3).await;
    // Opens the line of claims.
    assert!(matches!(store.claim(claim(session, &ids[..1])).await.as_deref(), Ok([Claim::Claimed(_)])));
    for (id, cut, held) in [(ids[1], Cut::Before, false), (ids[2], Cut::After, true)] {
        proxy.arm(cut);
        let claimed = store.claim(claim(session, &[id])).await;
        assert!(matches!(claimed, Err(Error::Unknown(_))), "{cut:?}: {claimed:?}");
        let listed = store.held_by(session).await.unwrap();
        assert_eq!(listed.iter().any(|a| a.task_id == id), held, "{cut:?}");
    }
    let lost = Attempt { task_id: ids[2], number: 1 };
    assert_eq!(store.give_back(session, vec![lost]).await, Ok(vec![Fenced::Recorded(State::Queued)]));
    assert_eq!(place.other.counts().await.unwrap()[2], 1, "one runs, nothing is stranded");
}

#[tokio::test]
async fn an_end_is_recorded_once_though_the_commit_was_cut() {
    let (place, proxy, store, told) = through_a_proxy().await;
    let session = place.session(1).await;
    let ids = place.admit(0..3).await;
    place.claim(session, &ids).await;
    let end = async |id| store.finish(session, vec![success(id)]).await.unwrap().remove(0);
    assert_eq!(end(ids[0]).await, Fenced::Recorded(State::Succeeded));
    proxy.arm(Cut::Before);
    assert_eq!(end(ids[1]).await, Fenced::Recorded(State::Succeeded), "by the second try");
    proxy.arm(Cut::After);
    assert_eq!(end(ids[2]).await, Fenced::AlreadyRecorded(State::Succeeded), "by the first try");
    assert!(proxy.has_cut());
    for id in ids {
        assert_eq!(told.seqs(id), [3], "told once");
        assert!(place.other.get_full(id).await.unwrap().result.is_some());
        assert_eq!(place.other.events(id, 0, 10).await.unwrap().len(), 3);
    }
    assert_eq!(place.other.counts().await, Ok([0, 1, 0, 3, 0, 0]));
}

#[tokio::test]
async fn connections_that_died_between_two_calls_are_nobodys_business() {
    let place = Place::new().await;
    let session = place.session(1).await;
    let ids = place.admit(0..4).await;
    place.claim(session, &ids[..1]).await;
    place.store.finish(session, vec![success(ids[0])]).await.unwrap();
    for id in &ids[1..] {
        let killed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let killed = sqlx::query(killed).execute(&mut place.sql().await).await.unwrap().rows_affected();
        assert!(killed >= 3, "{killed}");
        assert!(matches!(place.claim(session, &[*id]).await[..], [Claim::Claimed(_)]));
        let ended = place.store.finish(session, vec![success(*id)]).await;
        assert_eq!(ended, Ok(vec![Fenced::Recorded(State::Succeeded)]));
        assert_eq!(place.admit(10..11).await.len(), 1);
        assert_eq!(place.store.get(vec![*id]).await.unwrap()[0].life.state, State::Succeeded);
        place.store.ping().await.unwrap();
    }
}

/// What was claimed, and whether others may be.
type Settled = (Vec<TaskId>, bool);

/// Takes all that is admitted, and remembers what it is told.
#[derive(Clone, Default)]
struct Taking(Arc<Mutex<Vec<Settled>>>);

struct Offer(SessionId, Taking);

impl Taker for Taking {
    fn take(&self, _: &mut dyn Iterator<Item = &NewTask>) -> Option<Box<dyn taker::Taking>> {
        Some(Box::new(Offer(SESSION, self.clone())))
    }
}

impl taker::Taking for Offer {
    fn session(&self) -> SessionId {
        self.0
    }

    fn node(&self) -> Arc<str> {
        "a".into()
    }

    fn takes(&self, _: TaskId) -> bool {
        true
    }

    fn settle(self: Box<Self>, claimed: Vec<Claimed>, in_doubt: bool) {
        let ids = claimed.iter().map(|claimed| claimed.task.spec.id).collect();
        self.1.0.lock().unwrap().push((ids, in_doubt));
    }
}

/// One that was made is asked after, and so is whether it claimed: by what the session holds.
#[tokio::test]
async fn a_task_whose_commit_was_cut_is_in_doubt_if_it_may_have_been_taken() {
    let (place, proxy, store, told) = through_a_proxy().await;
    assert_eq!(place.session(1).await, SESSION);
    let worker = Taking::default();
    store.offer_to(Arc::new(worker.clone()));
    let taken = store.admit(vec![task(0)]).await.remove(0).unwrap().task.spec.id;
    assert_eq!(std::mem::take(&mut *worker.0.lock().unwrap()), [(vec![taken], false)]);
    for (number, cut, held) in [(1, Cut::Before, false), (2, Cut::After, true)] {
        proxy.arm(cut);
        let id = store.admit(vec![task(number)]).await.remove(0).unwrap().task.spec.id;
        assert!(proxy.has_cut(), "{cut:?}");
        assert_eq!(std::mem::take(&mut *worker.0.lock().unwrap()), [(vec![], held)], "{cut:?}");
        let listed = place.other.held_by(SESSION).await.unwrap();
        assert_eq!(listed.iter().any(|a| a.task_id == id), held, "{cut:?}");
        assert_eq!(told.seqs(id), if held { vec![1, 2] } else { vec![1] }, "{cut:?}: told once");
    }
    assert_eq!(place.other.counts().await, Ok([0, 2, 2, 0, 0, 0]));
}
