//! Tools, schemas and images at the endpoint.

use super::streams::events;
use super::{Bench, ask};
use callboard_domain::llm::{Content, Message};
use callboard_provider_broker::config::{Adapter, ProviderConfig};
use callboard_testkit::FakeProvider;
use serde_json::{Value, json};

fn with_tools(mut body: Value) -> Value {
    let function = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    body["tools"] = json!([function("weather"), function("time")]);
    body
}

const ARGUMENTS: &str = r#"{"said":"hello you"}"#;

#[tokio::test]
async fn tools_are_called_and_their_results_answered() {
    let bench = Bench::start().await;
    let mut body = with_tools(ask("m"));
    let answer: Value = bench.chat(&body).await.json().await.unwrap();
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let call = |i: u32, name: &str| json!({"id": format!("call_1_{i}"), "type": "function", "function": {"name": name, "arguments": ARGUMENTS}});
    assert_eq!(choice["message"]["tool_calls"], json!([call(0, "weather"), call(1, "time")]));
    // What a client sends next: the message as it came, and what its tools said.
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(choice["message"].clone());
    for (i, said) in ["warm", "noon"].into_iter().enumerate() {
        messages.push(json!({"role": "tool", "tool_call_id": format!("call_1_{i}"), "content": said}));
    }
    let answer: Value = bench.chat(&body).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "fake: warm noon");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer["choices"][0]["message"].get("tool_calls").is_none());
}

#[tokio::test]
async fn tools_are_called_in_pieces_by_their_index() {
    let bench = Bench::start().await;
    let mut body = with_tools(ask("m"));
    body["stream"] = json!(true);
    let (events, ended) = events(bench.chat(&body).await).await;
    assert!(ended && events.last().unwrap() == "[DONE]");
    let chunks: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let pieces: Vec<_> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]).collect();
    let begin = |i: u32, name: &str| {
        let function = json!({"name": name, "arguments": ""});
        json!({"index": i, "id": format!("call_1_{i}"), "type": "function", "function": function})
    };
    assert_eq!((pieces[1], pieces[4]), (&begin(0, "weather"), &begin(1, "time")));
    assert_eq!(pieces[2], &json!({"index": 0, "function": {"arguments": &ARGUMENTS[..10]}}));
    let finish: Vec<_> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(finish, ["tool_calls"]);
}

#[tokio::test]
async fn a_provider_with_another_wire_is_asked_in_its_own_words_and_its_signature_comes_back() {
    let gemini = FakeProvider::start().await.unwrap();
    let other = ProviderConfig {
        base_url: Some(gemini.root_url()),
        text_model: Some("gemini-3-pro".into()),
        ..ProviderConfig::named("other", Adapter::Gemini)
    };
    let bench = Bench::with(|builder| builder.config(|config| config.broker.providers.push(other))).await;
    let mut body = with_tools(ask("other/gemini-3-pro"));
    let answer: Value = bench.chat(&body).await.json().await.unwrap();
    let message = answer["choices"][0]["message"].clone();
    let calls = message["tool_calls"].as_array().unwrap().clone();
    assert_eq!(calls[0]["extra_content"]["google"]["thought_signature"], "signed");
    assert!(calls[1].get("extra_content").is_none());
    // Gemini gives no ids: they are made here, and lead to the name again.
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(message);
    for call in &calls {
        messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "fine"}));
    }
    let answer: Value = bench.chat(&body).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "fake: fine fine");
    let sent = &gemini.requests()[1].body["contents"];
    assert_eq!(sent[1]["parts"][0]["thoughtSignature"], "signed");
    assert_eq!(sent[2]["parts"][1]["functionResponse"]["name"], "time");
}

#[tokio::test]
async fn a_schema_is_passed_on_in_the_order_of_its_fields() {
    let bench = Bench::start().await;
    let mut body = ask("m");
    let schema = json!({"type": "object", "properties": {"fake": {"type": "string"}}});
    let named = json!({"name": "said", "schema": schema, "strict": true});
    body["response_format"] = json!({"type": "json_schema", "json_schema": named});
    let answer: Value = bench.chat(&body).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], r#"{"fake":"hello you"}"#);
    assert_eq!(bench.fake.requests()[0].body["response_format"], body["response_format"]);
}

#[tokio::test]
async fn images_and_sampling_are_passed_on() {
    let bench = Bench::start().await;
    let parts = json!([
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "https://x.test/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}},
    ]);
    let body = json!({
        "model": "m", "messages": [{"role": "user", "content": parts}],
        "stop": ["END"], "top_p": 0.5, "seed": 7, "presence_penalty": 0.5, "frequency_penalty": -0.5,
    });
    let answer: Value = bench.chat(&body).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "fake: what? +2");
    let sent = &bench.fake.requests()[0].body;
    assert_eq!(sent["messages"], body["messages"]);
    for field in ["stop", "top_p", "seed", "presence_penalty", "frequency_penalty"] {
        assert_eq!(sent[field], body[field], "{field}");
    }
}

/// What keeps calls of texts alone as cheap as they were.
#[test]
fn a_text_takes_no_more_room_than_it_did() {
    assert!(size_of::<Content>() <= size_of::<String>() + size_of::<usize>());
    assert!(size_of::<Message>() <= size_of::<Content>() + size_of::<usize>());
}
