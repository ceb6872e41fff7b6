use super::{Row, Way, call, fail, fail_midway, one, raw, row, stall, streamed_anywhere, whole_anywhere};
use crate::support::{KEY, hello};
use callboard_domain::llm::{ErrorKind, Message, Role, TextRequest, Usage};
use callboard_provider_broker::config::Adapter;
use callboard_testkit::fake_provider::{Endpoint, Fault};
use serde_json::json;

const ADAPTER: Adapter = Adapter::Gemini;

#[tokio::test]
async fn texts_and_streams_come_with_exact_usage() {
    let (fake, broker) = one(ADAPTER).await;
    for way in [Way::Whole, Way::Stream] {
        let (text, summary) = call(&broker, way).await.unwrap();
        assert_eq!(text, "fake: hello you", "{way:?}");
        assert_eq!((summary.model.as_str(), summary.finish_reason.as_str()), ("fake-text", "stop"));
        // A part of the input is cached, a part of the output thought, and each piece counts again.
        assert_eq!(summary.usage, Usage { cached_input_tokens: 1, ..Usage::of(2, 3) }, "{way:?}");
    }
    let paths: Vec<_> = fake.requests().iter().map(|sent| sent.path.clone()).collect();
    let expected = [
        "/v1beta/models/fake-text:generateContent",
        "/v1beta/models/fake-text:streamGenerateContent?alt=sse",
    ];
    assert_eq!(paths, expected);
    let sent = &fake.requests()[0];
    assert_eq!(sent.endpoint, Endpoint::GenerateContent);
    assert_eq!((sent.headers["x-goog-api-key"].as_str(), sent.headers.get("authorization")), (KEY, None));
    assert!(!sent.path.contains(KEY));
}

#[tokio::test]
async fn everything_a_call_may_ask_for_is_taken() {
    let (fake, broker) = one(ADAPTER).await;
    let mut request = TextRequest {
        json: true,
        max_tokens: Some(9),
        temperature: Some(1.5),
        idempotency_key: Some("0199/text".into()),
        model: Some("models/other".into()),
        ..hello().system("be brief")
    };
    request.messages.push(Message { role: Role::Assistant, content: "yes?".into() });
    request.messages.push(Message { role: Role::User, content: "go on".into() });
    let answer = broker.text(&request).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.summary.model.as_str()), (r#"{"fake":"go on"}"#, "other"));
    assert_eq!(answer.summary.usage.input_tokens, 7);
    let body = &fake.requests()[0].body;
    assert_eq!(body["systemInstruction"], json!({"parts": [{"text": "be brief"}]}));
    assert_eq!(body["generationConfig"]["maxOutputTokens"], 9);
}

#[tokio::test]
async fn a_model_that_would_lead_elsewhere_is_refused_here() {
    let (fake, broker) = one(ADAPTER).await;
    let request = TextRequest { model: Some("../files?x".into()), ..hello() };
    assert_eq!(broker.text(&request).await.unwrap_err().kind, ErrorKind::InvalidRequest);
    assert_eq!(fake.counts().received, 0);
}

/// What fails before an answer begins.
fn rows() -> Vec<Row> {
    use ErrorKind::*;
    let status = |status| Fault::ServerFault { status };
    let json = |status, body: &str| raw(status, "application/json", body);
    vec![
        row(
            Fault::Quota,
            QuotaExceeded,
            "(RESOURCE_EXHAUSTED, GenerateRequestsPerDayPerProjectPerModel-FreeTier)",
        ),
        row(
            Fault::RateLimit { retry_after: None },
            RateLimited,
            "429: You exceeded your current quota, please check your plan and billing details. \
             (RESOURCE_EXHAUSTED, GenerateRequestsPerMinutePerProjectPerModel-FreeTier)",
        ),
        row(Fault::RateLimit { retry_after: Some(7) }, RateLimited, "PerMinute").wait(7),
        row(Fault::RateLimit { retry_after: Some(90_000) }, RateLimited, "429: ").wait(60),
        row(
            Fault::Overloaded,
            Overloaded,
            "503: The model is overloaded. Please try again later. (UNAVAILABLE)",
        ),
        row(Fault::BadKey, Authentication, "400: API key not valid. Please pass a valid API key: ***."),
        row(status(403), Authentication, "(PERMISSION_DENIED)"),
        row(Fault::ContextTooLong, ContextTooLong, "400: The input token count (1200000) exceeds").for_good(),
        row(
            json(
                500,
                r#"{"error":{"code":500,"message":"Your input context is too long.","status":"INTERNAL"}}"#,
            ),
            ContextTooLong,
            "500: Your input context is too long. (INTERNAL)",
        )
        .for_good(),
        row(Fault::NoSuchModel, ModelNotFound, "(NOT_FOUND)"),
        row(Fault::ContentFilter, ContentFiltered, "the provider's filter blocked the prompt (SAFETY)"),
        row(
            json(
                400,
                r#"{"error":{"code":400,"message":"User location is not supported.","status":"FAILED_PRECONDITION"}}"#,
            ),
            Authentication,
            "400: User location is not supported. (FAILED_PRECONDITION)",
        ),
        row(status(500), ServerFault, "(INTERNAL)"),
        row(status(504), Timeout, "(DEADLINE_EXCEEDED)"),
        row(Fault::MalformedJson, MalformedAnswer, "the answer is no generated content"),
        row(Fault::ConnectionReset { after_bytes: 0 }, Connection, "bad: "),
        row(raw(200, "text/html", "<html>welcome</html>"), MalformedAnswer, "bad: "),
        row(
            json(
                200,
                r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
            ),
            Overloaded,
            "bad: The model is overloaded. (UNAVAILABLE)",
        ),
    ]
}

#[tokio::test]
async fn each_fault_has_its_kind_and_its_way_on() {
    let mut whole = rows();
    whole.push(row(Fault::ContentFilterFinish, ErrorKind::ContentFiltered, "withheld the answer (SAFETY)"));
    whole.push(row(Fault::EmptyChoices, ErrorKind::MalformedAnswer, "the answer has no candidates"));
    whole.extend(whole_anywhere());
    fail(ADAPTER, Way::Whole, whole).await;
    let mut streamed = rows();
    streamed.push(row(Fault::StreamErrorMid { after_chunks: 0 }, ErrorKind::Overloaded, "(UNAVAILABLE)"));
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
            "bad: after 12 bytes of text: The model is overloaded. Please try again later. (UNAVAILABLE)",
        ),
        (Fault::ContentFilterFinish, ErrorKind::ContentFiltered, "fake: hello you", "withheld the answer"),
        (
            raw(
                200,
                "text/event-stream",
                format!(
                    "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"hi\"}}]}}}}]}}\n\n\
                     data: {{\"error\":{{\"code\":500,\"message\":\"sent {KEY}\",\"status\":\"INTERNAL\"}}}}\n\n"
                ),
            ),
            ErrorKind::ServerFault,
            "hi",
            "sent *** (INTERNAL)",
        ),
    ];
    fail_midway(ADAPTER, rows).await;
    stall(ADAPTER).await;
}
