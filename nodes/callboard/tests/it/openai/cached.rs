//! Requests that are sent again, or were asked before.

use super::{Bench, ask, ask_stream, header, refusal};
use callboard_testkit::fake_provider::Fault;
use serde_json::{Value, json};

async fn send(bench: &Bench, body: &Value, name: &str, value: &str) -> reqwest::Response {
    bench.post("chat/completions", body).header(name, value).send().await.unwrap()
}

#[tokio::test]
async fn a_request_that_is_sent_again_with_its_key_is_answered_once() {
    let bench = Bench::start().await;
    let first = send(&bench, &ask("m"), "idempotency-key", "k").await;
    assert_eq!((header(&first, "x-callboard-cache"), header(&first, "x-callboard-attempts")), ("", "1"));
    let second = send(&bench, &ask("m"), "idempotency-key", "k").await;
    assert_eq!(
        (header(&second, "x-callboard-cache"), header(&second, "x-callboard-attempts")),
        ("replayed", "0")
    );
    let (first, second): (Value, Value) = (first.json().await.unwrap(), second.json().await.unwrap());
    assert_eq!(first["choices"], second["choices"]);
    let streamed = send(&bench, &ask_stream("m"), "idempotency-key", "k").await;
    assert_eq!(
        (header(&streamed, "x-callboard-cache"), header(&streamed, "x-callboard-attempts")),
        ("replayed", "0")
    );
    assert!(streamed.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    let (status, error) = refusal(send(&bench, &ask("other"), "idempotency-key", "k").await).await;
    assert_eq!((status, &error["type"]), (400, &json!("invalid_request_error")));
    let requests = bench.fake.requests();
    assert_eq!(requests.len(), 1);
    let sent = &requests[0].headers["idempotency-key"];
    assert!(sent.len() == 71 && sent != "k", "the provider learns that it is the same, and no more: {sent}");
}

#[tokio::test]
async fn a_request_asks_for_the_cache_and_is_told_where_the_answer_came_from() {
    let bench = Bench::start().await;
    bench.fake.fault(Fault::MalformedJson);
    let failed = send(&bench, &ask("m"), "x-callboard-cache", "on").await;
    assert_eq!(failed.status(), 502);
    bench.fake.heal();
    let mut told = Vec::new();
    for mode in ["on", "on", "refresh", "off", "on"] {
        let answer = send(&bench, &ask("m"), "x-callboard-cache", mode).await;
        assert_eq!(answer.status(), 200);
        told.push(header(&answer, "x-callboard-cache").to_owned());
    }
    assert_eq!(told, ["", "exact", "", "", "exact"]);
    assert_eq!(bench.fake.requests().len(), 4);
    let (status, error) = refusal(send(&bench, &ask("m"), "x-callboard-cache", "maybe").await).await;
    assert_eq!(status, 400);
    assert!(error["message"].as_str().unwrap().contains("on, off or refresh"), "{error}");
}
