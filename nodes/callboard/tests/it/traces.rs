//! The trace a task belongs to.

use crate::node::{InProcess, callboard, request};
use callboard_client::v1;
use callboard_domain::TraceContext;
use std::collections::HashSet;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn submit(node: &InProcess, traceparent: &str) -> v1::Task {
    let request = v1::SubmitTaskRequest { traceparent: traceparent.into(), ..request("echo", "{}") };
    node.client.submit(request).await.unwrap().task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_has_a_trace_its_callers_or_its_own() {
    let node = InProcess::start().await;
    assert_eq!(submit(&node, PARENT).await.traceparent, PARENT);
    let mut own = HashSet::new();
    // As the standard asks, what is malformed is ignored.
    for traceparent in ["", "", "nonsense", &PARENT.replace('a', "A")] {
        let task = submit(&node, traceparent).await;
        let stored = node.client.get(&task.id, false).await.unwrap();
        assert_eq!(stored.traceparent, task.traceparent);
        own.insert(task.traceparent.parse::<TraceContext>().unwrap().trace_id());
    }
    let task = node.run("echo", "{}").await;
    let again = node.client.retry(&task.id, "").await.unwrap();
    own.extend([task, again].map(|task| task.traceparent.parse::<TraceContext>().unwrap().trace_id()));
    assert_eq!(own.len(), 6, "each is in a trace of its own");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_shows_it() {
    let node = InProcess::start().await;
    let task = submit(&node, "").await;
    let env = [("CALLBOARD_ADDR", node.running.public.to_string())];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    let said = callboard(&["get", &task.id, "--output", "json"], &env).await;
    let shown: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(shown["traceparent"], task.traceparent, "{said:?}");
    node.stop().await;
}
