//! The page `/metrics` of nodes of a cluster.

use crate::load::{DEADLINE, all_end, request, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use callboard::node::METRICS;
use callboard_client::v1::TaskState;
use std::collections::HashMap;

fn sum(samples: &HashMap<String, u64>, name: &str, with: &[&str]) -> u64 {
    let is_meant = |key: &str| key.starts_with(name) && with.iter().all(|part| key.contains(part));
    samples.iter().filter(|(key, _)| is_meant(key)).map(|(_, value)| value).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_shows_its_part_of_what_tasks_do() {
    const TASKS: u64 = 5;
    let front = Settings::new("front").without_worker();
    let worker = Settings::new("worker").roles(&["worker"]);
    let mut cluster = Cluster::start(room::shared().await, &[front, worker]).await;
    let client = cluster.replica("front").client.clone();
    let tasks = (0..TASKS).map(|n| request("text.generate", &format!(r#"{{"prompt":"number {n}"}}"#)));
    let ids = submit(&client, tasks).await;
    for task in all_end(&client, &ids, DEADLINE).await {
        assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
    }

    let page = cluster.replica("front").page().await;
    let families: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let expected: Vec<_> =
        METRICS.iter().map(|metric| format!("# TYPE {} {}", metric.name, metric.kind.name())).collect();
    assert_eq!(families, expected);

    let (front, worker) =
        (cluster.replica("front").metrics().await, cluster.replica("worker").metrics().await);
    // Admitted here and run there: what each of them wrote is in its own groups of commits.
    assert_eq!(sum(&front, "callboard_task_events_total", &["\"submitted\""]), TASKS);
    assert_eq!(sum(&worker, "callboard_task_events_total", &["\"succeeded\""]), TASKS);
    assert_eq!(sum(&front, "callboard_store_batch_rows_sum", &["\"admit\""]), TASKS);
    assert!(sum(&worker, "callboard_store_batch_rows_sum", &["\"claim\""]) >= TASKS);
    assert!(sum(&worker, "callboard_store_batch_rows_sum", &["\"report\""]) >= TASKS);
    assert_eq!(sum(&worker, "callboard_attempts_total", &["\"text.generate\"", "\"succeeded\""]), TASKS);
    assert_eq!(worker["callboard_handoff_lag_seconds_count"], TASKS);
    assert!(sum(&front, "callboard_rabbitmq_published_total", &["\"confirmed\""]) > 0);
    assert!(front["callboard_relay_publish_duration_seconds_count"] > 0);
    // The worker's calls to models came over the mesh.
    let broker = ["callboard.mesh.v1.ProviderBrokerService", "\"OK\""];
    assert_eq!(sum(&front, "callboard_rpc_requests_total", &broker), TASKS, "{front:?}");
    assert_eq!(sum(&front, "callboard_provider_requests_total", &["\"OK\""]), TASKS);
    for (node, samples) in [("front", &front), ("worker", &worker)] {
        assert_eq!(samples["callboard_cluster_nodes"], 2, "{node}");
        assert_eq!(samples["callboard_session_held"], 1, "{node}");
        assert_eq!(samples["callboard_tasks{state=\"succeeded\"}"], TASKS, "{node}: of the whole cluster");
    }
}
