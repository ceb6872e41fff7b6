//! The page `/metrics` of a node by itself.

use crate::node::{DEADLINE, InProcess, eventually, request};
use callboard::node::{METRICS, MetricOn};
use callboard_client::v1;
use callboard_testkit::Collector;
use futures::StreamExt;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use std::collections::HashMap;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn page(node: &InProcess) -> String {
    get(node.running.admin.unwrap()).await
}

async fn get(admin: SocketAddr) -> String {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 ") && head.contains("text/plain; version=0.0.4"), "{head}");
    page.to_owned()
}

/// Each sample with its labels.
pub(crate) async fn samples(node: &InProcess) -> HashMap<String, f64> {
    let page = page(node).await;
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let samples: Vec<_> = lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        })
        .collect();
    let map: HashMap<_, _> = samples.iter().cloned().collect();
    assert_eq!(map.len(), samples.len(), "each sample once");
    map
}

fn rpc(method: &str, code: &str) -> String {
    format!(
        "callboard_rpc_requests_total{{service=\"callboard.v1.TaskService\",method=\"{method}\",code=\"{code}\"}}"
    )
}

#[tokio::test]
async fn every_metric_of_a_node_by_itself_is_on_its_page_once() {
    let node = InProcess::start().await;
    let page = page(&node).await;
    let families: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let here = METRICS.iter().filter(|metric| metric.on == MetricOn::Every);
    let expected: Vec<_> =
        here.map(|metric| format!("# TYPE {} {}", metric.name, metric.kind.name())).collect();
    assert_eq!(families, expected);
    // Each of them has a value on a node that does nothing, but for what there is nothing of.
    for metric in METRICS.iter().filter(|metric| metric.on == MetricOn::Every) {
        let has_value = page.lines().any(|line| {
            let rest = line.strip_prefix(metric.name).unwrap_or_default();
            rest.starts_with([' ', '{']) || rest.starts_with("_count")
        });
        // No task waits; no price, quota, budget, limit or experiment is configured.
        let may_be_empty =
            ["queue_", "provider_cost_", "provider_quota_", "budget_", "experiment_", "limit_"]
                .iter()
                .any(|of| metric.name.strip_prefix("callboard_").is_some_and(|name| name.starts_with(of)));
        // Nor was a model called.
        let may_be_empty = may_be_empty || metric.name.starts_with("gen_ai_");
        assert!(has_value || may_be_empty, "{} has no value in\n{page}", metric.name);
    }
}

#[tokio::test]
async fn what_a_task_does_is_counted() {
    let node = InProcess::start().await;
    for _ in 0..3 {
        node.run("echo", "{}").await;
    }
    let samples = samples(&node).await;
    for (event, count) in [("submitted", 3.0), ("claimed", 3.0), ("succeeded", 3.0), ("attempt_failed", 0.0)]
    {
        assert_eq!(samples[&format!("callboard_task_events_total{{event=\"{event}\"}}")], count, "{event}");
    }
    assert_eq!(samples["callboard_attempts_total{kind=\"echo\",outcome=\"succeeded\"}"], 3.0);
    assert_eq!(samples["callboard_attempts_total{kind=\"echo\",outcome=\"failed\"}"], 0.0);
    assert_eq!(samples["callboard_attempt_duration_seconds_count{kind=\"echo\"}"], 3.0);
    assert_eq!(samples["callboard_handoff_lag_seconds_count"], 3.0);
    let lag = samples["callboard_handoff_lag_seconds_sum"];
    assert!(lag > 0.0 && lag < DEADLINE.as_secs_f64(), "{lag} s");
    // Three tasks are admitted, claimed and finished: nine rows at the least.
    assert!(samples["callboard_store_batch_rows_sum{writes=\"all\"}"] >= 9.0);
    assert!(samples["callboard_store_batch_duration_seconds_sum{writes=\"all\"}"] > 0.0);
    assert_eq!(samples["callboard_tasks{state=\"succeeded\"}"], 3.0);
    assert_eq!(samples["callboard_session_held"], 1.0);
    let age = samples["callboard_session_age_seconds"];
    assert!(age > 0.0 && age < 60.0, "{age} s");
    assert!(samples["process_cpu_seconds_total"] > 0.0);
    assert!(samples["process_resident_memory_bytes"] > 1e6);
    assert!(samples["process_start_time_seconds"] > 1.6e9);
}

#[tokio::test]
async fn rpcs_are_counted_by_method_and_code_and_streams_while_they_are_open() {
    let node = InProcess::start().await;
    let task = node.submit("echo", "{}").await;
    node.wait(&task.id).await;
    let absent = uuid::Uuid::now_v7().to_string();
    assert!(node.client.get(&absent, false).await.is_err());
    let before = samples(&node).await;
    assert_eq!(before[&rpc("SubmitTask", "OK")], 1.0);
    assert_eq!(before[&rpc("GetTask", "NOT_FOUND")], 1.0);
    let of = "service=\"callboard.v1.TaskService\",method=\"SubmitTask\"";
    assert_eq!(before[&format!("callboard_rpc_duration_seconds_count{{{of}}}")], 1.0);
    assert!(before[&format!("callboard_rpc_duration_seconds_sum{{{of}}}")] > 0.0);

    let open = "callboard_rpc_open{service=\"callboard.v1.TaskService\",method=\"WatchTask\"}";
    let watched = request("echo", "{}");
    let watched =
        v1::SubmitTaskRequest { delay: Some(prost_types::Duration { seconds: 600, nanos: 0 }), ..watched };
    let watched = node.client.submit(watched).await.unwrap().task;
    let mut watch = Box::pin(node.client.watch(&watched.id, None));
    watch.next().await.unwrap().unwrap();
    let cancelled = |samples: &HashMap<String, f64>| samples.get(&rpc("WatchTask", "CANCELLED")).copied();
    let (now, was) = (samples(&node).await, cancelled(&before));
    assert_eq!(now[open], before[open] + 1.0, "the watch goes on");
    assert_eq!(cancelled(&now), was);
    drop(watch);
    // Nobody tells the server but the connection.
    eventually("the watch that was dropped is over", async || {
        let now = samples(&node).await;
        (now[open] == before[open] && cancelled(&now).unwrap_or(0.0) == was.unwrap_or(0.0) + 1.0)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_waits_is_shown_by_queue_with_its_age() {
    // It takes from a queue that nothing is in.
    let node =
        InProcess::builder().config(|config| config.worker.queues = vec!["elsewhere".into()]).start().await;
    let waits = v1::SubmitTaskRequest { priority: Some(9), ..request("echo", "{}") };
    let queue = node.client.submit(waits).await.unwrap().task.queue;
    let samples = samples(&node).await;
    let of = |band| format!("callboard_queue_tasks{{queue=\"{queue}\",band=\"{band}\"}}");
    assert_eq!(["low", "middle", "high"].map(|band| samples[&of(band)]), [0.0, 0.0, 1.0]);
    let age = samples[&format!("callboard_queue_oldest_seconds{{queue=\"{queue}\"}}")];
    assert!((0.0..60.0).contains(&age), "{age} s");
}

/// A metric of the newest export, and how many exports came.
fn exported(collector: &Collector, name: &str) -> (usize, Option<metrics::Metric>) {
    let exports = collector.exports();
    let all = exports.last().into_iter().flat_map(|export| &export.resource_metrics);
    let mut metrics = all.flat_map(|of| &of.scope_metrics).flat_map(|scope| &scope.metrics);
    (exports.len(), metrics.find(|metric| metric.name == name).cloned())
}

#[tokio::test]
async fn the_same_values_go_to_a_collector_and_the_last_when_the_node_stops() {
    let collector = Collector::start().await.unwrap();
    let endpoint = collector.endpoint();
    let node = InProcess::builder().env(move |name| match name {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_METRIC_EXPORT_INTERVAL" => Some("50".into()),
        _ => None,
    });
    let node = node.start().await;
    node.run("echo", "{}").await;
    // More than one comes, so it is sent again and again.
    eventually("a third export", async || (exported(&collector, "").0 >= 3).then_some(())).await;
    node.run("echo", "{}").await;
    node.stop().await;

    let (_, submitted) = exported(&collector, "callboard_task_events_total");
    let Some(Data::Sum(sum)) = submitted.unwrap().data else { panic!("a counter is a sum") };
    assert!(sum.is_monotonic && sum.aggregation_temporality() == metrics::AggregationTemporality::Cumulative);
    let point =
        sum.data_points.iter().find(|p| format!("{:?}", p.attributes).contains("\"submitted\"")).unwrap();
    assert_eq!(point.value, Some(metrics::number_data_point::Value::AsInt(2)));
    assert!(point.start_time_unix_nano > 0 && point.time_unix_nano > point.start_time_unix_nano);
    let (_, lag) = exported(&collector, "callboard_handoff_lag_seconds");
    let lag = lag.unwrap();
    assert_eq!(lag.unit, "s");
    let Some(Data::Histogram(histogram)) = lag.data else { panic!("a histogram stays one") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.bucket_counts.iter().sum()), (2, 2u64));
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.explicit_bounds[0], 0.001, "in seconds");
    let export = collector.exports().pop().unwrap();
    let resource = format!("{:?}", export.resource_metrics[0].resource);
    assert!(resource.contains("service.name") && resource.contains("service.instance.id"), "{resource}");
}

/// The attributes of a point, those that are texts.
fn attributes(of: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> HashMap<&str, &str> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    of.iter()
        .filter_map(|attribute| match attribute.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some((attribute.key.as_str(), text.as_str())),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn calls_to_models_are_measured_by_the_names_of_the_conventions() {
    let collector = Collector::start().await.unwrap();
    let endpoint = collector.endpoint();
    let fake = callboard_testkit::FakeProvider::start().await.unwrap();
    let url = fake.base_url().to_owned();
    let node = InProcess::builder()
        .env(move |name| match name {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" => Some(endpoint.clone()),
            "OTEL_METRIC_EXPORT_INTERVAL" => Some("50".into()),
            _ => None,
        })
        .config(move |config| {
            let mut main = callboard_provider_broker::config::ProviderConfig::openai("main", url);
            main.text_model = Some("fake-text".into());
            config.broker.providers = vec![main];
            config.broker.retry.max = 0;
        });
    let node = node.start().await;
    let message =
        v1::ChatMessage { role: v1::ChatRole::User.into(), content: "tea".into(), ..Default::default() };
    let ask = || v1::GenerateRequest { messages: vec![message.clone()], ..Default::default() };
    node.client.generate(ask()).await.unwrap();
    let stream = node.client.generate_stream(ask()).await.unwrap();
    assert!(stream.collect::<Vec<_>>().await.iter().all(Result::is_ok));
    fake.fault(callboard_testkit::fake_provider::Fault::ServerFault { status: 500 });
    node.client.generate(ask()).await.unwrap_err();
    let page = samples(&node).await;
    let of =
        "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"openai\",gen_ai_request_model=\"fake-text\"";
    let count =
        |name: &str, rest: &str| page[&format!("gen_ai_client_{name}_count{{{of},{rest}provider=\"main\"}}")];
    assert_eq!(count("operation_duration_seconds", "error_type=\"\","), 2.0);
    assert_eq!(count("operation_duration_seconds", "error_type=\"PROVIDER_SERVER_FAULT\","), 1.0);
    assert_eq!(count("operation_time_to_first_chunk_seconds", ""), 1.0);
    assert_eq!(count("token_usage", "gen_ai_token_type=\"input\","), 2.0);
    node.stop().await;

    let (_, duration) = exported(&collector, "gen_ai.client.operation.duration");
    let duration = duration.unwrap();
    assert_eq!(duration.unit, "s");
    let Some(Data::Histogram(histogram)) = &duration.data else { panic!("a histogram") };
    let points: Vec<_> = histogram.data_points.iter().map(|point| attributes(&point.attributes)).collect();
    let both = [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "fake-text"),
        ("callboard.provider", "main"),
    ];
    let failed = both.into_iter().chain([("error.type", "PROVIDER_SERVER_FAULT")]).collect();
    assert_eq!(points, [both.into_iter().collect(), failed], "no error, no type of one");
    assert_eq!(histogram.data_points[0].explicit_bounds[..2], [0.01, 0.02]);
    let (_, tokens) = exported(&collector, "gen_ai.client.token.usage");
    assert_eq!(tokens.unwrap().unit, "{token}");
    assert!(exported(&collector, "gen_ai.client.operation.time_to_first_chunk").1.is_some());
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    // Nobody listens there any more.
    let gone = Collector::start().await.unwrap().endpoint();
    let node = InProcess::builder().env(move |name| match name {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" => Some(gone.clone()),
        "OTEL_METRIC_EXPORT_INTERVAL" => Some("1".into()),
        _ => None,
    });
    let node = node.start().await;
    node.run("echo", "{}").await;
    let began = std::time::Instant::now();
    node.stop().await;
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}
