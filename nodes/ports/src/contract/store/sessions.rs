//! Sessions, and what becomes of tasks when one ends.

use super::Fixture;
use super::kit::{Kit, claimed_of, request, success};
use crate::sessions::{Accusation, EndedSession};
use crate::store::{Error, Fenced};
use callboard_domain::{Happening, SessionId, State, TaskId, limits};
use std::collections::HashSet;

/// Live sessions are listed as they were opened, with a counter that every renewal raises.
pub async fn lists_live_sessions(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.new_session("a"), kit.new_session("b"));
    kit.store.open_session(a.clone()).await.expect("a session opens");
    kit.other.open_session(b.clone()).await.expect("a session opens");
    let mut live = kit.store.live_sessions().await.expect("sessions are read");
    live.sort_by(|x, y| x.opened.node.cmp(&y.opened.node));
    let opened: Vec<_> = live.iter().map(|s| s.opened.clone()).collect();
    assert_eq!(opened, [a.clone(), b.clone()]);
    assert!(live.iter().all(|s| s.ended.is_none() && s.started_at <= kit.fixture.now()), "{live:?}");
    let before = live[1].counter;
    assert_eq!(kit.other.renew_session(b.id).await, Ok(vec![]));
    kit.store.end_session(a.id, "stopped").await.expect("a session ends");
    let live = kit.store.live_sessions().await.expect("sessions are read");
    assert_eq!(live.len(), 1, "{live:?}");
    assert!(live[0].opened == b && live[0].counter > before, "{live:?}");
    kit.audit().await;
}

/// An ended session and one that never was cannot be renewed.
pub async fn only_a_live_session_is_renewed(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    kit.other.end_session(session, "silent").await.expect("a session ends");
    for id in [session, SessionId::from_bytes([7; 16])] {
        assert_eq!(kit.store.renew_session(id).await, Err(Error::SessionEnded));
    }
    kit.audit().await;
}

/// Renewing tells which tasks of the session are asked to stop, every time until they have left RUNNING.
pub async fn renewing_tells_of_cancels(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.session("a").await, kit.session("b").await);
    let ids = kit.admit_many(3).await;
    let mine = kit.run_one(a, ids[0]).await;
    kit.run_one(a, ids[1]).await;
    kit.run_one(b, ids[2]).await;
    assert_eq!(kit.store.renew_session(a).await, Ok(vec![]));
    for id in [ids[0], ids[2]] {
        kit.other.cancel(id).await.expect("a running task is asked to stop");
    }
    for _ in 0..2 {
        assert_eq!(kit.store.renew_session(a).await, Ok(vec![ids[0]]));
        assert_eq!(kit.other.renew_session(b).await, Ok(vec![ids[2]]));
    }
    kit.finish_one(a, success(mine, "1")).await;
    assert_eq!(kit.store.renew_session(a).await, Ok(vec![]));
    kit.audit().await;
}

/// Ending a session hands its tasks off again in the same step, without backoff, and those of nobody else;
/// done again it changes nothing.
pub async fn ending_a_session_requeues_its_tasks(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.session("a").await, kit.session("b").await);
    let ids = kit.admit_many(4).await;
    kit.run_one(a, ids[0]).await;
    kit.claim_one(a, ids[1]).await;
    let theirs = kit.run_one(b, ids[2]).await;
    let ended = kit.other.end_session(a, "killed").await.expect("a session ends");
    let requeued: HashSet<TaskId> = ended.requeued.iter().copied().collect();
    assert_eq!((requeued, ended.ended), (HashSet::from([ids[0], ids[1]]), vec![]));
    for (id, started) in [(ids[0], true), (ids[1], false)] {
        let task = kit.get(id).await;
        let life = &task.life;
        assert_eq!((life.state, life.session, life.failures), (State::Queued, None, 0));
        assert_eq!(life.lost, u32::from(started), "a loss counts only once the handler has started");
        let events = kit.store.events(id, life.seq - 1, 10).await.expect("events are read");
        assert_eq!(events[0].what, Happening::Lost { started, run_at: None });
        let ready = kit.nth_ready(id, 2).await;
        assert!(!ready.alone && ready.not_before.is_none(), "{ready:?}");
    }
    let again = kit.store.end_session(a, "killed again").await;
    assert_eq!(again, Ok(EndedSession::default()));
    assert_eq!(kit.finish_one(b, success(theirs, "1")).await, Fenced::Recorded(State::Succeeded));
    kit.audit().await;
}

/// Ending a session that never was is no error that harms anybody.
pub async fn ending_an_unknown_session_changes_nothing(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let a = kit.session("a").await;
    let id = kit.admit_one().await;
    kit.run_one(a, id).await;
    if let Ok(ended) = kit.store.end_session(SessionId::from_bytes([7; 16]), "never was").await {
        assert_eq!(ended, EndedSession::default());
    }
    assert_eq!(kit.get(id).await.life.state, State::Running);
    kit.audit().await;
}

/// What an ended session still writes is refused, whatever it is.
pub async fn an_ended_session_writes_nothing(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let a = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.claim_one(a, id).await;
    kit.other.end_session(a, "silent").await.expect("a session ends");
    let before = kit.get(id).await;
    let at = kit.fixture.now();
    let started = kit.store.start(a, vec![crate::store::Started { attempt, at }]).await;
    // A backend may refuse the call or the item: nothing is written either way.
    assert!(matches!(started.as_deref(), Ok([Fenced::Stale]) | Err(Error::SessionEnded)), "{started:?}");
    let given = kit.store.give_back(a, vec![attempt]).await;
    assert!(matches!(given.as_deref(), Ok([Fenced::Stale]) | Err(Error::SessionEnded)), "{given:?}");
    assert_eq!(kit.finish_one(a, success(attempt, "1")).await, Fenced::Stale);
    assert_eq!(kit.get(id).await, before);
    kit.audit().await;
}

/// A task that is lost before it starts, however often, is never counted, waits for nothing and may run
/// beside others.
pub async fn a_loss_before_the_start_never_counts(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let id = kit.admit_one().await;
    for round in 0..=limits::LOST as usize + 1 {
        let session = kit.session("a").await;
        kit.claim_one(session, id).await;
        kit.store.end_session(session, "killed").await.expect("a session ends");
        assert!(!kit.nth_ready(id, round + 2).await.alone);
    }
    let life = kit.get(id).await.life;
    assert_eq!((life.state, life.lost), (State::Queued, 0));
    kit.audit().await;
}

/// From its second loss on a started task waits for a backoff and then must run alone; past the limit of
/// lost attempts it fails, with a reason of its own. Its retries are not spent.
pub async fn a_task_that_is_lost_too_often_fails(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let id = kit.admit_one().await;
    for lost in 1..=limits::LOST + 1 {
        let session = kit.session("a").await;
        kit.run_one(session, id).await;
        let now = kit.fixture.now();
        let ended = kit.other.end_session(session, "killed").await.expect("a session ends");
        let task = kit.get(id).await;
        assert_eq!((task.life.lost, task.life.failures), (lost, 0));
        if lost > limits::LOST {
            assert_eq!((ended.requeued, ended.ended), (vec![], vec![id]));
            assert_eq!(task.life.state, State::Failed);
            assert_eq!(task.error.map(|e| e.reason).as_deref(), Some("LOST_TOO_OFTEN"));
            assert!(task.finished_at.is_some());
            break;
        }
        assert_eq!((ended.requeued, ended.ended), (vec![id], vec![]));
        if lost == 1 {
            assert_eq!(task.life.state, State::Queued, "the first loss costs nothing");
        } else {
            assert_eq!(task.life.state, State::Scheduled, "from the second on it waits");
            let run_at = task.life.run_at;
            assert!(run_at > now, "{run_at}");
            kit.told.until("the time of the next attempt is told", |t| t.due().contains(&run_at)).await;
            kit.let_time_pass().await;
        }
        let handed_off = kit.nth_ready(id, lost as usize + 1).await;
        assert_eq!(handed_off.alone, lost >= 2, "lost {lost} times");
    }
    kit.audit().await;
}

/// A suspect that is handed off again for any other reason must still run alone.
pub async fn a_suspect_stays_alone(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let id = kit.admit_one().await;
    for _ in 0..2 {
        let session = kit.session("a").await;
        kit.run_one(session, id).await;
        kit.store.end_session(session, "killed").await.expect("a session ends");
        kit.let_time_pass().await;
    }
    let session = kit.session("a").await;
    let attempt = kit.claim_one(session, id).await;
    kit.store.give_back(session, vec![attempt]).await.expect("written");
    assert!(kit.nth_ready(id, 4).await.alone);
    let give_back = crate::store::ClaimRequest { give_back: vec![id], ..request(session, vec![]) };
    kit.store.claim(give_back).await.expect("a live session claims");
    assert!(kit.nth_ready(id, 5).await.alone);
    kit.audit().await;
}

/// Only a live accuser ends another's session, and only while the accused has not been renewed since.
pub async fn an_accusation_ends_a_session_that_is_silent(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b, gone) = (kit.session("a").await, kit.session("b").await, kit.session("gone").await);
    kit.store.end_session(gone, "killed").await.expect("a session ends");
    let id = kit.admit_one().await;
    kit.run_one(b, id).await;
    let counter = async || {
        let live = kit.store.live_sessions().await.expect("sessions are read");
        live.into_iter().find(|s| s.opened.id == b).map(|s| s.counter)
    };
    let accuse = async |accuser, counter| {
        let reason = "silent".to_owned();
        kit.store.accuse(Accusation { accuser, accused: b, counter, reason }).await
    };
    let seen = counter().await;
    kit.other.renew_session(b).await.expect("a live session is renewed");
    assert_eq!(accuse(a, seen).await, Ok(None), "it was renewed since");
    assert_eq!(accuse(gone, None).await, Err(Error::SessionEnded));
    assert_eq!(kit.get(id).await.life.state, State::Running);
    let ended = accuse(a, counter().await).await.expect("a silent session is ended");
    assert_eq!(ended, Some(EndedSession { requeued: vec![id], ended: vec![] }));
    assert_eq!(accuse(a, None).await, Ok(None), "it has ended");
    kit.audit().await;
}

/// Tasks whose session is gone without having been ended are found and handed off again, as many at a time
/// as asked for; those of live sessions are left alone.
pub async fn orphans_are_recovered(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.session("a").await, kit.session("b").await);
    let ids = kit.admit_many(6).await;
    for id in &ids[..5] {
        kit.run_one(a, *id).await;
    }
    kit.run_one(b, ids[5]).await;
    kit.store.cancel(ids[4]).await.expect("a running task is asked to stop");
    assert_eq!(kit.store.recover_orphans(10).await, Ok(0), "there are none");
    kit.fixture.forget_session(a).await;
    let first = kit.other.recover_orphans(2).await.expect("orphans are recovered");
    assert_eq!(first, 2);
    let rest = kit.store.recover_orphans(10).await.expect("orphans are recovered");
    // Whether the one that ends CANCELLED is among those handed off is a matter of counting.
    assert!((2..=3).contains(&rest), "{rest}");
    assert_eq!(kit.store.recover_orphans(10).await, Ok(0), "once");
    for id in &ids[..4] {
        let life = kit.get(*id).await.life;
        assert_eq!((life.state, life.lost), (State::Queued, 1));
        kit.nth_ready(*id, 2).await;
    }
    assert_eq!(kit.get(ids[4]).await.life.state, State::Cancelled);
    assert_eq!(kit.get(ids[5]).await.life.session, Some(b));
    kit.audit().await;
}

/// Ending a session while it claims: each claim is refused, or what it took is handed off again. Nothing is
/// stranded.
pub async fn a_claim_and_the_end_of_its_session_agree(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    for _ in 0..10 {
        let session = kit.session("a").await;
        let ids = kit.admit_many(4).await;
        let claims = ids.iter().map(|id| kit.store.claim(request(session, vec![*id])));
        let both = futures::future::join(
            futures::future::join_all(claims),
            kit.other.end_session(session, "killed"),
        );
        let (claims, ended) = both.await;
        let taken: HashSet<TaskId> =
            ids.iter().zip(&claims).filter(|(_, claim)| claim.is_ok()).map(|(id, _)| *id).collect();
        assert!(claims.iter().all(|c| matches!(c, Ok(_) | Err(Error::SessionEnded))), "{claims:?}");
        let requeued: HashSet<TaskId> = ended.expect("a session ends").requeued.into_iter().collect();
        assert_eq!(requeued, taken, "what was claimed before the end is handed off again");
        for id in ids {
            assert_eq!(kit.get(id).await.life.state, State::Queued);
        }
    }
    kit.audit().await;
}

/// A session that ends while a claim of it is under way waits for it and then hands off again what it took, so
/// that nothing is RUNNING under a session that is over.
pub async fn the_end_of_a_session_finds_a_claim_under_way(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let ids = kit.admit_many(3).await;
    let Some(mut held) = kit.fixture.hold(ids[1]).await else { return };
    let claim = kit.store.claim(request(session, ids.clone()));
    let end = async {
        // The claim has seen that its session is live, and waits for the task.
        held.until_waiting(1).await;
        let mut end = kit.other.end_session(session, "silent");
        let early = tokio::select! {
            biased;
            ended = &mut end => Some(ended),
            () = held.until_waiting(2) => None,
        };
        held.let_go().await;
        match early {
            Some(ended) => ended,
            None => end.await,
        }
    };
    let (claims, ended) = futures::future::join(claim, end).await;
    let claimed = claims.expect("it began before the end").into_iter().filter_map(claimed_of).count();
    assert_eq!(claimed, ids.len());
    for id in &ids {
        let life = kit.get(*id).await.life;
        assert_eq!(
            (life.state, life.session),
            (State::Queued, None),
            "stranded under a session that is over"
        );
    }
    let requeued: HashSet<TaskId> = ended.expect("a session ends").requeued.into_iter().collect();
    assert_eq!(requeued, ids.into_iter().collect());
    kit.audit().await;
}
