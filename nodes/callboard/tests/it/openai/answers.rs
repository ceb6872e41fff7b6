//! Answers in one piece.

use super::{Bench, ask, header, provider};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::{Endpoint, Fault, Rule};
use serde_json::{Value, json};

#[tokio::test]
async fn an_answer_is_the_object_that_clients_expect() {
    let bench = Bench::start().await;
    let mut body = ask("gpt-x");
    body["max_completion_tokens"] = json!(9);
    body["temperature"] = json!(0.5);
    let response = bench.post("chat/completions", &body).header("x-request-id", "r-1").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let told = ["x-request-id", "x-callboard-provider", "x-callboard-model", "x-callboard-attempts"];
    assert_eq!(told.map(|name| header(&response, name)), ["r-1", "main", "gpt-x", "1"]);
    assert!(!response.headers().contains_key("x-callboard-degraded"));
    assert_eq!(header(&response, "content-type"), "application/json");
    let mut answer: Value = response.json().await.unwrap();
    let id = answer["id"].take();
    assert!(id.as_str().unwrap().starts_with("chatcmpl-") && id.as_str().unwrap().len() == 41, "{id}");
    assert!(answer["created"].take().as_i64().unwrap() > 1_700_000_000);
    let expected = json!({
        "id": null, "object": "chat.completion", "created": null, "model": "gpt-x",
        "choices": [{
            "index": 0, "logprobs": null, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "fake: hello you", "refusal": null},
        }],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1}},
    });
    assert_eq!(answer, expected);
    let asked = bench.fake.requests()[0].body.clone();
    assert_eq!(
        (&asked["model"], &asked["max_tokens"], &asked["temperature"]),
        (&json!("gpt-x"), &json!(9), &json!(0.5))
    );
}

#[tokio::test]
async fn each_answer_has_an_id_of_its_own_and_a_request_id() {
    let bench = Bench::start().await;
    let (first, second) = (bench.chat(&ask("m")).await, bench.chat(&ask("m")).await);
    assert_ne!(header(&first, "x-request-id"), "");
    assert_ne!(header(&first, "x-request-id"), header(&second, "x-request-id"));
    let (first, second): (Value, Value) = (first.json().await.unwrap(), second.json().await.unwrap());
    assert_ne!(first["id"], second["id"]);
}

#[tokio::test]
async fn json_is_asked_for() {
    let bench = Bench::start().await;
    let mut body = ask("m");
    body["response_format"] = json!({"type": "json_object"});
    let answer: Value = bench.chat(&body).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], r#"{"fake":"hello you"}"#);
    assert_eq!(bench.fake.requests()[0].body["response_format"]["type"], "json_object");
}

#[tokio::test]
async fn that_another_provider_answered_is_told() {
    let second = FakeProvider::start().await.unwrap();
    let also = provider("second", &second);
    let bench = Bench::with(|builder| builder.config(|config| config.broker.providers.push(also))).await;
    bench.fake.rules([Rule::standing(Fault::Quota).at(Endpoint::Chat)]);
    for stream in [false, true] {
        let mut body = ask("m");
        body["stream"] = json!(stream);
        let response = bench.chat(&body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "x-callboard-provider"), "second");
        assert_eq!(header(&response, "x-callboard-attempts"), "2");
        let why = header(&response, "x-callboard-degraded");
        assert!(why.contains("main (PROVIDER_QUOTA_EXCEEDED)"), "{why}");
        assert!(response.text().await.unwrap().contains("hello"));
    }
}

#[tokio::test]
async fn what_the_provider_was_not_told_is_told() {
    let bench = Bench::start().await;
    for stream in [false, true] {
        let mut body = ask("o3-mini");
        body["stream"] = json!(stream);
        let plain = bench.chat(&body).await;
        assert_eq!(header(&plain, "x-callboard-dropped"), "", "nothing was dropped");
        (body["temperature"], body["top_p"], body["seed"]) = (json!(0.5), json!(0.5), json!(7));
        let response = bench.chat(&body).await;
        assert_eq!(header(&response, "x-callboard-dropped"), "temperature, top_p", "{stream}");
        assert_eq!(response.status(), 200);
    }
    let sent = bench.fake.requests().pop().unwrap().body;
    assert_eq!((sent.get("temperature"), &sent["seed"]), (None, &json!(7)));
}

#[tokio::test]
async fn a_caller_that_hangs_up_ends_the_call_at_the_provider() {
    let bench = Bench::start().await;
    bench.fake.fault(Fault::Hang);
    let deadline = crate::node::DEADLINE;
    let body = ask("m");
    tokio::select! {
        response = bench.chat(&body) => panic!("{response:?}"),
        begun = bench.fake.wait(|c| c.in_flight == 1, deadline) => { begun.unwrap(); }
    }
    assert_eq!(bench.fake.wait(|c| c.in_flight == 0, deadline).await.unwrap().aborted, 1);
}
