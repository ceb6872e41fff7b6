use super::{
    Row, Way, call, fail, fail_midway, one, provider, raw, row, stall, streamed_anywhere, whole_anywhere,
};
use crate::support::{KEY, broker, hello, picture};
use callboard_domain::llm::{ErrorKind, TextRequest, Usage};
use callboard_provider_broker::config::{Adapter, ProviderConfig};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::{Endpoint, Fault};

const ADAPTER: Adapter = Adapter::Ollama;

#[tokio::test]
async fn texts_and_streams_come_with_exact_usage() {
    let (fake, broker) = one(ADAPTER).await;
    for way in [Way::Whole, Way::Stream] {
        let (text, summary) = call(&broker, way).await.unwrap();
        assert_eq!(text, "fake: hello you", "{way:?}");
        assert_eq!((summary.model.as_str(), summary.finish_reason.as_str()), ("fake-text", "stop"));
        assert_eq!(summary.usage, Usage::of(2, 3), "{way:?}");
    }
    let sent = &fake.requests()[0];
    assert_eq!((sent.endpoint, sent.path.as_str()), (Endpoint::OllamaChat, "/api/chat"));
    assert_eq!(sent.headers["authorization"], format!("Bearer {KEY}"));
}

#[tokio::test]
async fn everything_a_call_may_ask_for_is_taken() {
    let (fake, broker) = one(ADAPTER).await;
    let request = TextRequest {
        json: true,
        max_tokens: Some(9),
        temperature: Some(1.5),
        idempotency_key: Some("0199/text".into()),
        model: Some("other".into()),
        ..hello().system("be brief, in JSON")
    };
    let answer = broker.text(&request).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.summary.model.as_str()), (r#"{"fake":"hello you"}"#, "other"));
    assert_eq!(fake.requests()[0].body["options"]["num_predict"], 9);
    assert_eq!(broker.image(&picture()).await.unwrap_err().kind, ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn without_a_key_and_a_model_it_takes_the_first_that_is_there() {
    let fake = FakeProvider::builder().models(["nomic-embed-text", "llama3.2:latest"]).start().await.unwrap();
    let local = ProviderConfig { api_key_env: None, text_model: None, ..provider("local", ADAPTER, &fake) };
    let broker = broker(vec![local]);
    fake.fault(Fault::ServerFault { status: 500 });
    assert_eq!(broker.text(&hello()).await.unwrap_err().kind, ErrorKind::ServerFault);
    fake.heal();
    for _ in 0..2 {
        assert_eq!(broker.text(&hello()).await.unwrap().summary.model, "llama3.2:latest");
    }
    let asked: Vec<_> = fake.requests().iter().map(|r| r.endpoint).collect();
    // A list that was not had is asked for again, one that was is kept.
    let (tags, chat) = (Endpoint::OllamaTags, Endpoint::OllamaChat);
    assert_eq!(asked, [tags, tags, chat, chat]);
    assert!(fake.requests().iter().all(|sent| !sent.headers.contains_key("authorization")));
    assert_eq!(broker.providers()[0].description.text_model, "llama3.2:latest");
}

/// What fails before an answer begins.
fn rows() -> Vec<Row> {
    use ErrorKind::*;
    let status = |status| Fault::ServerFault { status };
    let failed = "llama runner process has terminated: signal: killed";
    vec![
        row(Fault::RateLimit { retry_after: None }, RateLimited, "429: too many requests"),
        row(Fault::RateLimit { retry_after: Some(7) }, RateLimited, "429: ").wait(7),
        row(Fault::Overloaded, Overloaded, "503: server busy, please try again.  maximum pending requests"),
        row(Fault::BadKey, Authentication, "401: unauthorized: ***"),
        row(Fault::NoSuchModel, ModelNotFound, "404: model 'm' not found"),
        row(status(500), ServerFault, failed),
        row(status(502), ServerFault, failed),
        row(Fault::MalformedJson, MalformedAnswer, "the answer is none of a chat"),
        row(Fault::ConnectionReset { after_bytes: 0 }, Connection, "bad: "),
        row(raw(200, "text/html", "<html>welcome</html>"), MalformedAnswer, "bad: "),
        row(raw(200, "application/json", format!(r#"{{"error":"{failed}"}}"#)), ServerFault, failed),
    ]
}

#[tokio::test]
async fn each_fault_has_its_kind_and_its_way_on() {
    let mut whole = rows();
    whole.push(row(Fault::EmptyChoices, ErrorKind::MalformedAnswer, "the answer has no message"));
    whole.extend(whole_anywhere());
    fail(ADAPTER, Way::Whole, whole).await;
    let mut streamed = rows();
    streamed.push(row(Fault::StreamErrorMid { after_chunks: 0 }, ErrorKind::ServerFault, "llama runner"));
    streamed.extend(streamed_anywhere("application/x-ndjson"));
    fail(ADAPTER, Way::Stream, streamed).await;
}

#[tokio::test]
async fn a_stream_that_breaks_says_so() {
    let rows = vec![
        (
            Fault::StreamErrorMid { after_chunks: 2 },
            ErrorKind::ServerFault,
            "fake: hello ",
            "bad: after 12 bytes of text: llama runner process has terminated",
        ),
        (
            raw(
                200,
                "application/x-ndjson",
                format!(
                    "{{\"message\":{{\"content\":\"hi\"}},\"done\":false}}\n{{\"error\":\"sent {KEY}\"}}\n"
                ),
            ),
            ErrorKind::ServerFault,
            "hi",
            "sent ***",
        ),
    ];
    fail_midway(ADAPTER, rows).await;
    stall(ADAPTER).await;
}
