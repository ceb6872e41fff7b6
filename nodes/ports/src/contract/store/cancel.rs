//! Cancelling.

use super::Fixture;
use super::kit::{Kit, failure, request, success};
use crate::store::{Claim, Error, Fenced, Finish};
use callboard_domain::{Outcome, State};
use std::time::Duration;

/// A task that waits, for its time or for a worker, is cancelled at once and never runs.
pub async fn a_waiting_task_is_cancelled_at_once(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let tasks = kit.admit(vec![kit.task(), kit.later(Duration::from_secs(60))]).await;
    for task in &tasks {
        let id = task.spec.id;
        let cancelled = kit.other.cancel(id).await.expect("a waiting task is cancelled");
        assert_eq!((cancelled.changed, cancelled.running_under), (true, None));
        assert_eq!(cancelled.task.life.state, State::Cancelled);
        assert!(cancelled.task.finished_at.is_some());
        assert_eq!(kit.get(id).await, cancelled.task);
    }
    kit.let_time_pass().await;
    for task in tasks {
        let claim = kit.claim(session, vec![task.spec.id]).await.remove(0);
        assert!(matches!(claim, Claim::Gone(_)), "{claim:?}");
    }
    kit.audit().await;
}

/// A running task goes on: the request is recorded once, and the caller learns who runs it.
pub async fn a_running_task_is_asked_to_stop(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.run_one(session, id).await;
    let asked = kit.other.cancel(id).await.expect("a running task is asked to stop");
    assert_eq!((asked.changed, asked.running_under), (true, Some(session)));
    assert_eq!((asked.task.life.state, asked.task.life.cancel_requested), (State::Running, true));
    let again = kit.store.cancel(id).await.expect("a running task is asked to stop");
    assert_eq!((again.changed, again.running_under), (false, Some(session)));
    assert_eq!(kit.get(id).await, asked.task);
    let stopped = Finish { attempt, started_at: None, outcome: Outcome::Cancelled, result: None };
    assert_eq!(kit.finish_one(session, stopped).await, Fenced::Recorded(State::Cancelled));
    assert!(kit.get(id).await.finished_at.is_some());
    kit.audit().await;
}

/// What has ended stays as it is, and a task that does not exist is not found.
pub async fn what_has_ended_is_not_cancelled(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let ids = kit.admit_many(3).await;
    let attempt = kit.run_one(session, ids[0]).await;
    kit.finish_one(session, success(attempt, "1")).await;
    let attempt = kit.run_one(session, ids[1]).await;
    kit.finish_one(session, failure(attempt, false)).await;
    kit.store.cancel(ids[2]).await.expect("a waiting task is cancelled");
    for id in ids {
        let before = kit.get(id).await;
        let answer = kit.store.cancel(id).await.expect("an ended task is no error");
        assert_eq!((answer.changed, answer.running_under, &answer.task), (false, None, &before));
        assert_eq!(kit.get(id).await, before);
    }
    assert_eq!(kit.store.cancel(kit.task().spec.id).await.err(), Some(Error::NotFound));
    kit.audit().await;
}

/// The first commit wins: a success that is reported after the request stays a success.
pub async fn a_success_after_the_request_counts(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let id = kit.admit_one().await;
    let attempt = kit.run_one(session, id).await;
    kit.store.cancel(id).await.expect("a running task is asked to stop");
    assert_eq!(kit.finish_one(session, success(attempt, "1")).await, Fenced::Recorded(State::Succeeded));
    assert!(kit.store.get_full(id).await.expect("a task is read").result.is_some());
    kit.audit().await;
}

/// Every other way out of RUNNING ends CANCELLED once a cancel is asked for: a failure that would be tried
/// again, giving back, and the loss of the node.
pub async fn every_other_way_out_ends_cancelled(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    let ids = kit.admit_many(4).await;
    let mut attempts = Vec::new();
    for id in &ids {
        attempts.push(kit.run_one(session, *id).await);
        kit.store.cancel(*id).await.expect("a running task is asked to stop");
    }
    let cancelled = Fenced::Recorded(State::Cancelled);
    assert_eq!(kit.finish_one(session, failure(attempts[0], true)).await, cancelled);
    assert_eq!(kit.finish_one(session, failure(attempts[1], false)).await, cancelled);
    assert_eq!(kit.store.give_back(session, vec![attempts[2]]).await.expect("written"), [cancelled]);
    let ended = kit.store.end_session(session, "killed").await.expect("a session ends");
    assert_eq!((ended.requeued, ended.ended), (vec![], vec![ids[3]]));
    for id in &ids {
        assert_eq!(kit.get(*id).await.life.state, State::Cancelled);
        assert_eq!(kit.told.ready(*id).len(), 1, "it is not handed off again");
    }
    let late = kit.finish_one(session, success(attempts[3], "1")).await;
    assert_eq!(late, Fenced::Stale, "the loss was committed first");
    assert_eq!(kit.store.get_full(ids[3]).await.expect("a task is read").result, None);
    kit.audit().await;
}

/// A cancel and a claim at once: the task is cancelled, or it runs and its runner is asked to stop.
pub async fn a_cancel_and_a_claim_at_once_agree(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let session = kit.session("a").await;
    for id in kit.admit_many(20).await {
        let (claim, cancel) =
            futures::future::join(kit.store.claim(request(session, vec![id])), kit.other.cancel(id)).await;
        let (claim, cancel) = (claim.expect("a live session claims").remove(0), cancel.expect("it exists"));
        let life = kit.get(id).await.life;
        assert!(cancel.changed);
        match claim {
            Claim::Claimed(_) => assert_eq!((life.state, life.cancel_requested), (State::Running, true)),
            Claim::Gone(_) => assert_eq!(life.state, State::Cancelled),
            Claim::NotMine(_) => panic!("the kind is hosted"),
        }
    }
    kit.audit().await;
}
