//! Damaged data harms its own task only.

use super::{Place, first_attempt, task};
use bytes::Bytes;
use callboard_domain::{Happening, Outcome, State, TaskId};
use callboard_ports::sessions::SessionStore;
use callboard_ports::store::{Claim, Error, Fenced, Filter, Finish, TaskReader, TaskStore};
use std::time::Duration;

impl Place {
    /// Spoils the row of one task.
    fn spoil(&self, set: &str, id: TaskId) {
        let sql = format!("UPDATE tasks SET {set} WHERE id = ?1");
        assert_eq!(self.sql().execute(&sql, [id.as_bytes().as_slice()]).unwrap(), 1);
    }

    fn key(&self, id: TaskId) -> i64 {
        let sql = "SELECT n FROM tasks WHERE id = ?1";
        self.sql().query_one(sql, [id.as_bytes().as_slice()], |row| row.get(0)).unwrap()
    }
}

#[tokio::test]
async fn a_task_that_cannot_be_read_fails_alone_when_it_is_claimed() {
    let mut place = Place::new();
    let ids = place.admit(0..5).await;
    let session = place.session(1).await;
    place.sql().execute("DELETE FROM task_inputs WHERE task = ?1", [place.key(ids[1])]).unwrap();
    place.spoil("priority = 77", ids[2]);
    // In the lifecycle itself: the row is rebuilt from the log.
    place.spoil("last_seq = -5", ids[3]);
    place.reopen().await;
    let claims = place.claim(session, &ids).await;
    for (i, claim) in claims.iter().enumerate() {
        assert_eq!(matches!(claim, Claim::Claimed(_)), !matches!(i, 1 | 2), "task {i}: {claim:?}");
    }
    let failed = place.store.get(vec![ids[1]]).await.unwrap().remove(0);
    assert_eq!(failed.life.state, State::Failed);
    assert_eq!(failed.error.unwrap().reason, "TASK_UNREADABLE");
    let log = place.store.events(ids[2], 0, 10).await.unwrap();
    assert!(
        matches!(&log.last().unwrap().what, Happening::Failed { error, .. } if error.reason == "TASK_UNREADABLE"),
        "{log:?}"
    );
    assert!(matches!(place.store.get(vec![ids[2]]).await, Err(Error::Corrupt(_))));
    let listed = place.store.list(Filter::default(), None, 10).await.unwrap();
    assert_eq!(listed.len(), 4, "one that cannot be read does not hide the others");
    assert_eq!(place.store.counts().await.unwrap(), [0, 0, 3, 0, 2, 0], "nothing is offered again");
}

#[tokio::test]
async fn a_spoilt_lifecycle_is_rebuilt_from_the_log() {
    let mut place = Place::new();
    let ids = place.admit(0..3).await;
    let session = place.session(1).await;
    place.claim(session, &ids).await;
    place.spoil("failures = -1", ids[1]);
    place.reopen().await;
    let ends = ids.iter().map(|id| Finish {
        attempt: first_attempt(*id),
        started_at: None,
        outcome: Outcome::Succeeded,
        result: Some(Bytes::from_static(b"1")),
    });
    let answers = place.store.finish(session, ends.collect()).await.unwrap();
    assert_eq!(answers, [Fenced::Recorded(State::Succeeded); 3]);
    assert_eq!(place.store.get(ids).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_spoilt_task_does_not_hold_up_the_others_that_are_due() {
    let mut place = Place::new();
    let later = place.clock_in(Duration::from_secs(60));
    let tasks = (0..3).map(|n| super::NewTask { run_at: Some(later), ..task(n) }).collect();
    let ids: Vec<_> = place.store.admit(tasks).await.into_iter().map(|a| a.unwrap().task.spec.id).collect();
    place.spoil("lost = -1", ids[0]);
    // This log cannot be replayed either: it stays, and is passed over.
    place.spoil("lost = -1", ids[1]);
    place.sql().execute("DELETE FROM task_events WHERE task = ?1", [place.key(ids[1])]).unwrap();
    place.reopen().await;
    place.clock.advance(Duration::from_secs(61));
    assert_eq!(place.store.release_due(10).await.unwrap().count, 2);
    let ended = place.session(1).await;
    place.claim(ended, &[ids[0], ids[2]]).await;
    assert_eq!(place.store.end_session(ended, "test").await.unwrap().requeued.len(), 2);
}

impl Place {
    fn clock_in(&self, span: Duration) -> callboard_domain::Timestamp {
        use callboard_ports::Clock;
        self.clock.now().after(span)
    }
}
