//! Ends of attempts.

use super::Fixture;
use super::kit::{Kit, attempt_of, claimed_of, failure, success};
use crate::store::{Fenced, Finish};
use bytes::Bytes;
use callboard_domain::{Attempt, Outcome, State, limits};
use std::time::Duration;

/// A success is final, with its result and its times.
pub async fn records_a_success(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.claim_one(session, id).await;
    let started_at = Some(kit.fixture.now());
    kit.fixture.advance(Duration::from_secs(2)).await;
    let result = Bytes::from_static(b"{\"n\":\x20\"\xc3\xa4\"}");
    let finish = Finish { started_at, ..success(attempt, result.clone()) };
    assert_eq!(kit.finish_one(session, finish).await, Fenced::Recorded(State::Succeeded));
    let full = kit.other.get_full(id).await.expect("a task is read");
    assert_eq!(full.result, Some(result));
    let task = full.task;
    assert_eq!((task.life.state, task.life.session, task.error), (State::Succeeded, None, None));
    assert_eq!(task.started_at, started_at);
    let took = task.finished_at.zip(started_at).map(|(end, start)| end.since(start));
    assert!(took.is_some_and(|t| t >= Duration::from_secs(2)), "{:?}", task.finished_at);
    kit.audit().await;
}

/// A success without a result is one.
pub async fn a_result_may_be_absent_or_empty(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let ids = kit.admit_many(2).await;
    let absent = Finish { result: None, ..success(kit.claim_one(session, ids[0]).await, "") };
    let empty = success(kit.claim_one(session, ids[1]).await, "");
    let answers = kit.store.finish(session, vec![absent, empty]).await.expect("ends are written");
    assert_eq!(answers, [Fenced::Recorded(State::Succeeded); 2]);
    let absent = kit.store.get_full(ids[0]).await.expect("a task is read").result;
    assert!(absent.is_none_or(|r| r.is_empty()));
    assert_eq!(kit.store.get_full(ids[1]).await.expect("a task is read").result.unwrap_or_default(), "");
    kit.audit().await;
}

/// A retryable failure waits for its backoff, then is queued for its next attempt.
pub async fn a_retryable_failure_is_tried_again(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.run_one(session, id).await;
    let now = kit.fixture.now();
    assert_eq!(kit.finish_one(session, failure(attempt, true)).await, Fenced::Recorded(State::Scheduled));
    let task = kit.get(id).await;
    assert_eq!((task.life.failures, task.life.lost, task.life.session), (1, 0, None));
    assert_eq!(task.error.map(|e| e.reason).as_deref(), Some("BROKEN"), "why its newest attempt failed");
    assert_eq!(task.finished_at, None);
    // 0.5 of the ten seconds of the policy.
    assert!(task.life.run_at >= now.after(Duration::from_secs(5)), "{}", task.life.run_at);
    let run_at = task.life.run_at;
    kit.told.until("the time of the next attempt is told", |t| t.due().contains(&run_at)).await;
    assert_eq!(kit.store.release_due(10).await.expect("released").count, 0, "it is not due");
    kit.let_time_pass().await;
    let claimed = kit.claim(session, vec![id]).await.remove(0);
    let claimed = claimed_of(claimed).expect("a waiting task is claimed").task;
    assert_eq!(claimed, kit.get(id).await, "what a claim answers is what is stored");
    let second = attempt_of(&claimed);
    assert_eq!(second.number, 2);
    assert_eq!(kit.finish_one(session, success(second, "1")).await, Fenced::Recorded(State::Succeeded));
    assert_eq!(kit.get(id).await.life.failures, 1);
    kit.audit().await;
}

/// A wait that the other side named is kept to.
pub async fn a_named_wait_is_honoured(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let mut finish = failure(kit.run_one(session, id).await, true);
    if let Outcome::Failed { retry_after, .. } = &mut finish.outcome {
        *retry_after = Some(Duration::from_secs(45));
    }
    let now = kit.fixture.now();
    assert_eq!(kit.finish_one(session, finish).await, Fenced::Recorded(State::Scheduled));
    assert!(kit.get(id).await.life.run_at >= now.after(Duration::from_secs(45)));
    kit.audit().await;
}

/// A failure that another attempt would not help, and one of the last attempt allowed, are final.
pub async fn a_failure_for_good_is_final(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let hopeless = kit.admit_one().await;
    let attempt = kit.run_one(session, hopeless).await;
    assert_eq!(kit.finish_one(session, failure(attempt, false)).await, Fenced::Recorded(State::Failed));
    let mut short = kit.task();
    short.spec.max_attempts = 2;
    let spent = kit.admit(vec![short]).await[0].spec.id;
    for state in [State::Scheduled, State::Failed] {
        let attempt = kit.run_one(session, spent).await;
        assert_eq!(kit.finish_one(session, failure(attempt, true)).await, Fenced::Recorded(state));
        kit.let_time_pass().await;
    }
    for (id, failures) in [(hopeless, 1), (spent, 2)] {
        let task = kit.get(id).await;
        assert_eq!((task.life.state, task.life.failures), (State::Failed, failures));
        assert_eq!(task.error.map(|e| e.reason).as_deref(), Some("BROKEN"));
        assert!(task.finished_at.is_some());
        assert_eq!(kit.store.get_full(id).await.expect("a task is read").result, None);
    }
    kit.audit().await;
}

/// An attempt that its node lost and another has taken over cannot be finished by the old holder, neither
/// while the other runs nor after it has ended.
pub async fn a_lost_attempt_cannot_overwrite_a_newer_one(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let (a, b) = (kit.session("a").await, kit.session("b").await);
    let id = kit.admit_one().await;
    let old = kit.run_one(a, id).await;
    kit.store.end_session(a, "silent").await.expect("a session ends");
    assert_eq!(kit.finish_one(a, success(old, "\"old\"")).await, Fenced::Stale, "while it waits");
    let new = kit.run_one(b, id).await;
    assert_eq!(kit.finish_one(a, success(old, "\"old\"")).await, Fenced::Stale, "while another runs");
    assert_eq!(kit.finish_one(b, success(new, "\"new\"")).await, Fenced::Recorded(State::Succeeded));
    assert_eq!(kit.finish_one(a, success(old, "\"old\"")).await, Fenced::Stale, "after another has ended");
    assert_eq!(kit.finish_one(a, failure(old, false)).await, Fenced::Stale);
    let full = kit.store.get_full(id).await.expect("a task is read");
    assert_eq!(full.result, Some(Bytes::from_static(b"\"new\"")));
    kit.audit().await;
}

/// A success that is reported again, because the answer got lost, is told from a stale one and changes
/// nothing: also after the session has ended.
pub async fn a_success_reported_twice_is_recorded_once(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.run_one(session, id).await;
    assert_eq!(kit.finish_one(session, success(attempt, "1")).await, Fenced::Recorded(State::Succeeded));
    let before = kit.store.get_full(id).await.expect("a task is read");
    for _ in 0..2 {
        let again = kit.finish_one(session, success(attempt, "2")).await;
        assert_eq!(again, Fenced::AlreadyRecorded(State::Succeeded));
        kit.store.end_session(session, "stopped").await.expect("a session ends");
    }
    let after = kit.store.get_full(id).await.expect("a task is read");
    assert_eq!((after.task, after.result), (before.task, before.result));
    kit.audit().await;
}

/// A success that comes twice in one batch is recorded once.
pub async fn a_success_twice_in_one_batch_is_recorded_once(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.run_one(session, id).await;
    let batch = vec![success(attempt, "1"), success(attempt, "2")];
    let answers = kit.store.finish(session, batch).await.expect("ends are written");
    assert_eq!(answers, [Fenced::Recorded(State::Succeeded), Fenced::AlreadyRecorded(State::Succeeded)]);
    let result = kit.store.get_full(id).await.expect("a task is read").result;
    assert_eq!(result, Some(Bytes::from_static(b"1")));
    kit.audit().await;
}

/// A result over the limit ends its attempt as FAILED with a reason; one at the limit is kept, and so is
/// every other of the batch.
pub async fn a_result_over_the_limit_fails_alone(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let ids = kit.admit_many(3).await;
    let mut attempts: Vec<Attempt> = Vec::new();
    for id in &ids {
        attempts.push(kit.run_one(session, *id).await);
    }
    let full = Bytes::from(vec![b'1'; limits::RESULT_BYTES]);
    let batch = vec![
        success(attempts[0], "1"),
        success(attempts[1], vec![b'1'; limits::RESULT_BYTES + 1]),
        success(attempts[2], full.clone()),
    ];
    let answers = kit.store.finish(session, batch).await.expect("ends are written");
    let recorded = Fenced::Recorded(State::Succeeded);
    assert_eq!(answers, [recorded, Fenced::Refused, recorded]);
    let refused = kit.store.get_full(ids[1]).await.expect("a task is read");
    assert_eq!((refused.task.life.state, refused.result), (State::Failed, None));
    assert_eq!(refused.task.error.map(|e| e.reason).as_deref(), Some("RESULT_REFUSED"));
    assert_eq!(kit.store.get_full(ids[2]).await.expect("a task is read").result, Some(full));
    kit.audit().await;
}

/// A result with bytes that an engine may refuse is kept to the byte, or ends its own attempt alone.
pub async fn a_result_that_is_refused_fails_alone(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let ids = kit.admit_many(3).await;
    let results =
        [Bytes::from_static(b"1"), Bytes::from_static(b"\"a\\u0000\0\xff\""), Bytes::from_static(b"3")];
    let mut batch = Vec::new();
    for (id, result) in ids.iter().zip(&results) {
        batch.push(success(kit.run_one(session, *id).await, result.clone()));
    }
    let answers = kit.store.finish(session, batch).await.expect("ends are written");
    for (i, (id, result)) in ids.iter().zip(results).enumerate() {
        let full = kit.store.get_full(*id).await.expect("a task is read");
        if answers[i] == Fenced::Recorded(State::Succeeded) {
            assert_eq!(full.result, Some(result));
        } else {
            assert_eq!((i, answers[i], full.task.life.state), (1, Fenced::Refused, State::Failed));
            assert_eq!(full.task.error.map(|e| e.reason).as_deref(), Some("RESULT_REFUSED"));
        }
    }
    kit.audit().await;
}

/// An attempt that its node stopped without a request to cancel is as if given back.
pub async fn an_attempt_stopped_by_its_node_waits_again(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.run_one(session, id).await;
    let finish = Finish { attempt, started_at: None, outcome: Outcome::Cancelled, result: None };
    assert_eq!(kit.finish_one(session, finish).await, Fenced::Recorded(State::Queued));
    kit.nth_ready(id, 2).await;
    let life = kit.get(id).await.life;
    assert_eq!((life.failures, life.lost), (0, 0));
    kit.audit().await;
}
