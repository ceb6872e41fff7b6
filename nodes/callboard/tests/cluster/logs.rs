//! What replicas log of a task that more than one has to do with.

use crate::load::{DEADLINE, all_end, eventually, request};
use crate::replica::{Cluster, Settings};
use crate::room;
use serde_json::Value;

const ALL: &str = "warn,callboard=debug,callboard_worker=debug,callboard_provider_broker=debug";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_a_task_have_its_ids_on_every_replica_and_levels_change_through_any() {
    let json = |settings: Settings| settings.env("CALLBOARD_LOG__FORMAT", "json");
    let settings =
        [json(Settings::new("broker").without_worker()), json(Settings::new("worker").roles(&["worker"]))];
    let mut cluster = Cluster::start(room::shared().await, &settings).await;
    let client = cluster.replica("broker").client.clone();
    let changed = client.set_log_filter(None, Some(ALL)).await.unwrap();
    let changed: Vec<_> = changed.iter().map(|node| (node.node.as_str(), node.error.as_str())).collect();
    assert_eq!(changed, [("broker", ""), ("worker", "")]);
    let task = client.submit(request("text.generate", r#"{"prompt":"tea"}"#)).await.unwrap().task;
    all_end(&client, std::slice::from_ref(&task.id), DEADLINE).await;
    let trace = task.traceparent.split('-').nth(1).unwrap();
    for (name, expected) in [("broker", "provider answered"), ("worker", "an attempt starts")] {
        let replica = cluster.replica(name);
        let line = eventually(&format!("{name} logs `{expected}`"), DEADLINE, async || {
            let said = replica.said();
            let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["message"] == expected)
        })
        .await;
        assert_eq!((&line["task.id"], &line["attempt"]), (&task.id.as_str().into(), &1.into()), "{line}");
        assert_eq!(line["trace_id"], trace, "{line}");
    }
}
