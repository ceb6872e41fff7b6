//! Embeddings at the endpoint.

use super::{Bench, header, refusal};
use callboard_testkit::fake_provider::{Endpoint, Fault, Rule};
use serde_json::{Value, json};

#[tokio::test]
async fn each_text_has_a_vector_in_either_form() {
    let bench = Bench::start().await;
    let body = json!({"model": "fake-embedding", "input": ["hello you", "tea"], "user": "u"});
    let response = bench.post("embeddings", &body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let told = ["x-callboard-provider", "x-callboard-model", "x-callboard-attempts"];
    assert_eq!(told.map(|name| header(&response, name)), ["main", "fake-embedding", "1"]);
    let answer: Value = response.json().await.unwrap();
    let one = |i: u32, embedding: Value| json!({"object": "embedding", "index": i, "embedding": embedding});
    let expected = json!({
        "object": "list", "model": "fake-embedding", "usage": {"prompt_tokens": 3, "total_tokens": 3},
        "data": [one(0, json!([9.0, 2.0, 0.5, 0.5])), one(1, json!([3.0, 1.0, 0.5, 0.5]))],
    });
    assert_eq!(answer, expected);
    let body = json!({"model": "auto", "input": "tea", "dimensions": 2, "encoding_format": "base64"});
    let answer: Value = bench.post("embeddings", &body).send().await.unwrap().json().await.unwrap();
    // 3 and 1 as 32-bit floats, little end first.
    assert_eq!(answer["data"], json!([one(0, json!("AABAQAAAgD8="))]));
    assert_eq!(answer["model"], "fake-embedding");
    let listed: Value = bench.get("models").await.json().await.unwrap();
    assert!(listed.to_string().contains("main/fake-embedding"), "{listed}");
}

#[tokio::test]
async fn errors_are_those_of_the_endpoint() {
    let bench = Bench::start().await;
    let post = async |body: Value| refusal(bench.post("embeddings", &body).send().await.unwrap()).await;
    let (status, error) = post(json!({"model": "m", "input": [1, 2]})).await;
    assert_eq!((status, &error["code"]), (400, &json!("unsupported_parameter")));
    let (status, error) = post(json!({"model": "m", "input": "x", "dimensions": 0})).await;
    assert_eq!((status, &error["param"]), (400, &json!("dimensions")));
    assert_eq!(bench.fake.counts().received, 0);
    for (fault, status, code) in [
        (Fault::RateLimit { retry_after: Some(3) }, 429, "rate_limit_exceeded"),
        (Fault::NoSuchModel, 404, "model_not_found"),
        (Fault::ContextTooLong, 400, "context_length_exceeded"),
        (Fault::Overloaded, 503, "server_is_overloaded"),
    ] {
        bench.fake.rules([Rule::standing(fault).at(Endpoint::Embeddings)]);
        let (got, error) = post(json!({"model": "m", "input": "x"})).await;
        assert_eq!((got, &error["code"]), (status, &json!(code)), "{error}");
        assert!(code != "context_length_exceeded" || error["param"] == "input", "{error}");
    }
}
