//! Databases to test on, and a server that may be killed.

use super::{claim, new_session, open, options, success, task};
use callboard_domain::{SessionId, State};
use callboard_ports::sessions::SessionStore;
use callboard_ports::store::{Claim, Error, Fenced, TaskReader, TaskStore};
use callboard_testkit::services::{Postgres, shared};
use std::time::Duration;
use tokio::time::Instant;

/// An empty database of its own on the server that the tests share.
pub(super) async fn fresh_database() -> String {
    tokio::task::spawn_blocking(|| shared::database().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_is_unavailable_and_nothing_that_was_answered_is_lost() {
    let mut server = Postgres::start(shared::programs().unwrap()).unwrap();
    let url = server.create_database("callboard").unwrap();
    let store = open(&options(&url)).await;
    let session = SessionId::from_bytes([1; 16]);
    store.open_session(new_session(session)).await.unwrap();
    let ids: Vec<_> = store
        .admit((0..50).map(task).collect())
        .await
        .into_iter()
        .map(|answer| answer.unwrap().task.spec.id)
        .collect();
    let claims = store.claim(claim(session, &ids[..25])).await.unwrap();
    assert!(claims.iter().all(|c| matches!(c, Claim::Claimed(_))));
    server.kill().unwrap();
    let refused = store.admit(vec![task(100)]).await.remove(0);
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(matches!(store.ping().await, Err(Error::Unavailable(_))));
    assert!(matches!(store.renew_session(session).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.get(ids.clone()).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.finish(session, vec![success(ids[0])]).await, Err(Error::Unavailable(_))));

    server.restart().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.ping().await.is_err() {
        assert!(Instant::now() < deadline, "it goes on by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.renew_session(session).await, Ok(vec![]));
    let ends = ids[..25].iter().map(|id| success(*id)).collect();
    assert_eq!(store.finish(session, ends).await, Ok(vec![Fenced::Recorded(State::Succeeded); 25]));
    assert!(store.admit(vec![task(101)]).await.remove(0).is_ok());
    assert_eq!(store.counts().await, Ok([0, 26, 0, 25, 0, 0]));
}
