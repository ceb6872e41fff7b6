//! Data that the server refuses and rows that cannot be read harm their own task only.

use super::{Place, claim, success, task};
use callboard_domain::{Happening, State, TaskId};
use callboard_ports::sessions::{Accusation, SessionStore};
use callboard_ports::store::{Claim, Error, Fenced, Filter, TaskReader, TaskStore};
use sqlx::{AssertSqlSafe, Executor};
use std::time::Duration;
use uuid::Uuid;

impl Place {
    /// Does something to one task behind the store's back.
    async fn spoil(&self, sql: &str, id: TaskId) {
        let sql = sqlx::query(AssertSqlSafe(sql.to_owned())).bind(Uuid::from_bytes(*id.as_bytes()));
        assert!(sql.execute(&mut self.sql().await).await.unwrap().rows_affected() > 0);
    }
}

#[tokio::test]
async fn a_task_the_server_refuses_fails_alone() {
    let place = Place::new().await;
    let mut batch: Vec<_> = (0..20).map(task).collect();
    batch[3].spec.traceparent = Some("a\0b".into());
    batch[17].spec.request_id = Some("\0".into());
    let answers = place.store.admit(batch).await;
    for (i, answer) in answers.iter().enumerate() {
        match i {
            3 | 17 => assert!(matches!(answer, Err(Error::Refused(_))), "task {i}: {answer:?}"),
            _ => assert!(answer.is_ok(), "task {i}: {answer:?}"),
        }
    }
    assert_eq!(place.other.counts().await.unwrap()[1], 18);
}

#[tokio::test]
async fn a_result_the_server_refuses_fails_alone() {
    let place = Place::new().await;
    let session = place.session(1).await;
    let ids = place.admit(0..10).await;
    place.claim(session, &ids).await;
    place.spoil("INSERT INTO task_results VALUES ($1, '')", ids[6]).await;
    let ends = ids.iter().map(|id| success(*id)).collect();
    let answers = place.store.finish(session, ends).await.unwrap();
    for (i, answer) in answers.into_iter().enumerate() {
        let wanted = if i == 6 { Fenced::Refused } else { Fenced::Recorded(State::Succeeded) };
        assert_eq!(answer, wanted, "task {i}");
    }
    let refused = place.other.get(vec![ids[6]]).await.unwrap().remove(0);
    assert_eq!(
        (refused.life.state, refused.error.unwrap().reason.as_str()),
        (State::Failed, "RESULT_REFUSED")
    );
    assert_eq!(place.other.counts().await, Ok([0, 0, 0, 9, 1, 0]));
}

#[tokio::test]
async fn what_a_handler_says_is_recorded_whatever_it_is() {
    use callboard_domain::{Attempt, Outcome, Progress, TaskError};
    use callboard_ports::store::{Finish, ProgressReport};
    let place = Place::new().await;
    let session = place.session(1).await;
    let ids = place.admit(0..1).await;
    place.claim(session, &ids).await;
    let attempt = Attempt { task_id: ids[0], number: 1 };
    let progress = Progress { percent: 1, message: "a\0b".into() };
    let reported = place.store.progress(session, vec![ProgressReport { attempt, progress }]).await;
    assert_eq!(reported, Ok(vec![Fenced::Recorded(State::Running)]));
    let error = TaskError::new("BROKEN", "c\0d", false);
    let policy = callboard_domain::RetryPolicy::default();
    let outcome = Outcome::Failed { error, policy, retry_after: None, jitter: 0.5 };
    let end = Finish { attempt, started_at: None, outcome, result: None };
    assert_eq!(place.store.finish(session, vec![end]).await, Ok(vec![Fenced::Recorded(State::Failed)]));
    let failed = place.other.get(ids).await.unwrap().remove(0);
    assert_eq!(failed.error.unwrap().message, "c\u{fffd}d");
}

#[tokio::test]
async fn a_task_that_cannot_be_read_fails_alone_when_it_is_claimed() {
    let place = Place::new().await;
    let ids = place.admit(0..5).await;
    let session = place.session(1).await;
    place.spoil("DELETE FROM task_inputs WHERE task_id = $1", ids[1]).await;
    place.spoil("UPDATE tasks SET priority = 77 WHERE id = $1", ids[2]).await;
    // In the lifecycle itself: the row is rebuilt from the log.
    place.spoil("UPDATE tasks SET last_seq = -5 WHERE id = $1", ids[3]).await;
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
async fn a_spoilt_task_does_not_hold_up_the_end_of_its_session_or_what_is_due() {
    let place = Place::new().await;
    let session = place.session(1).await;
    let later = callboard_ports::contract::store::Fixture::now(&place).after(Duration::from_secs(60));
    let tasks = (0..4).map(|n| super::NewTask { run_at: Some(later), ..task(n) }).collect();
    let ids: Vec<_> = place.store.admit(tasks).await.into_iter().map(|a| a.unwrap().task.spec.id).collect();
    place.spoil("UPDATE tasks SET lost = -1 WHERE id = $1", ids[0]).await;
    // This log cannot be replayed either: it stays, and is passed over.
    place.spoil("UPDATE tasks SET lost = -1 WHERE id = $1", ids[1]).await;
    place.spoil("DELETE FROM task_events WHERE task_id = $1", ids[1]).await;
    place.clock.advance(Duration::from_secs(61));
    assert_eq!(place.store.release_due(10).await.unwrap().count, 3);
    assert_eq!(place.store.claim(claim(session, &ids)).await.unwrap().len(), 4);
    place.spoil("UPDATE tasks SET failures = -1 WHERE id = $1", ids[2]).await;
    let ended = place.store.end_session(session, "test").await.unwrap();
    assert_eq!(ended.requeued.len(), 3, "{ended:?}");
}

impl Place {
    /// Has the server refuse every change of a task.
    async fn refuse_changes(&self, id: TaskId) {
        let sql = format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '22000'; END $$; \
             CREATE TRIGGER refuse BEFORE UPDATE ON tasks FOR EACH ROW WHEN (OLD.id = '{}') \
                 EXECUTE FUNCTION refuse()",
            Uuid::from_bytes(*id.as_bytes())
        );
        self.sql().await.execute(AssertSqlSafe(sql)).await.unwrap();
    }
}

#[tokio::test]
async fn a_task_whose_change_fails_does_not_keep_its_session_from_being_ended() {
    let place = Place::new().await;
    let (session, other, accuser) = (place.session(1).await, place.session(2).await, place.session(3).await);
    let ids = place.admit(0..8).await;
    place.claim(session, &ids[..4]).await;
    place.claim(other, &ids[4..]).await;
    // What it would append is there already: its row is behind its log.
    place.spoil("UPDATE tasks SET last_seq = last_seq - 1 WHERE id = $1", ids[1]).await;
    let ended = place.store.end_session(session, "test").await.unwrap();
    assert_eq!(ended.requeued, ids[..4], "rebuilt from its log");

    place.refuse_changes(ids[5]).await;
    let accusation = Accusation { accuser, accused: other, counter: None, reason: "test".into() };
    let ended = place.store.accuse(accusation).await.unwrap().unwrap();
    assert_eq!(ended.requeued, [ids[4], ids[6], ids[7]]);
    let live = place.store.live_sessions().await.unwrap();
    assert_eq!(live.iter().map(|s| s.opened.id).collect::<Vec<_>>(), [accuser]);
    assert_eq!(place.store.counts().await, Ok([0, 7, 1, 0, 0, 0]), "nothing was done twice");

    // It keeps no other orphan from being found either, and is found itself once it can be.
    place.claim(accuser, &ids[6..]).await;
    callboard_ports::contract::store::Fixture::forget_session(&place, accuser).await;
    assert_eq!(place.store.recover_orphans(10).await, Ok(2));
    place.sql().await.execute("DROP TRIGGER refuse ON tasks").await.unwrap();
    assert_eq!(place.store.recover_orphans(10).await, Ok(1));
    assert_eq!(place.store.counts().await, Ok([0, 8, 0, 0, 0, 0]));
}
