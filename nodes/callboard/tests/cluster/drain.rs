//! `callboard drain`: a node takes nothing more, hands back what it cannot end, and leaves.

use crate::load::{DEADLINE, all_end, all_run, all_succeeded, eventually, logs, sleep, submit};
use crate::replica::Cluster;
use callboard_client::v1::{TaskEventType, TaskState};
use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_hands_back_what_runs_and_leaves_and_the_rest_goes_on() {
    let mut cluster = Cluster::of(3).await;
    let client = cluster.client();
    let ids = submit(&client, (0..15).map(|_| sleep(4_000))).await;
    let mut by_node: HashMap<String, Vec<String>> = HashMap::new();
    for task in all_run(&client, &ids).await {
        by_node.entry(task.node).or_default().push(task.id);
    }
    let (leaves, held) = by_node.into_iter().max_by_key(|(_, tasks)| tasks.len()).unwrap();
    // Asked of another than the one that is to leave.
    let asked = cluster.replicas.iter().find(|replica| replica.name != leaves).unwrap();
    let (client, address) = (asked.client.clone(), asked.api.to_string());
    let mut drain = tokio::process::Command::new(env!("CARGO_BIN_EXE_callboard"));
    drain.args(["drain", &leaves, "--grace", "300ms", "--addr", &address]).stdin(Stdio::null());
    let said = tokio::time::timeout(DEADLINE, drain.output()).await.unwrap().unwrap();
    assert!(said.status.success(), "{said:?}");

    // When the command ends, so has its session.
    let names: Vec<_> = client.nodes().await.unwrap().into_iter().map(|node| node.name).collect();
    assert!(!names.contains(&leaves) && names.len() == 2, "{names:?}");
    assert!(cluster.replica(&leaves).ended().await.success());
    let more = submit(&client, (0..10).map(|_| sleep(10))).await;
    let ended = |id: String| {
        let client = client.clone();
        async move {
            let what = format!("{id} ends although a node has left");
            eventually(&what, DEADLINE, async || {
                client.get(&id, false).await.ok().filter(|task| task.state() == TaskState::Succeeded)
            })
            .await
        }
    };
    for task in futures::future::join_all(more.into_iter().map(ended)).await {
        assert_ne!(task.node, leaves);
    }
    let tasks = all_end(&client, &ids, Duration::from_secs(30)).await;
    all_succeeded(&tasks);
    for (task, events) in tasks.iter().zip(logs(&client, &ids).await) {
        // Neither failed nor lost: handed back.
        assert_eq!((task.failures, task.lost), (0, 0), "{events:?}");
        let returned = events.iter().any(|event| event.r#type() == TaskEventType::Returned);
        assert_eq!(returned, held.contains(&task.id), "{events:?}");
        assert!(!returned || task.node != leaves, "{events:?}");
    }
}
