//! A cancel that comes in at one node and concerns an attempt on another.

use crate::load::{DEADLINE, after, all_end, all_run, log, now, quantile, say, sleep, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use callboard_client::v1::{TaskEventType, TaskState};
use std::time::Duration;

const TASKS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reaches_an_attempt_on_another_node_within_200_ms() {
    let settings = [Settings::new("works"), Settings::new("asks").without_worker()];
    let mut cluster = Cluster::start(room::alone().await, &settings).await;
    let client = cluster.replica("asks").client.clone();
    let ids = submit(&client, (0..TASKS).map(|_| sleep(60_000))).await;
    let tasks = all_run(&client, &ids).await;
    assert!(tasks.iter().all(|task| task.node == "works"), "{tasks:?}");
    let mut took = Vec::new();
    for id in &ids {
        let asked = now();
        client.cancel(id).await.unwrap();
        // Its end is committed only once the handler has heard of it.
        let watched = tokio::time::timeout(DEADLINE, client.wait(id)).await.unwrap().unwrap();
        assert_eq!(watched.state(), TaskState::Cancelled);
        let events = log(&client, id).await;
        let end = events.last().unwrap();
        assert_eq!((end.r#type(), end.node.as_str()), (TaskEventType::Cancelled, "works"));
        took.push(after(asked, end));
    }
    let (median, last) = (quantile(&took, 0.5), quantile(&took, 1.0));
    say(&format!("cancel: an attempt on another node ended after {median:.0?} (last of {TASKS} {last:.0?})"));
    assert!(last < Duration::from_millis(200), "{took:?}");
    all_end(&client, &ids, Duration::from_secs(5)).await;
}
