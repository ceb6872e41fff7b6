use super::{Row, Way, call, fail, fail_midway, one, raw, row, stall, streamed_anywhere, whole_anywhere};
use crate::support::{KEY, hello, picture};
use callboard_domain::llm::{ErrorKind, TextRequest, Usage};
use callboard_provider_broker::config::Adapter;
use callboard_testkit::fake_provider::{Endpoint, Fault};

const ADAPTER: Adapter = Adapter::Anthropic;

#[tokio::test]
async fn texts_and_streams_come_with_exact_usage() {
    let (fake, broker) = one(ADAPTER).await;
    for way in [Way::Whole, Way::Stream] {
        let (text, summary) = call(&broker, way).await.unwrap();
        assert_eq!(text, "fake: hello you", "{way:?}");
        assert_eq!((summary.model.as_str(), summary.finish_reason.as_str()), ("fake-text", "stop"));
        // A part of the input is cached, and the output of a stream is counted twice on the way.
        assert_eq!(summary.usage, Usage { cached_input_tokens: 1, ..Usage::of(2, 3) }, "{way:?}");
    }
    let sent = &fake.requests()[0];
    assert_eq!((sent.endpoint, sent.path.as_str()), (Endpoint::Messages, "/v1/messages"));
    assert_eq!((sent.headers["x-api-key"].as_str(), sent.headers.get("authorization")), (KEY, None));
    assert_eq!(sent.headers["anthropic-version"], "2023-06-01");
    assert_eq!(sent.body["max_tokens"], 4096);
}

#[tokio::test]
async fn everything_a_call_may_ask_for_is_taken() {
    let (fake, broker) = one(ADAPTER).await;
    let request = TextRequest {
        json: true,
        max_tokens: Some(9),
        temperature: Some(1.7),
        idempotency_key: Some("0199/text".into()),
        model: Some("other".into()),
        ..hello().system("be brief")
    };
    let answer = broker.text(&request).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.summary.model.as_str()), (r#"{"fake":"hello you"}"#, "other"));
    assert!(!fake.requests()[0].headers.contains_key("idempotency-key"));
    assert_eq!(broker.image(&picture()).await.unwrap_err().kind, ErrorKind::InvalidRequest);
}

/// What fails before an answer begins.
fn rows() -> Vec<Row> {
    use ErrorKind::*;
    let status = |status| Fault::ServerFault { status };
    vec![
        row(Fault::Quota, QuotaExceeded, "402: There is an issue with your billing"),
        row(
            Fault::SpendLimit,
            QuotaExceeded,
            "400: You have reached your specified API usage limits. You will",
        ),
        row(Fault::TierCap, QuotaExceeded, "monthly usage limit. (enforced_spend_limit_reached)"),
        row(Fault::RateLimit { retry_after: None }, RateLimited, "429: This request would exceed"),
        row(Fault::RateLimit { retry_after: Some(7) }, RateLimited, "(rate_limit_error)").wait(7),
        row(Fault::RateLimit { retry_after: Some(90_000) }, RateLimited, "429: ").wait(60),
        row(Fault::Overloaded, Overloaded, "529: Overloaded (overloaded_error)"),
        row(Fault::BadKey, Authentication, "401: invalid x-api-key: *** (authentication_error)"),
        row(status(403), Authentication, "(permission_error)"),
        row(Fault::ContextTooLong, ContextTooLong, "400: prompt is too long: 200001 tokens").for_good(),
        row(status(413), InvalidRequest, "(request_too_large)").for_good(),
        row(Fault::NoSuchModel, ModelNotFound, "404: model: no-such-model (not_found_error)"),
        row(Fault::ContentFilter, ContentFiltered, "400: Output blocked by content filtering policy"),
        row(status(500), ServerFault, "(api_error)"),
        row(status(502), ServerFault, "502: "),
        row(status(504), Timeout, "(timeout_error)"),
        row(Fault::MalformedJson, MalformedAnswer, "the answer is no message"),
        row(Fault::ConnectionReset { after_bytes: 0 }, Connection, "bad: "),
        row(raw(200, "text/html", "<html>welcome</html>"), MalformedAnswer, "bad: "),
        row(
            raw(
                200,
                "application/json",
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            ),
            Overloaded,
            "bad: Overloaded (overloaded_error)",
        ),
    ]
}

#[tokio::test]
async fn each_fault_has_its_kind_and_its_way_on() {
    let mut whole = rows();
    whole.push(row(Fault::ContentFilterFinish, ErrorKind::ContentFiltered, "the model refused to answer"));
    whole.push(row(Fault::EmptyChoices, ErrorKind::MalformedAnswer, "stopped (stop) without a text"));
    whole.extend(whole_anywhere());
    fail(ADAPTER, Way::Whole, whole).await;
    let mut streamed = rows();
    streamed.push(row(Fault::StreamErrorMid { after_chunks: 0 }, ErrorKind::Overloaded, "Overloaded"));
    streamed.extend(streamed_anywhere("text/event-stream"));
    fail(ADAPTER, Way::Stream, streamed).await;
}

#[tokio::test]
async fn a_stream_that_breaks_says_so() {
    let rows = vec![
        (
            Fault::StreamErrorMid { after_chunks: 2 },
            ErrorKind::Overloaded,
            "fake: hello ",
            "bad: after 12 bytes of text: Overloaded (overloaded_error)",
        ),
        (Fault::ContentFilterFinish, ErrorKind::ContentFiltered, "fake: hello you", "refused to answer"),
        (
            raw(
                200,
                "text/event-stream",
                format!(
                    "data: {{\"type\":\"content_block_delta\",\"delta\":{{\"type\":\"text_delta\",\"text\":\"hi\"}}}}\n\n\
                     event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"api_error\",\"message\":\"sent {KEY}\"}}}}\n\n"
                ),
            ),
            ErrorKind::ServerFault,
            "hi",
            "sent *** (api_error)",
        ),
    ];
    fail_midway(ADAPTER, rows).await;
    stall(ADAPTER).await;
}
