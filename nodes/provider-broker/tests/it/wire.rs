//! What goes over the wire when all is well.

use crate::support::{KEY, broker, hello, one, openai, picture};
use callboard_domain::llm::{TextRequest, Usage};
use callboard_provider_broker::config::ProviderConfig;
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::Endpoint;

#[tokio::test]
async fn a_text_comes_with_its_model_and_usage() {
    let (fake, broker) = one().await;
    let request = TextRequest { idempotency_key: Some("0199/text".into()), max_tokens: Some(9), ..hello() };
    let answer = broker.text(&request).await.unwrap();
    assert_eq!(answer.text, "fake: hello you");
    let summary = &answer.summary;
    assert_eq!((summary.provider.as_str(), summary.model.as_str()), ("main", "fake-text"));
    assert_eq!((summary.finish_reason.as_str(), &summary.degraded), ("stop", &None));
    assert_eq!(summary.usage, Usage { cached_input_tokens: 1, ..Usage::of(2, 3) });
    assert_eq!(summary.attempts.len(), 1);

    let sent = &fake.requests()[0];
    assert_eq!(sent.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(sent.headers["idempotency-key"], "0199/text");
    assert_eq!(sent.body["max_tokens"], 9);
    assert!(sent.body.get("stream").is_none() && sent.body.get("temperature").is_none());
}

#[tokio::test]
async fn a_model_of_the_call_goes_before_that_of_the_configuration() {
    let (fake, broker) = one().await;
    let answer = broker.text(&TextRequest { model: Some("other".into()), ..hello() }).await.unwrap();
    assert_eq!(
        (answer.summary.model.as_str(), &fake.requests()[0].body["model"]),
        ("other", &"other".into())
    );
}

#[tokio::test]
async fn without_a_key_no_authorization_is_sent() {
    let fake = FakeProvider::start().await.unwrap();
    let keyless = ProviderConfig { api_key_env: None, ..openai("local", &fake) };
    let broker = broker(vec![keyless]);
    broker.text(&hello()).await.unwrap();
    assert!(!fake.requests()[0].headers.contains_key("authorization"));
    assert!(!broker.providers()[0].description.has_key);
}

#[tokio::test]
async fn without_a_model_the_first_that_the_provider_lists_is_used() {
    let fake = FakeProvider::builder().models(["nomic-embed-text", "llama3.2:latest"]).start().await.unwrap();
    let broker = broker(vec![ProviderConfig::openai("ollama", fake.base_url())]);
    assert_eq!(broker.providers()[0].description.text_model, "");
    for _ in 0..2 {
        assert_eq!(broker.text(&hello()).await.unwrap().summary.model, "llama3.2:latest");
    }
    let asked: Vec<_> = fake.requests().iter().map(|r| r.endpoint).collect();
    assert_eq!(asked, [Endpoint::Models, Endpoint::Chat, Endpoint::Chat]);
    assert_eq!(broker.providers()[0].description.text_model, "llama3.2:latest");
}

#[tokio::test]
async fn an_image_is_decoded_and_asked_for_in_base64() {
    let (fake, broker) = one().await;
    let image = broker.image(&picture()).await.unwrap();
    assert!(image.data.starts_with(b"\x89PNG"));
    assert_eq!((image.media_type.as_str(), image.summary.model.as_str()), ("image/png", "fake-image"));
    assert_eq!(image.summary.usage, Usage::of(12, 34));
    let body = &fake.requests()[0].body;
    assert_eq!((&body["size"], &body["response_format"]), (&"1024x1024".into(), &"b64_json".into()));
}

#[tokio::test]
async fn an_answer_in_json_is_asked_for() {
    let (fake, broker) = one().await;
    let answer = broker.text(&TextRequest { json: true, ..hello() }).await.unwrap();
    assert_eq!(answer.text, r#"{"fake":"hello you"}"#);
    assert_eq!(fake.requests()[0].body["response_format"]["type"], "json_object");
}
