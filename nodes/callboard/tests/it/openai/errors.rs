//! Errors: the statuses and objects that OpenAI's clients make their exceptions of.

use super::{Bench, ask, ask_stream, header, refusal};
use callboard_testkit::fake_provider::{Endpoint, Fault, Rule};
use serde_json::{Value, json};

#[tokio::test]
async fn a_providers_error_keeps_its_meaning() {
    let bench = Bench::start().await;
    for (fault, status, kind, code) in [
        (Fault::Quota, 429, "insufficient_quota", json!("insufficient_quota")),
        (Fault::RateLimit { retry_after: None }, 429, "rate_limit_error", json!("rate_limit_exceeded")),
        (Fault::Overloaded, 503, "server_error", json!("server_is_overloaded")),
        (Fault::ServerFault { status: 500 }, 502, "server_error", json!("provider_server_fault")),
        (Fault::ConnectionReset { after_bytes: 0 }, 502, "server_error", json!("provider_connection")),
        (Fault::BadKey, 502, "server_error", json!("provider_authentication")),
        (Fault::ContextTooLong, 400, "invalid_request_error", json!("context_length_exceeded")),
        (Fault::NoSuchModel, 404, "invalid_request_error", json!("model_not_found")),
        (Fault::ContentFilter, 400, "invalid_request_error", json!("content_filter")),
        (Fault::MalformedJson, 502, "server_error", json!("provider_malformed_answer")),
    ] {
        bench.fake.rules([Rule::standing(fault.clone()).at(Endpoint::Chat)]);
        // A stream that has not begun fails like an answer in one piece.
        for body in [ask("m"), ask_stream("m")] {
            let response = bench.chat(&body).await;
            assert_eq!(header(&response, "x-callboard-attempts"), "1", "{fault:?}");
            assert_ne!(header(&response, "x-request-id"), "");
            let (got, error) = refusal(response).await;
            assert_eq!(
                (got, &error["type"], &error["code"]),
                (status, &json!(kind), &code),
                "{fault:?}: {error}"
            );
            assert!(error["message"].as_str().unwrap().starts_with("main: "), "{error}");
        }
    }
}

#[tokio::test]
async fn a_wait_that_a_provider_names_is_passed_on_and_a_spent_quota_is_final() {
    let bench = Bench::start().await;
    bench.fake.fault(Fault::RateLimit { retry_after: Some(7) });
    let response = bench.chat(&ask("m")).await;
    assert_eq!((header(&response, "retry-after"), header(&response, "x-should-retry")), ("7", ""));
    bench.fake.fault(Fault::Quota);
    let response = bench.chat(&ask("m")).await;
    assert_eq!((header(&response, "retry-after"), header(&response, "x-should-retry")), ("", "false"));
}

/// `insufficient_quota` is not lost on a caller that comes after the one who met it.
#[tokio::test]
async fn a_provider_that_is_left_out_keeps_the_meaning_of_its_error() {
    let bench = Bench::with(|builder| builder.config(|config| config.broker.breaker.enabled = true)).await;
    bench.fake.fault(Fault::Quota);
    for tries in ["1", "0"] {
        let response = bench.chat(&ask("m")).await;
        assert_eq!(header(&response, "x-callboard-attempts"), tries);
        let (status, error) = refusal(response).await;
        assert_eq!((status, &error["code"]), (429, &json!("insufficient_quota")), "{error}");
    }
    assert_eq!(bench.fake.counts().received, 1);
}

#[tokio::test]
async fn a_request_that_is_wrong_reaches_no_provider() {
    let bench = Bench::start().await;
    let mut warm = ask("m");
    warm["temperature"] = json!(3);
    let mut several = ask("m");
    several["n"] = json!(2);
    let mut choice = ask("m");
    choice["tool_choice"] = json!("required");
    let mut tools = ask("m");
    tools["tools"] = json!([{"type": "function", "function": {"name": "no name"}}]);
    let sound = json!([{"type": "input_audio", "input_audio": {}}]);
    let sound = json!({"model": "m", "messages": [{"role": "user", "content": sound}]});
    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AQID"}}]);
    let image = json!({"model": "m", "messages": [{"role": "user", "content": image}]});
    for (body, param, code) in [
        (warm, json!("temperature"), Value::Null),
        (several, json!("n"), json!("unsupported_parameter")),
        (choice, json!("tool_choice"), Value::Null),
        (tools, json!("tools[0].name"), Value::Null),
        (sound, json!("messages[0].content[0]"), json!("unsupported_parameter")),
        (image, json!("messages[0].parts[0]"), Value::Null),
        (json!({"messages": []}), json!("model"), Value::Null),
    ] {
        let (status, error) = refusal(bench.chat(&body).await).await;
        assert_eq!((status, &error["param"], &error["code"]), (400, &param, &code), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let nonsense = bench.http.post(bench.url("chat/completions")).body("{\"model\":");
    assert_eq!(refusal(nonsense.send().await.unwrap()).await.0, 400);
    assert_eq!(bench.fake.counts().received, 0);
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_answer_is_read() {
    let bench = Bench::start().await;
    for bytes in [2 << 20, 9 << 20] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(bytes)}]});
        let (status, error) = refusal(bench.chat(&body).await).await;
        assert_eq!((status, &error["code"]), (413, &json!("request_too_large")), "{error}");
    }
    assert_eq!(bench.chat(&ask("m")).await.status(), 200);
}

#[tokio::test]
async fn images_over_the_limit_are_too_large_and_those_below_are_taken() {
    use base64::Engine as _;
    let bench = Bench::start().await;
    let body = |bytes: usize| {
        let data = base64::engine::general_purpose::STANDARD.encode(vec![7; bytes]);
        let image =
            json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}});
        json!({"model": "m", "messages": [{"role": "user", "content": [image]}]})
    };
    assert_eq!(bench.chat(&body(9 << 20)).await.status(), 200);
    let (status, error) = refusal(bench.chat(&body((16 << 20) + 1)).await).await;
    assert_eq!((status, &error["code"]), (413, &json!("request_too_large")), "{error}");
    assert_eq!(bench.fake.counts().received, 1);
}

#[tokio::test]
async fn a_prompt_that_is_too_long_has_the_code_that_clients_look_for() {
    let bench = Bench::start().await;
    bench.fake.fault(Fault::ContextTooLong);
    let (status, error) = refusal(bench.chat(&ask("m")).await).await;
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")), "{error}");
    assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request_error"), &json!("messages")));
}

#[tokio::test]
async fn what_is_not_there_says_so_in_the_same_shape() {
    let bench = Bench::start().await;
    let (status, error) = refusal(bench.get("assistants").await).await;
    assert_eq!((status, &error["code"]), (404, &json!("unknown_url")));
    let (status, error) = refusal(bench.get("chat/completions").await).await;
    assert_eq!((status, &error["code"]), (405, &json!("method_not_allowed")));
}
