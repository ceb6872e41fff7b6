//! What a node logs, and how that is changed.

use crate::node::{InProcess, UpProcess, eventually, request, submit_all, up_refused, wait};
use callboard_client::v1;
use callboard_testkit::Collector;
use serde_json::Value;
use std::collections::BTreeSet;

/// All that the product says, and of libraries what is wrong.
const ALL: &str = "warn,callboard=debug,callboard_worker=debug,callboard_provider_broker=debug";

async fn node(filter: &str) -> (tempfile::TempDir, UpProcess) {
    exporting(filter, &[]).await
}

/// A node that is told something of where lines go.
async fn exporting(filter: &str, to: &[(&str, &str)]) -> (tempfile::TempDir, UpProcess) {
    let folder = tempfile::tempdir().unwrap();
    let mut env = vec![("CALLBOARD_LOG__FORMAT", "json"), ("CALLBOARD_LOG__FILTER", filter)];
    env.extend(to);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_go_to_a_collector_with_the_place_in_their_trace() {
    let collector = Collector::start().await.unwrap();
    // All that libraries say too: what is said while lines are sent is not sent in turn.
    let filter = "trace,callboard_backends=info";
    let to = [
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &*collector.endpoint()),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "100000"),
    ];
    let (_folder, node) = exporting(filter, &to).await;
    let (task, trace) = run(&node).await;
    lines_of(&node, &task).await;
    // What has not left comes when it ends.
    node.terminate().await;
    let lines = collector.lines();
    let of_task: Vec<_> = lines.iter().filter(|line| line.get("task.id") == task).collect();
    let line = |body: &str| of_task.iter().find(|line| line.body == body);
    for body in ["a task is admitted", "an attempt starts", "provider answered", "an attempt has ended"] {
        let line = line(body).unwrap_or_else(|| panic!("no `{body}` in {of_task:#?}"));
        assert_eq!((line.trace.as_str(), line.level.as_str()), (trace.as_str(), "DEBUG"), "{line:?}");
        assert!(line.span.len() == 16 && line.span != "0".repeat(16), "{line:?}");
        assert_eq!((line.get("service.name"), line.get("service.instance.id")), ("callboard", "one"));
    }
    assert_eq!(line("an attempt starts").unwrap().get("attempt"), "1");
    assert_eq!(line("an attempt starts").unwrap().get("kind"), "text.generate");
    // The last word of a node is among what leaves.
    assert!(lines.iter().any(|line| line.body == "stopped"));
    let targets: BTreeSet<&str> = lines.iter().map(|line| line.target.as_str()).collect();
    assert!(targets.contains("callboard_worker::run"), "{targets:?}");
    // A node is served by the same libraries that send its lines: they speak all the time at this level.
    let senders: Vec<_> = targets
        .iter()
        .filter(|t| ["h2", "hyper", "tonic", "tower"].iter().any(|s| t.starts_with(s)))
        .collect();
    assert!(senders.is_empty(), "{senders:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_for_everything_gets_no_lines_until_they_are_asked_for() {
    let collector = Collector::start().await.unwrap();
    let endpoint = collector.endpoint();
    let (_folder, node) = exporting("info", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    run(&node).await;
    node.terminate().await;
    assert!(collector.lines().is_empty() && !collector.spans().is_empty());
    let to = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_LOGS_EXPORTER", "otlp")];
    let (folder, node) = exporting("info", &to).await;
    node.terminate().await;
    assert!(!collector.lines().is_empty());
    let wrong = [("OTEL_LOGS_EXPORTER", "console")];
    let said = up_refused(&folder.path().join("other"), &[], &wrong).await;
    assert!(said.code != 0 && said.stderr.contains("OTEL_LOGS_EXPORTER: `console` is not there"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_of_lines_that_is_away_holds_nothing_up_and_is_told_of_once() {
    let away = Collector::start().await.unwrap().endpoint();
    let to = [
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &*away),
        ("OTEL_BLRP_SCHEDULE_DELAY", "10"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "64"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "8"),
    ];
    let (_folder, node) = exporting(ALL, &to).await;
    let tasks = submit_all(&node.client, (0..300).map(|_| request("echo", "{}")).collect()).await;
    for task in &tasks {
        assert_eq!(wait(&node.client, &task.id).await.state(), v1::TaskState::Succeeded);
    }
    let told = || {
        let lines = lines(&node);
        lines
            .iter()
            .filter(|line| line["message"].as_str().is_some_and(|said| said.contains("cannot be exported")))
            .count()
    };
    eventually("it is told", async || (told() > 0).then_some(())).await;
    let (last, _) = run(&node).await;
    lines_of(&node, &last).await;
    assert_eq!(told(), 1);
    // Within the deadline of a stop.
    assert!(node.terminate().await.success());
}
