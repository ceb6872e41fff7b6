//! Due tasks.

use super::Fixture;
use super::kit::Kit;
use crate::store::Released;
use callboard_domain::State;
use std::time::Duration;

/// Nothing waits: nothing is released, nothing is due.
pub async fn nothing_is_due_in_an_empty_store(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    assert_eq!(kit.store.release_due(10).await, Ok(Released::default()));
    kit.admit_one().await;
    assert_eq!(kit.store.release_due(10).await, Ok(Released::default()), "a queued task is not due");
    assert_eq!(kit.store.release_due(0).await, Ok(Released::default()));
    kit.audit().await;
}

/// A task is queued once its time has come, not before, and handed off then.
pub async fn releases_what_is_due(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let soon = kit.later(Duration::from_secs(60));
    let late = kit.later(Duration::from_secs(600));
    let times = [soon.run_at, late.run_at];
    let tasks = kit.admit(vec![late, soon]).await;
    let (late, soon) = (tasks[0].spec.id, tasks[1].spec.id);
    assert_eq!(kit.store.release_due(10).await, Ok(Released { count: 0, next_due: times[0] }));
    kit.fixture.advance(Duration::from_secs(61)).await;
    assert_eq!(kit.other.release_due(10).await, Ok(Released { count: 1, next_due: times[1] }));
    assert_eq!(kit.get(soon).await.life.state, State::Queued);
    assert_eq!(kit.get(late).await.life.state, State::Scheduled);
    kit.nth_ready(soon, 1).await;
    assert_eq!(kit.store.release_due(10).await, Ok(Released { count: 0, next_due: times[1] }), "once");
    let session = kit.session("a").await;
    kit.claim_one(session, soon).await;
    kit.fixture.advance(Duration::from_secs(600)).await;
    assert_eq!(kit.store.release_due(10).await, Ok(Released { count: 1, next_due: None }));
    kit.nth_ready(late, 1).await;
    kit.audit().await;
}

/// At most so many are released as were asked for, the earliest first, and the answer says that more are due.
pub async fn releases_no_more_than_asked_for(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let batch: Vec<_> = (1..=5).rev().map(|s| kit.later(Duration::from_secs(s))).collect();
    let (third, last) = (batch[2].run_at, batch[0].run_at);
    let ids: Vec<_> = kit.admit(batch).await.iter().map(|t| t.spec.id).collect();
    kit.fixture.advance(Duration::from_secs(60)).await;
    assert_eq!(kit.store.release_due(2).await, Ok(Released { count: 2, next_due: third }));
    for (id, state) in ids.iter().zip([State::Scheduled, State::Scheduled, State::Scheduled, State::Queued]) {
        assert_eq!(kit.get(*id).await.life.state, state);
    }
    assert_eq!(kit.store.release_due(2).await, Ok(Released { count: 2, next_due: last }));
    assert_eq!(kit.store.release_due(2).await, Ok(Released { count: 1, next_due: None }));
    kit.audit().await;
}

/// Two nodes that release at once queue each task once.
pub async fn a_task_that_is_due_is_released_once(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let ids: Vec<_> = {
        let batch = (0..40).map(|_| kit.later(Duration::from_secs(1))).collect();
        kit.admit(batch).await.iter().map(|t| t.spec.id).collect()
    };
    kit.fixture.advance(Duration::from_secs(2)).await;
    let nodes = (0..4).map(|i| if i % 2 == 0 { &kit.store } else { &kit.other });
    let released = futures::future::join_all(nodes.map(|s| s.release_due(100))).await;
    let count: usize = released.into_iter().map(|r| r.expect("due tasks are released").count).sum();
    assert_eq!(count, ids.len());
    for id in ids {
        kit.nth_ready(id, 1).await;
        assert_eq!(kit.told.ready(id).len(), 1);
    }
    kit.audit().await;
}
