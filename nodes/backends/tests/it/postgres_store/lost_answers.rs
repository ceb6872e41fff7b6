//! Answers that are lost on their way: nothing waits for one without an end.

use super::proxy::{Cut, Proxy};
use super::{Place, open, options};
use bytes::Bytes;
use callboard_domain::SessionId;
use callboard_ports::artifacts::{self, Artifacts as _};
use callboard_ports::sessions::SessionStore;
use callboard_ports::store::{Error, TaskReader};
use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, Executor as _};
use std::time::Duration;
use tokio::time::Instant;

/// More than any pool here has connections.
const TIMES: usize = 6;

impl Proxy {
    /// Makes a call whose next answer is lost, and lets its time pass.
    async fn lose<T>(&self, call: impl Future<Output = T>) -> T {
        self.arm(Cut::Swallow);
        let passes = async {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !self.has_cut() {
                assert!(Instant::now() < deadline, "the call sends nothing");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // From here on time flies: it jumps to the end of whatever is waited for.
            tokio::time::pause();
        };
        let both = async { futures::future::join(call, passes).await.0 };
        // An hour is without an end.
        let answer = tokio::time::timeout(Duration::from_secs(3_600), both).await;
        tokio::time::resume();
        answer.unwrap()
    }
}

#[tokio::test]
async fn a_read_whose_answer_was_lost_ends_and_costs_no_place_in_the_pool() {
    let place = Place::new().await;
    let proxy = Proxy::new(&place.url).await;
    let store = open(&options(&proxy.url)).await;
    let nobody = SessionId::from_bytes([7; 16]);
    for _ in 0..TIMES {
        let held = proxy.lose(store.held_by(nobody)).await;
        assert!(matches!(held, Err(Error::Unavailable(_))), "{held:?}");
        let live = proxy.lose(store.live_sessions()).await;
        assert!(matches!(live, Err(Error::Unavailable(_))), "{live:?}");
    }
    // Nor does one whose caller went away meanwhile.
    for _ in 0..TIMES {
        let mut gone = Box::pin(store.counts());
        proxy.arm(Cut::Swallow);
        while !proxy.has_cut() {
            assert!(futures::poll!(&mut gone).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(store.held_by(nobody).await, Ok(vec![]));
    assert_eq!(store.counts().await, Ok([0; 6]));
}

#[tokio::test]
async fn an_artifact_whose_answer_was_lost_ends_and_costs_no_place_in_the_pool() {
    let place = Place::new().await;
    let proxy = Proxy::new(&place.url).await;
    let artifacts = open(&options(&proxy.url)).await.artifacts();
    let data = Bytes::from_static(b"some bytes");
    let digest = artifacts.put(data.clone(), "text/plain").await.unwrap();
    for _ in 0..TIMES {
        let put = proxy.lose(artifacts.put(data.clone(), "text/plain")).await;
        assert!(matches!(put, Err(artifacts::Error::Unavailable(_))), "{put:?}");
        let head = proxy.lose(artifacts.get(digest)).await;
        assert!(matches!(head, Err(artifacts::Error::Unavailable(_))), "{:?}", head.err());
        let mut parts = artifacts.get(digest).await.unwrap().data;
        let part = proxy.lose(parts.next()).await;
        assert!(matches!(part, Some(Err(artifacts::Error::Unavailable(_)))), "{part:?}");
    }
    let mut parts = artifacts.get(digest).await.unwrap().data;
    assert_eq!(parts.next().await.unwrap().unwrap(), data);
}

#[tokio::test]
async fn a_node_that_loses_its_answer_keeps_no_other_from_making_partitions() {
    let place = Place::new().await;
    let proxy = Proxy::new(&place.url).await;
    let store = open(&options(&proxy.url)).await;
    let newest = "SELECT right(max(relname), 8) FROM pg_class WHERE relname ~ '^tasks_[0-9]{8}$'";
    let mut sql = place.sql().await;
    let newest: String = sqlx::query_scalar(newest).fetch_one(&mut sql).await.unwrap();
    let drop =
        ["tasks", "task_inputs", "task_results", "task_events"].map(|table| format!("{table}_{newest}"));
    sql.execute(AssertSqlSafe(format!("DROP TABLE {}", drop.join(", ")))).await.unwrap();
    let lost = proxy.lose(store.maintain_partitions(None)).await;
    assert!(matches!(lost, Err(Error::Unavailable(_))), "{lost:?}");
    // The server still takes it for being at it, for a while.
    let deadline = Instant::now() + Duration::from_secs(20);
    while place.other.maintain_partitions(None).await.unwrap().made == 0 {
        assert!(Instant::now() < deadline, "the lock is never free");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
