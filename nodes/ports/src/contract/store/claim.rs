//! Claims.

use super::Fixture;
use super::kit::{KIND, Kit, attempt_of, claimed_of, failure, request, success};
use crate::store::{Claim, ClaimRequest, Error, Fenced};
use callboard_domain::{SessionId, State, TaskId};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// A claimed task comes with its input, RUNNING, on its next attempt, on the node that took it.
pub async fn claims_with_the_input(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (first, second) = (kit.task(), kit.task());
    kit.admit(vec![first.clone(), second.clone()]).await;
    let session = kit.session("a").await;
    let claims = kit.claim(session, vec![second.spec.id, first.spec.id]).await;
    assert_eq!(claims.len(), 2);
    for (claim, new) in claims.into_iter().zip([second, first]) {
        let claimed = claimed_of(claim).expect("a waiting task is claimed");
        assert_eq!((claimed.task.spec.id, &claimed.input), (new.spec.id, &new.input));
        let life = &claimed.task.life;
        assert_eq!((life.state, life.attempt, life.session), (State::Running, 1, Some(session)));
        assert!(!life.started, "a claim is not a start");
        assert_eq!(claimed.task.node.as_deref(), Some("node-a"));
        assert_eq!(kit.get(new.spec.id).await, claimed.task);
    }
    kit.audit().await;
}

/// What is taken, cancelled, not yet due, ended or unknown is gone, and a claim changes none of it.
pub async fn what_does_not_wait_is_gone(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.session("a").await, kit.session("b").await);
    let ids = kit.admit_many(3).await;
    let later = kit.admit(vec![kit.later(Duration::from_secs(60))]).await[0].spec.id;
    kit.claim_one(a, ids[0]).await;
    kit.store.cancel(ids[1]).await.expect("a waiting task is cancelled");
    let done = kit.claim_one(a, ids[2]).await;
    kit.finish_one(a, success(done, "1")).await;
    let unknown = kit.task().spec.id;
    let take = vec![ids[0], ids[1], ids[2], later, unknown];
    let before = kit.store.get(take.clone()).await.expect("tasks are read");
    for (claim, id) in kit.claim(b, take.clone()).await.into_iter().zip(&take) {
        assert!(matches!(claim, Claim::Gone(gone) if gone == *id), "{id}: {claim:?}");
    }
    let after = kit.store.get(take).await.expect("tasks are read");
    let by_id = |tasks: Vec<callboard_domain::Task>| -> BTreeMap<_, _> {
        tasks.into_iter().map(|t| (t.spec.id, t)).collect()
    };
    assert_eq!(by_id(after), by_id(before));
    kit.audit().await;
}

/// An id that comes twice in one claim is taken once.
pub async fn an_id_that_comes_twice_is_claimed_once(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let claims = kit.claim(session, vec![id, id]).await;
    assert_eq!(claims.len(), 2);
    assert_eq!(claims.into_iter().filter_map(claimed_of).count(), 1);
    assert_eq!(kit.get(id).await.life.attempt, 1);
    kit.audit().await;
}

/// A task whose kind the node lacks stays QUEUED and is handed off again, after a delay, by another number.
pub async fn a_kind_that_is_not_hosted_is_handed_off_again_later(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let mut strange = kit.task();
    strange.spec.kind = "strange".into();
    let id = strange.spec.id;
    let before = kit.admit(vec![strange]).await.remove(0);
    let first = kit.nth_ready(id, 1).await;
    let now = kit.fixture.now();
    let claims = kit.claim(session, vec![id]).await;
    assert!(matches!(claims[..], [Claim::NotMine(got)] if got == id), "{claims:?}");
    assert_eq!(kit.get(id).await, before, "it stands as it stood");
    let second = kit.nth_ready(id, 2).await;
    assert!(second.handoff > first.handoff);
    assert!(second.not_before.is_some_and(|at| at > now), "{second:?}");
    // The next hand-off may go to a node that hosts the kind, also before the delay has passed.
    let hosted = Arc::new(HashSet::from(["strange".to_owned()]));
    let request = ClaimRequest { hosted, ..request(session, vec![id]) };
    let claims = kit.store.claim(request).await.expect("a live session claims");
    assert!(matches!(claims[..], [Claim::Claimed(_)]), "{claims:?}");
    kit.audit().await;
}

/// What a claim gives back waits on as it did, and is handed off again at once by another number.
pub async fn a_claim_gives_back_what_it_cannot_start(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.session("a").await, kit.session("b").await);
    let ids = kit.admit_many(4).await;
    kit.claim_one(b, ids[3]).await;
    let give_back = vec![ids[1], ids[2], ids[3], kit.task().spec.id];
    let claims = kit
        .store
        .claim(ClaimRequest { give_back, ..request(a, vec![ids[0]]) })
        .await
        .expect("a live session claims");
    assert!(matches!(claims[..], [Claim::Claimed(_)]), "an outcome for each id of `take`: {claims:?}");
    for id in &ids[1..3] {
        let (first, second) = (kit.nth_ready(*id, 1).await, kit.nth_ready(*id, 2).await);
        assert!(second.handoff > first.handoff && second.not_before.is_none(), "{second:?}");
        let life = kit.get(*id).await.life;
        assert_eq!((life.state, life.attempt, life.seq), (State::Queued, 0, 1));
    }
    assert_eq!(kit.told.ready(ids[3]).len(), 1, "a task that runs cannot be given back by a claim");
    // It may also give back everything.
    let nothing = ClaimRequest { give_back: vec![ids[1]], ..request(a, Vec::new()) };
    assert!(kit.store.claim(nothing).await.expect("a live session claims").is_empty());
    kit.nth_ready(ids[1], 3).await;
    kit.audit().await;
}

/// A session that has ended, or never was, takes nothing and gives nothing back.
pub async fn only_a_live_session_claims(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let ended = kit.session("a").await;
    kit.store.end_session(ended, "stopped").await.expect("a session ends");
    let ids = kit.admit_many(2).await;
    for session in [ended, SessionId::from_bytes([7; 16])] {
        let request = ClaimRequest { give_back: vec![ids[1]], ..request(session, vec![ids[0]]) };
        assert_eq!(kit.other.claim(request).await.err(), Some(Error::SessionEnded));
    }
    for id in ids {
        assert_eq!(kit.get(id).await.life.state, State::Queued);
        assert_eq!(kit.told.ready(id).len(), 1);
    }
    kit.audit().await;
}

/// Claims of the same ids at once, by two nodes and in different orders, give each id to one of them;
/// only who was given it can finish it.
pub async fn claims_at_once_give_each_task_to_one(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let sessions = [kit.session("a").await, kit.session("b").await];
    let ids = kit.admit_many(60).await;
    let claims = (0..8).map(|i| {
        let store = if i % 2 == 0 { kit.store.clone() } else { kit.other.clone() };
        let mut take = ids.clone();
        if i % 4 > 1 {
            take.reverse();
        }
        async move {
            let session = sessions[i % 2];
            (session, store.claim(request(session, take)).await.expect("a live session claims"))
        }
    });
    let mut holder: BTreeMap<TaskId, SessionId> = BTreeMap::new();
    for (session, claims) in futures::future::join_all(claims).await {
        assert_eq!(claims.len(), ids.len());
        for claimed in claims.into_iter().filter_map(claimed_of) {
            assert_eq!(claimed.task.life.session, Some(session));
            assert_eq!(holder.insert(claimed.task.spec.id, session), None, "a task was claimed twice");
        }
    }
    assert_eq!(holder.len(), ids.len(), "every task was claimed");
    for (id, session) in holder {
        let attempt = attempt_of(&kit.get(id).await);
        let wrong = sessions[usize::from(session == sessions[0])];
        assert_eq!(kit.finish_one(wrong, success(attempt, "1")).await, Fenced::Stale);
        assert_eq!(kit.finish_one(session, success(attempt, "1")).await, Fenced::Recorded(State::Succeeded));
    }
    kit.audit().await;
}

/// A claim waits for a task that another write has locked, and then takes it. To pass it over would be to call
/// it gone, and to have its message acknowledged.
pub async fn a_claim_waits_for_a_row_that_is_locked(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let ids = kit.admit_many(3).await;
    let Some(mut held) = kit.fixture.hold(ids[1]).await else { return };
    let mut claim = Box::pin(kit.claim(session, ids.clone()));
    tokio::select! {
        biased;
        claims = &mut claim => {
            let claimed = claims.into_iter().filter_map(claimed_of).count();
            panic!("it did not wait, and took {claimed} of {}", ids.len());
        }
        () = held.until_waiting(1) => {}
    }
    held.let_go().await;
    let claimed: Vec<_> = claim.await.into_iter().filter_map(claimed_of).map(|c| c.task.spec.id).collect();
    assert_eq!(claimed, ids);
    kit.audit().await;
}

/// A session's attempts are listed while it holds them.
pub async fn lists_what_a_session_holds(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.session("a").await, kit.session("b").await);
    let ids = kit.admit_many(4).await;
    let held = [kit.claim_one(a, ids[0]).await, kit.claim_one(a, ids[1]).await];
    let elsewhere = kit.claim_one(b, ids[2]).await;
    let listed: HashSet<_> = kit.other.held_by(a).await.expect("attempts are read").into_iter().collect();
    assert_eq!(listed, HashSet::from(held));
    kit.finish_one(a, success(held[0], "1")).await;
    kit.finish_one(a, failure(held[1], true)).await;
    assert_eq!(kit.store.held_by(a).await.expect("attempts are read"), []);
    assert_eq!(kit.store.held_by(b).await.expect("attempts are read"), [elsewhere]);
    assert_eq!(kit.get(ids[3]).await.spec.kind.as_ref(), KIND);
    kit.audit().await;
}
