//! A task that more than one node has to do with is one tree.

use crate::load::{DEADLINE, all_end, all_run, all_succeeded, eventually, request, sleep};
use crate::replica::{Cluster, Settings};
use crate::room;
use callboard_client::{Client, v1};
use callboard_testkit::Collector;
use callboard_testkit::collector::Span;

/// A replica that exports at once.
fn exporting(settings: Settings, collector: &Collector) -> Settings {
    settings.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()).env("OTEL_BSP_SCHEDULE_DELAY", "50")
}

/// By a call of its own: tasks of a batch have a trace of their own each.
async fn submit(client: &Client, request: v1::SubmitTaskRequest) -> String {
    client.submit(request).await.unwrap().task.id
}

async fn trace_of(client: &Client, id: &str) -> String {
    let traceparent = client.get(id, false).await.unwrap().traceparent;
    traceparent.split('-').nth(1).unwrap().to_owned()
}

/// The shape of a trace, once it has as many spans as were waited for.
async fn tree(collector: &Collector, trace: &str, spans: usize, line: impl Fn(&Span) -> String) -> String {
    eventually("the spans come", DEADLINE, async || (collector.trace(trace).len() >= spans).then_some(()))
        .await;
    collector.tree(trace, line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_after_a_kill_stands_in_the_tree_of_its_task() {
    let collector = Collector::start().await.unwrap();
    let settings = ["a", "b"].map(|name| exporting(Settings::new(name), &collector));
    let mut cluster = Cluster::start(room::shared().await, &settings).await;
    let ids = [submit(&cluster.replicas[0].client, sleep(1_500)).await];
    let victim = all_run(&cluster.client(), &ids).await.remove(0).node;
    let survivor = if victim == "a" { "b" } else { "a" };
    let client = cluster.replica(survivor).client.clone();
    let trace = trace_of(&client, &ids[0]).await;
    // The call is answered: what recorded it was the first replica, perhaps the one that dies.
    eventually("the call is recorded", DEADLINE, async || (collector.trace(&trace).len() == 2).then_some(()))
        .await;
    cluster.replica(&victim).kill9().await;
    all_succeeded(&all_end(&client, &ids, DEADLINE).await);
    let line = |span: &Span| match span.kind {
        "CONSUMER" => format!(
            "{} attempt {} on {}",
            span.name,
            span.get("callboard.attempt"),
            span.get("callboard.node")
        ),
        _ => span.name.clone(),
    };
    // The first attempt died with its node, and its span with it.
    let expected = format!(
        "callboard.v1.TaskService/SubmitTask\n  create default\n    process default attempt 2 on {survivor}\n      record\n"
    );
    assert_eq!(tree(&collector, &trace, 4, line).await, expected);
    // It is linked to the message it came in, which is in a trace of its own.
    let spans = collector.trace(&trace);
    let attempt = spans.iter().find(|span| span.kind == "CONSUMER").unwrap();
    let message = attempt.links.first().unwrap();
    let sent = eventually("the message is recorded", DEADLINE, async || collector.trace(message).pop()).await;
    assert!(sent.name.starts_with("send ") && sent.name.ends_with(".default.middle"), "{sent:?}");
    assert_eq!(sent.get("messaging.system"), "rabbitmq");
    assert_eq!(sent.get("messaging.batch.message_count"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_over_the_mesh_is_in_the_tree() {
    let collector = Collector::start().await.unwrap();
    let broker = exporting(Settings::new("broker").without_worker(), &collector);
    let worker = exporting(Settings::new("worker").roles(&["worker"]), &collector);
    let cluster = Cluster::start(room::shared().await, &[broker, worker]).await;
    let client = cluster.client();
    let ids = [submit(&client, request("text.generate", r#"{"prompt":"tea"}"#)).await];
    let task = all_end(&client, &ids, DEADLINE).await.remove(0);
    assert_eq!(task.state(), v1::TaskState::Succeeded, "{task:?}");
    let trace = trace_of(&client, &ids[0]).await;
    let line = |span: &Span| format!("{} {}", span.kind, span.name);
    let text = tree(&collector, &trace, 8, line).await;
    let expected = "\
SERVER callboard.v1.TaskService/SubmitTask
  PRODUCER create default
    CONSUMER process default
      CLIENT callboard.mesh.v1.ProviderBrokerService/Generate
        SERVER callboard.mesh.v1.ProviderBrokerService/Generate
          INTERNAL broker chat
            CLIENT chat offline-template-1
      INTERNAL record
";
    assert_eq!(text, expected);
    let spans = collector.trace(&trace);
    let instance = |name: &str| {
        spans.iter().find(|span| span.name.starts_with(name)).unwrap().get("service.instance.id")
    };
    assert_eq!((instance("process"), instance("broker chat")), ("worker", "broker"));
}
