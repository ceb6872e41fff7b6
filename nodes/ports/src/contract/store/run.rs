//! What a running attempt writes: its start, its progress, and that it is given back.

use super::Fixture;
use super::kit::{Kit, attempt_of, success};
use crate::store::{Fenced, ProgressReport, Started};
use callboard_domain::{Attempt, Happening, Progress, State};
use std::time::Duration;

/// A report that an attempt is so far.
fn report(attempt: Attempt, percent: u8) -> ProgressReport {
    ProgressReport { attempt, progress: Progress { percent, message: format!("at {percent}") } }
}

/// A start is recorded once, with the time its node names.
pub async fn records_a_start(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.claim_one(session, id).await;
    let at = kit.fixture.now().after(Duration::from_millis(3));
    let started = Started { attempt, at };
    let answer = kit.store.start(session, vec![started]).await.expect("starts are written");
    assert_eq!(answer, [Fenced::Recorded(State::Running)]);
    let task = kit.get(id).await;
    assert_eq!((task.started_at, task.life.started), (Some(at), true));
    let again = kit.store.start(session, vec![started]).await.expect("starts are written");
    assert_ne!(again, [Fenced::Stale], "it still holds the task");
    assert_eq!(kit.get(id).await, task, "said twice, it changes nothing");
    kit.audit().await;
}

/// Progress is recorded in order, and the newest is shown.
pub async fn records_progress(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.run_one(session, id).await;
    let batch = vec![report(attempt, 10), report(attempt, 60), report(attempt, 60)];
    let answers = kit.store.progress(session, batch).await.expect("progress is written");
    assert_eq!(answers, [Fenced::Recorded(State::Running); 3]);
    assert_eq!(kit.get(id).await.progress, Some(report(attempt, 60).progress));
    let events = kit.store.events(id, 3, 100).await.expect("events are read");
    let told: Vec<_> = events.into_iter().map(|e| e.what).collect();
    assert_eq!(told, [10, 60, 60].map(|p| Happening::Progressed(report(attempt, p).progress)));
    kit.audit().await;
}

/// Nothing that a session or attempt writes counts once it no longer holds the task; the other items of
/// the batch do.
pub async fn what_is_stale_changes_nothing(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.session("a").await, kit.session("b").await);
    let ids = kit.admit_many(2).await;
    let (ours, held) = (kit.claim_one(a, ids[0]).await, kit.claim_one(a, ids[1]).await);
    let wrong = [
        (b, ours),
        (a, Attempt { number: ours.number + 1, ..ours }),
        (a, Attempt { number: 0, ..ours }),
        (a, Attempt { task_id: kit.task().spec.id, ..ours }),
    ];
    let before = kit.get(ids[0]).await;
    let (at, wanted) = (kit.fixture.now(), |session| {
        // Beside the stale item stands one of the session itself, which must be written.
        if session == a { vec![Fenced::Stale, Fenced::Recorded(State::Running)] } else { vec![Fenced::Stale] }
    });
    for (session, attempt) in wrong {
        let beside = if session == a { Some(held) } else { None };
        let batch: Vec<_> = [Some(attempt), beside].into_iter().flatten().collect();
        let reports = batch.iter().map(|a| report(*a, 50)).collect();
        assert_eq!(kit.store.progress(session, reports).await.expect("written"), wanted(session));
        let started = Started { attempt, at };
        assert_eq!(kit.store.start(session, vec![started]).await.expect("written"), [Fenced::Stale]);
        assert_eq!(kit.store.give_back(session, vec![attempt]).await.expect("written"), [Fenced::Stale]);
        assert_eq!(kit.finish_one(session, success(attempt, "1")).await, Fenced::Stale);
    }
    assert_eq!(kit.get(ids[0]).await, before);
    assert_eq!(kit.store.get_full(ids[0]).await.expect("a task is read").result, None);
    kit.audit().await;
}

/// An attempt that is given back is handed off again at once, counted neither as failed nor as lost;
/// what it still writes is stale, and the next attempt has the next number.
pub async fn an_attempt_is_given_back(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let ids = kit.admit_many(2).await;
    for (id, started) in [(ids[0], false), (ids[1], true)] {
        let first = if started { kit.run_one(session, id).await } else { kit.claim_one(session, id).await };
        let answer = kit.store.give_back(session, vec![first]).await.expect("written");
        assert_eq!(answer, [Fenced::Recorded(State::Queued)]);
        let life = kit.get(id).await.life;
        assert_eq!((life.state, life.failures, life.lost, life.session), (State::Queued, 0, 0, None));
        let again = kit.nth_ready(id, 2).await;
        assert!(again.not_before.is_none() && !again.alone, "{again:?}");
        let second = kit.claim_one(session, id).await;
        assert_eq!(second.number, first.number + 1);
        assert_eq!(kit.store.give_back(session, vec![first]).await.expect("written"), [Fenced::Stale]);
        assert_eq!(kit.finish_one(session, success(first, "1")).await, Fenced::Stale);
        assert_eq!(attempt_of(&kit.get(id).await), second, "the newer attempt holds on");
    }
    kit.audit().await;
}

/// On every way into QUEUED a task is handed off by a higher number than before.
pub async fn every_way_into_queued_raises_the_handoff(fixture: impl Fixture) {
    use super::kit::{failure, request};
    use crate::store::ClaimRequest;
    let kit = Kit::new(fixture);
    let a = kit.session("a").await;
    let id = kit.admit(vec![kit.later(Duration::from_secs(60))]).await[0].spec.id;
    let mut ways = 1;
    kit.let_time_pass().await;
    kit.nth_ready(id, ways).await;

    let give_back = ClaimRequest { give_back: vec![id], ..request(a, Vec::new()) };
    kit.store.claim(give_back).await.expect("a live session claims");
    ways += 1;
    kit.nth_ready(id, ways).await;

    let not_mine = ClaimRequest { hosted: std::sync::Arc::default(), ..request(a, vec![id]) };
    kit.store.claim(not_mine).await.expect("a live session claims");
    ways += 1;
    kit.nth_ready(id, ways).await;

    let attempt = kit.run_one(a, id).await;
    kit.store.give_back(a, vec![attempt]).await.expect("written");
    ways += 1;
    kit.nth_ready(id, ways).await;

    let attempt = kit.run_one(a, id).await;
    assert_eq!(kit.finish_one(a, failure(attempt, true)).await, Fenced::Recorded(State::Scheduled));
    kit.let_time_pass().await;
    ways += 1;
    kit.nth_ready(id, ways).await;

    kit.run_one(a, id).await;
    kit.store.end_session(a, "killed").await.expect("a session ends");
    ways += 1;
    kit.nth_ready(id, ways).await;

    let b = kit.session("b").await;
    kit.run_one(b, id).await;
    kit.store.end_session(b, "killed").await.expect("a session ends");
    kit.let_time_pass().await;
    ways += 1;
    kit.nth_ready(id, ways).await;
    assert_eq!(kit.told.ready(id).len(), ways, "and not more often than that");
    kit.audit().await;
}
