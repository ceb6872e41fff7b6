//! What a node logs, and how that is changed.

use crate::node::{InProcess, UpProcess, eventually, request, up_refused, wait};
use serde_json::Value;

/// All that the product says, and of libraries what is wrong.
const ALL: &str = "warn,callboard=debug,callboard_worker=debug,callboard_provider_broker=debug";

async fn node(filter: &str) -> (tempfile::TempDir, UpProcess) {
    let folder = tempfile::tempdir().unwrap();
    let env = [("CALLBOARD_LOG__FORMAT", "json"), ("CALLBOARD_LOG__FILTER", filter)];
    let node = UpProcess::start(folder.path(), &["--name", "one"], &env).await;
    (folder, node)
}

/// The lines a node has logged; what it printed beside is none.
fn lines(node: &UpProcess) -> Vec<Value> {
    let lines: Vec<Value> =
        node.process.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    lines.into_iter().filter(|line| line.get("level").is_some()).collect()
}

/// Runs a task to its end. Returns its id and its trace's.
async fn run(node: &UpProcess) -> (String, String) {
    let task = node.client.submit(request("text.generate", r#"{"prompt":"tea"}"#)).await.unwrap().task;
    let ended = wait(&node.client, &task.id).await;
    (task.id, ended.traceparent.split('-').nth(1).unwrap().to_owned())
}

/// The lines of a task, as soon as its end is among them.
async fn lines_of(node: &UpProcess, task: &str) -> Vec<Value> {
    eventually("the end is logged", async || {
        let lines: Vec<_> = lines(node).into_iter().filter(|line| line["task.id"] == *task).collect();
        lines.iter().any(|line| line["message"] == "an attempt has ended").then_some(lines)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_a_task_has_its_ids() {
    let (_folder, node) = node(ALL).await;
    let (task, trace) = run(&node).await;
    let lines = lines_of(&node, &task).await;
    let said: Vec<_> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(
        said,
        ["a task is admitted", "an attempt starts", "provider answered", "an attempt has ended"]
    );
    assert!(lines.iter().all(|line| line["trace_id"] == *trace), "{lines:#?}");
    assert!(lines[1..].iter().all(|line| line["attempt"] == 1), "{lines:#?}");
    // The call that made it is named by its own id.
    assert!(lines[0]["request.id"].as_str().is_some_and(|id| !id.is_empty()), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_logged_is_changed_while_it_runs() {
    let (_folder, node) = node("info").await;
    let said = node.cli(&["log-level"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (0, "one  info\n"), "{said:?}");
    let (before, _) = run(&node).await;
    let said = node.cli(&["log-level", ALL, "--node", "one"]).await;
    assert_eq!((said.code, said.stdout), (0, format!("one  info -> {ALL}\n")));
    let (task, _) = run(&node).await;
    assert_eq!(lines_of(&node, &task).await.len(), 4);
    assert!(lines(&node).iter().all(|line| line["task.id"] != *before), "nothing was logged of it then");
    // Who reads the log sees where it changes.
    assert!(lines(&node).iter().any(|line| line["filter"] == ALL && line["previous"] == "info"));
    let said = node.cli(&["log-level", "off", "--output", "json"]).await;
    let expected = serde_json::json!({
        "nodes": [{"node": "one", "filter": "off", "previous": ALL, "error": null}]
    });
    assert_eq!(serde_json::from_str::<Value>(&said.stdout).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_logged_is_refused_and_changes_nothing() {
    let (folder, node) = node("info").await;
    let said = node.cli(&["log-level", "debg"]).await;
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("`debg` is no level; of a module, write debg=LEVEL"), "{said:?}");
    let said = node.cli(&["log-level", "debug", "--node", "two"]).await;
    assert!(said.code != 0 && said.stderr.contains("there is no node `two`; there are: one"), "{said:?}");
    assert_eq!(node.cli(&["log-level"]).await.stdout, "one  info\n");
    let other = folder.path().join("other");
    let said = up_refused(&other, &[], &[("CALLBOARD_LOG__FILTER", "debg")]).await;
    assert!(said.code != 0 && said.stderr.contains("log.filter: `debg` is no level"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_that_its_log_is_anothers() {
    let node = InProcess::start().await;
    let answer = node.client.set_log_filter(None, Some("debug")).await.unwrap();
    assert!(answer[0].error.contains("not the node's to change"), "{answer:?}");
    node.stop().await;
}
