//! The trace a task belongs to.

use crate::node::{Builder, InProcess, callboard, eventually, request, scripted, submit_all, up_refused};
use callboard_client::v1;
use callboard_domain::TraceContext;
use callboard_provider_broker::config::ProviderConfig;
use callboard_sdk::Failure;
use callboard_testkit::Collector;
use callboard_testkit::collector::Span;
use callboard_testkit::fake_provider::{Endpoint, FakeProvider, Fault, Rule};
use futures::FutureExt;
use std::collections::HashSet;
use std::time::Duration;

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
    let said = callboard(&["get", &task.id, "--jaeger", "http://jaeger:16686/"], &env).await;
    let link = format!("\nhttp://jaeger:16686/trace/{}\n", trace_of(&task));
    assert!(said.stdout.contains(&task.traceparent) && said.stdout.ends_with(&link), "{said:?}");
    node.stop().await;
}

/// A node that exports to a collector. What it exported last comes when it stops.
fn exporting(collector: &Collector, env: &'static [(&'static str, &'static str)]) -> Builder {
    let endpoint = collector.endpoint();
    InProcess::builder().env(move |name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        name => env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
    })
}

fn trace_of(task: &v1::Task) -> String {
    format!("{:032x}", task.traceparent.parse::<TraceContext>().unwrap().trace_id())
}

fn name(span: &Span) -> String {
    span.name.clone()
}

/// Waits until a task is recorded as ended in its trace too.
async fn stopped(node: InProcess) {
    // Its runner may be about to end its span.
    let ended = async || (node.counts().await.running == 0).then_some(());
    eventually("nothing runs", ended).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_one_tree_from_the_call_to_its_end() {
    let collector = Collector::start().await.unwrap();
    let node = exporting(&collector, &[]).start().await;
    let task = node.run("echo", "{}").await;
    stopped(node).await;
    let tree = collector.tree(&trace_of(&task), |span| format!("{} {}", span.kind, span.name));
    let expected = "\
SERVER callboard.v1.TaskService/SubmitTask
  PRODUCER create default
    CONSUMER process default
      INTERNAL record
";
    assert_eq!(tree, expected);
    let spans = collector.trace(&trace_of(&task));
    assert!(spans.iter().all(|span| span.get("service.name") == "callboard"), "{spans:#?}");
    assert!(spans.iter().all(|span| span.ended >= span.began && span.error.is_none()), "{spans:#?}");
    let process = spans.iter().find(|span| span.kind == "CONSUMER").unwrap();
    assert_eq!(process.get("messaging.message.id"), task.id);
    assert_eq!(process.get("callboard.task.kind"), "echo");
    assert_eq!(process.get("callboard.attempt"), "1");
    assert_eq!(process.get("callboard.outcome"), "succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_on_in_the_trace_of_its_caller() {
    let collector = Collector::start().await.unwrap();
    // Nothing that begins here is sampled: the caller decides.
    let env = &[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")];
    let fails = scripted("fails", |_, _| async { Err(Failure::permanent("why")) }.boxed());
    let node = exporting(&collector, env).kinds(|kinds| kinds.with_handler(fails).unwrap()).start().await;
    let named = submit(&node, PARENT).await;
    node.wait(&named.id).await;
    let own = node.run("echo", "{}").await;
    let unsampled = submit(&node, &PARENT.replace("-01", "-00").replace("0af7", "0af8")).await;
    node.wait(&unsampled.id).await;
    let failed = node.run("fails", "{}").await;
    assert_eq!(failed.state(), v1::TaskState::Failed, "{failed:?}");
    stopped(node).await;
    // The call itself is in another trace: the request named the task's alone.
    let tree = collector.tree(&trace_of(&named), name);
    assert_eq!(tree, "?\n  create default\n    process default\n      record\n");
    assert_eq!(collector.trace(&trace_of(&named))[0].parent, PARENT[36..52]);
    assert_eq!(collector.trace(&trace_of(&own)), []);
    assert_eq!(collector.trace(&trace_of(&unsampled)), []);
    // What fails is kept all the same.
    let kept = collector.trace(&trace_of(&failed));
    let kept: Vec<_> = kept.iter().map(|span| (span.kind, span.error.as_deref())).collect();
    assert_eq!(kept, [("CONSUMER", Some("why"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_batch_have_a_trace_each_that_is_linked_to_the_call() {
    let collector = Collector::start().await.unwrap();
    let node = exporting(&collector, &[]).start().await;
    let tasks = submit_all(&node.client, (0..3).map(|_| request("echo", "{}")).collect()).await;
    for task in &tasks {
        node.wait(&task.id).await;
    }
    stopped(node).await;
    let spans = collector.spans();
    let call = spans.iter().find(|span| span.name.ends_with("/BatchSubmitTasks")).unwrap();
    let traces: HashSet<_> = tasks.iter().map(trace_of).collect();
    assert_eq!(traces.len(), 3);
    for trace in traces {
        assert_eq!(collector.tree(&trace, name), "create default\n  process default\n    record\n");
        assert_eq!(collector.trace(&trace)[0].links, [call.trace.as_str()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_and_the_next_one_are_in_the_tree() {
    let (collector, fake) =
        (Collector::start().await.unwrap(), FakeProvider::builder().start().await.unwrap());
    let provider = |name: &str, model: &str| ProviderConfig {
        text_model: Some(model.into()),
        ..ProviderConfig::openai(name, fake.base_url())
    };
    let providers = vec![provider("first", "m-1"), provider("second", "m-2")];
    let node = exporting(&collector, &[]).config(|config| config.broker.providers = providers).start().await;
    fake.rules([Rule::times(Fault::ServerFault { status: 500 }, 1).at(Endpoint::Chat)]);
    let task = node.run("text.generate", r#"{"prompt":"a haiku about tea"}"#).await;
    assert_eq!(task.state(), v1::TaskState::Succeeded, "{task:?}");
    stopped(node).await;
    let line = |span: &Span| format!("{}{}", span.name, if span.error.is_some() { " FAILED" } else { "" });
    let expected = "\
callboard.v1.TaskService/SubmitTask
  create default
    process default
      callboard.mesh.v1.ProviderBrokerService/Generate
        broker chat
          chat m-1 FAILED
          chat m-2
      record
";
    assert_eq!(collector.tree(&trace_of(&task), line), expected);
    let spans = collector.trace(&trace_of(&task));
    let call = |model: &str| spans.iter().find(|span| span.get("gen_ai.request.model") == model).unwrap();
    assert_eq!(call("m-1").get("error.type"), "PROVIDER_SERVER_FAULT");
    assert_eq!(call("m-2").get("gen_ai.provider.name"), "openai");
    assert_eq!(call("m-2").get("callboard.provider"), "second");
    assert_ne!(call("m-2").get("gen_ai.usage.output_tokens"), "");
    let told = format!("{spans:?}");
    assert!(!told.contains("a haiku about tea"), "what is asked stays out of traces: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_holds_nothing_up() {
    let away = Collector::start().await.unwrap();
    let node = exporting(&away, &[]).start().await;
    drop(away);
    let tasks = submit_all(&node.client, (0..1_000).map(|_| request("echo", "{}")).collect()).await;
    for task in &tasks {
        assert_eq!(node.wait(&task.id).await.state(), v1::TaskState::Succeeded);
    }
    tokio::time::timeout(Duration::from_secs(10), node.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn telemetry_that_cannot_be_had_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let refused = async |name, value| {
        let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), (name, value)];
        let said = up_refused(folder.path(), &[], &env).await;
        assert_ne!(said.code, 0, "{said:?}");
        said.stderr
    };
    let said = refused("OTEL_TRACES_SAMPLER", "jaeger_remote").await;
    assert!(said.contains("OTEL_TRACES_SAMPLER") && said.contains("parentbased_traceidratio"), "{said}");
    let said = refused("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json").await;
    assert!(said.contains("grpc"), "{said}");
    let said = refused("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere at all").await;
    assert!(said.contains("nowhere at all"), "{said}");
}
