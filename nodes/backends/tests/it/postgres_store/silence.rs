//! A client that falls silent inside a transaction: paused, or at the end of a cable that was pulled; and one that
//! ends while the server works for it.

use super::held;
use super::proxy::{Cut, Proxy};
use super::{Place, claim, open, options};
use callboard_domain::State;
use callboard_ports::contract::store::Held;
use callboard_ports::sessions::SessionStore;
use callboard_ports::store::{Claim, Error, TaskReader, TaskStore};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// The server ends a transaction that idles for two seconds.
const FREED_WITHIN: Duration = Duration::from_secs(4);

#[tokio::test]
async fn the_server_ends_the_claim_of_a_client_that_falls_silent_and_frees_its_tasks() {
    let place = Place::new().await;
    let proxy = Proxy::new(&place.url).await;
    let store = open(&options(&proxy.url)).await;
    let (silent, next) = (place.session(1).await, place.session(2).await);
    let ids = place.admit(0..3).await;
    // Opens the line of claims.
    assert!(matches!(store.claim(claim(silent, &ids[..1])).await.as_deref(), Ok([Claim::Claimed(_)])));

    proxy.arm(Cut::Hold);
    let (claimer, take) = (store.clone(), claim(silent, &ids[1..]));
    let claiming = TaskTracker::new().spawn(async move { claimer.claim(take).await });
    let deadline = Instant::now() + Duration::from_secs(10);
    while !proxy.has_cut() {
        assert!(Instant::now() < deadline, "the claim does not come to its commit");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // It holds its session's row and its tasks, and says nothing more.
    let began = Instant::now();
    let ended = place.other.end_session(silent, "silent").await.unwrap();
    let took = began.elapsed();
    assert_eq!(ended.requeued, ids[..1], "what it had claimed before, and nothing that did not commit");
    assert!(took < FREED_WITHIN, "its locks were held for {took:?}");
    let taken = place.claim(next, &ids).await;
    assert!(taken.iter().all(|claim| matches!(claim, Claim::Claimed(_))), "{taken:?}");

    // What it says when it is back is too late.
    proxy.release();
    let late = claiming.await.unwrap();
    assert!(matches!(late, Err(Error::Unknown(_) | Error::SessionEnded)), "{late:?}");
    let held = place.other.get(ids).await.unwrap();
    assert!(held.iter().all(|t| t.life.state == State::Running && t.life.session == Some(next)), "{held:?}");
}

/// Less than it may wait for a lock.
const SEEN_WITHIN: Duration = Duration::from_millis(2_500);

#[tokio::test]
async fn the_server_ends_a_claim_that_waits_for_a_lock_once_its_client_is_gone() {
    let place = Place::new().await;
    let proxy = Proxy::new(&place.url).await;
    let store = open(&options(&proxy.url)).await;
    let session = place.session(1).await;
    let ids = place.admit(0..1).await;
    let mut held: Box<dyn Held> = Box::new(held::Row::hold(&place.url, ids[0]).await);
    let (claimed, ()) = futures::future::join(store.claim(claim(session, &ids)), async {
        held.until_waiting(1).await;
        let began = Instant::now();
        // As by the end of the process: all its connections are closed.
        drop(proxy);
        let ended = place.other.end_session(session, "gone").await.unwrap();
        let took = began.elapsed();
        assert!(took < SEEN_WITHIN, "its session's row was held for {took:?}");
        assert_eq!(ended.requeued, []);
        held.let_go().await;
    })
    .await;
    assert!(matches!(claimed, Err(Error::Unavailable(_))), "{claimed:?}");
}
