//! gRPC and the endpoint on one port; what is counted and recorded of requests.

use super::{Bench, ask, ask_stream};
use crate::node::{DEADLINE, eventually};
use callboard_testkit::Collector;
use callboard_testkit::collector::Span;
use callboard_testkit::fake_provider::Fault;
use futures::StreamExt;
use tonic::transport::Channel;
use tower_service::Service as _;

#[tokio::test]
async fn grpc_goes_on_beside_it_and_takes_no_http1() {
    let bench = Bench::start().await;
    assert_eq!(bench.node.run("echo", "{}").await.attempt, 1);
    let origin = format!("http://{}", bench.node.running.public);
    // A page in a browser could send this.
    let submit = format!("{origin}/callboard.v1.TaskService/SubmitTask");
    let response =
        bench.http.post(submit).header("content-type", "text/plain").body("x").send().await.unwrap();
    assert_eq!(response.status(), 505);
    assert_eq!(bench.http.get(&origin).send().await.unwrap().status(), 505);
    assert_eq!(bench.node.counts().await.succeeded, 1, "no task came of it");
}

#[tokio::test]
async fn it_is_there_over_http2_too() {
    let bench = Bench::start().await;
    let origin = format!("http://{}", bench.node.running.public);
    let mut channel = Channel::from_shared(origin.clone()).unwrap().connect().await.unwrap();
    let mut send = async |body: serde_json::Value| {
        let body = tonic::body::Body::new(axum::body::Body::from(body.to_string()));
        let request = axum::http::Request::post(format!("{origin}/v1/chat/completions")).body(body).unwrap();
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        channel.call(request).await.unwrap()
    };
    let response = send(ask("gpt-x")).await;
    assert_eq!((response.status().as_u16(), response.version()), (200, axum::http::Version::HTTP_2));

    bench.fake.fault(Fault::StreamCut { after_chunks: 1 });
    let response = send(ask_stream("gpt-x")).await;
    let mut frames = axum::body::Body::new(response.into_body()).into_data_stream();
    let ended = loop {
        match frames.next().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    let broken = ended.is_some();
    assert!(broken, "a stream that breaks is reset");
}

#[tokio::test]
async fn without_it_the_port_is_that_of_grpc_alone() {
    let bench = Bench::with(|builder| builder.config(|config| config.openai.enabled = false)).await;
    assert!(bench.http.get(bench.url("models")).send().await.is_err(), "HTTP/1.1 is not spoken");
    assert_eq!(bench.node.run("echo", "{}").await.attempt, 1);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_how_they_ended() {
    let bench = Bench::start().await;
    bench.chat(&ask("m")).await;
    bench.chat(&serde_json::json!({})).await;
    bench.get("made/up").await;
    bench.fake.fault(Fault::StreamCut { after_chunks: 1 });
    let _ = bench.chat(&ask_stream("m")).await.text().await;
    bench.fake.fault(Fault::StreamStall { after_chunks: 1 });
    drop(bench.chat(&ask_stream("m")).await);
    let requests = |route: &str, status: &str, count: u32| {
        format!("callboard_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}\n")
    };
    let chat = "/v1/chat/completions";
    let expected = [
        requests(chat, "200", 1),
        requests(chat, "400", 1),
        requests(chat, "broken", 1),
        requests(chat, "cancelled", 1),
        requests("other", "404", 1),
        format!("callboard_http_open{{route=\"{chat}\"}} 0\n"),
        format!("callboard_http_duration_seconds_count{{route=\"{chat}\"}} 4\n"),
    ];
    let url = format!("http://{}/metrics", bench.node.running.admin.unwrap());
    eventually("all are counted", async || {
        let page = bench.http.get(&url).send().await.unwrap().text().await.unwrap();
        expected.iter().all(|line| page.contains(line)).then_some(())
    })
    .await;
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_on_in_the_trace_of_its_caller() {
    let collector = Collector::start().await.unwrap();
    let endpoint = collector.endpoint();
    let bench = Bench::with(|builder| {
        let env = move |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.clone());
        builder.env(env).config(|config| {
            let hash = callboard::config::KeyHash::of("cb-geheim");
            let key = callboard::config::Key {
                name: "team".into(),
                hash,
                namespace: "lab".into(),
                role: callboard::config::KeyRole::Caller,
            };
            config.openai.keys = vec![key];
        })
    })
    .await;
    for body in [ask("gpt-x"), ask_stream("gpt-x")] {
        let request = bench.post("chat/completions", &body).header("traceparent", PARENT);
        let response = request.bearer_auth("cb-geheim").send().await.unwrap();
        assert!(response.text().await.unwrap().contains("hello"));
    }
    bench.fake.wait(|counts| counts.in_flight == 0, DEADLINE).await.unwrap();
    bench.node.stop().await;
    let one = "  POST /v1/chat/completions\n    broker chat\n      chat gpt-x\n";
    let trace = &PARENT[3..35];
    assert_eq!(collector.tree(trace, |span: &Span| span.name.clone()), format!("?\n{one}?\n{one}"));
    let spans = collector.trace(trace);
    let server = spans.iter().find(|span| span.kind == "SERVER").unwrap();
    assert_eq!(server.parent, PARENT[36..52]);
    assert_eq!((server.get("http.response.status_code"), server.get("callboard.key.name")), ("200", "team"));
    assert_eq!(server.get("callboard.namespace"), "lab");
    let told = format!("{spans:?}");
    assert!(!told.contains("geheim") && !told.contains("hello you"), "{told}");
}
