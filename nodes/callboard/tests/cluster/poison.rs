//! A task that kills the node that runs it, whenever it runs.

use crate::load::{DEADLINE, all_end, all_succeeded, eventually, log, request, say, sleep, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use callboard_client::{is_terminal, v1};
use std::time::Duration;

/// How many started attempts may be lost; the one after it fails the task.
const LOST: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_kills_its_node_stops_and_no_innocent_fails() {
    let settings = ["a", "b", "c"].map(|name| Settings::new(name).slots(8).with_test_kinds());
    let mut cluster = Cluster::start(room::shared().await, &settings).await;
    let client = cluster.client();
    let poison = submit(&client, [request("test.poison", "{}")]).await.remove(0);
    let mut innocents = Vec::new();
    let mut kills = 0;
    // Nodes are started again, as an operator's tool would; innocent tasks run all the while.
    let ended = async {
        loop {
            for replica in &mut cluster.replicas {
                if !replica.is_up() {
                    kills += 1;
                    replica.start().await;
                }
            }
            let task = client.get(&poison, false).await.unwrap();
            if is_terminal(task.state()) {
                return task;
            }
            innocents.extend(submit(&client, (0..2).map(|_| sleep(400))).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let task = tokio::time::timeout(Duration::from_secs(90), ended).await.unwrap();
    assert_eq!((task.state(), task.lost), (v1::TaskState::Failed, LOST + 1), "{task:?}");
    assert_eq!(task.error.unwrap().reason, "LOST_TOO_OFTEN");
    assert_eq!(kills, LOST + 1);
    let tasks = all_end(&client, &innocents, DEADLINE).await;
    all_succeeded(&tasks);
    let most = tasks.iter().map(|task| task.lost).max().unwrap();
    let victims = tasks.iter().filter(|task| task.lost > 0).count();
    say(&format!(
        "poison: stopped after {kills} nodes; {victims} of {} innocents were lost, at most {most} times",
        tasks.len()
    ));
    assert!(most < LOST, "an innocent task was close to failing");
    log(&client, &poison).await;
    eventually("all replicas run", DEADLINE, async || {
        cluster.replicas.iter_mut().all(|replica| replica.is_up()).then_some(())
    })
    .await;
}
