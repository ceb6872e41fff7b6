//! A process killed: its session is ended at once, its tasks run elsewhere within a second.

use crate::load::{after, all_end, all_run, all_succeeded, logs, now, quantile, say, sleep, submit};
use crate::replica::Cluster;
use callboard_client::v1::TaskEventType;
use std::collections::HashMap;
use std::time::Duration;

const TASKS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_killed_node_run_elsewhere_within_a_second() {
    let mut cluster = Cluster::of(3).await;
    let client = cluster.client();
    let ids = submit(&client, (0..TASKS).map(|_| sleep(3_000))).await;
    let mut by_node: HashMap<String, Vec<String>> = HashMap::new();
    for task in all_run(&client, &ids).await {
        by_node.entry(task.node).or_default().push(task.id);
    }
    let (victim, lost) = by_node.into_iter().max_by_key(|(_, tasks)| tasks.len()).unwrap();
    let survivor = cluster.others(&victim).remove(0);

    let killed = now();
    cluster.replica(&victim).kill9().await;

    let tasks = all_end(&survivor, &ids, Duration::from_secs(30)).await;
    all_succeeded(&tasks);
    let mut took = Vec::new();
    for (task, events) in tasks.iter().zip(logs(&survivor, &ids).await) {
        let was_lost = lost.contains(&task.id);
        assert_eq!((task.attempt, task.lost), if was_lost { (2, 1) } else { (1, 0) }, "{events:?}");
        if was_lost {
            let again = events.iter().rfind(|event| event.r#type() == TaskEventType::Claimed).unwrap();
            assert_ne!(again.node, victim);
            took.push(after(killed, again));
        }
    }
    let (median, last) = (quantile(&took, 0.5), quantile(&took, 1.0));
    say(&format!("kill: {} of {TASKS} tasks ran elsewhere after {median:.0?} (last {last:.0?})", took.len()));
    assert!(last < Duration::from_secs(1), "{took:?}");

    // It comes back under a new session, as one of them.
    cluster.replica(&victim).start().await;
    cluster.settled().await;
}
