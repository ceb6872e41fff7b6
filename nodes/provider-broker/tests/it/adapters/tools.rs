//! Tools, schemas, images and sampling on every wire: what a caller sees is the same on each.

use super::provider;
use crate::support::{KEY, broker, hello, openai, outline};
use callboard_domain::llm::{
    Content, ErrorKind, Image, ImageSource, Message, OutputSchema, Part, Role, Summary, TextRequest, Tool,
    ToolCall, ToolChoice, ToolResult,
};
use callboard_provider_broker::config::{Adapter, ProviderConfig};
use callboard_provider_broker::{Broker, Piece};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::Fault;
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;

const WIRES: [Adapter; 4] = [Adapter::OpenAi, Adapter::Anthropic, Adapter::Gemini, Adapter::Ollama];

pub(super) fn config(name: &str, adapter: Adapter, fake: &FakeProvider) -> ProviderConfig {
    match adapter {
        Adapter::OpenAi => openai(name, fake),
        other => provider(name, other, fake),
    }
}

async fn one(adapter: Adapter) -> (FakeProvider, Arc<Broker>) {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let broker = broker(vec![config("main", adapter, &fake)]);
    (fake, broker)
}

fn tool(name: &str) -> Tool {
    Tool {
        name: name.into(),
        description: Some("tells the weather".into()),
        parameters: Some(r#"{"type":"object","properties":{"said":{"type":"string"}}}"#.into()),
        strict: None,
    }
}

fn with_tools() -> TextRequest {
    TextRequest { tools: vec![tool("weather"), tool("time")], ..hello() }
}

/// The next request: what the model asked for, and what the tools said.
fn answered(request: &TextRequest, calls: Vec<ToolCall>) -> TextRequest {
    let mut request = request.clone();
    let results: Vec<_> = calls
        .iter()
        .map(|call| ToolResult { id: call.id.clone(), content: format!("{} is fine", call.name) })
        .collect();
    let content = Content::Parts(calls.into_iter().map(Part::ToolCall).collect());
    request.messages.push(Message { role: Role::Assistant, content });
    // One message for each, as OpenAI's clients send them.
    for result in results {
        let content = Content::Parts(vec![Part::ToolResult(result)]);
        request.messages.push(Message { role: Role::Tool, content });
    }
    request
}

/// An answer that was streamed, put together.
async fn streamed(broker: &Arc<Broker>, request: &TextRequest) -> (String, Vec<ToolCall>, Summary) {
    let mut stream = broker.text_stream(request).await.unwrap();
    let (mut text, mut calls, mut end) = (String::new(), Vec::<ToolCall>::new(), None);
    while let Some(piece) = stream.next().await {
        match piece.unwrap() {
            Piece::Begin(_) => {}
            Piece::Delta(delta) => text.push_str(&delta),
            Piece::ToolCall(piece) => {
                let index = piece.index as usize;
                if index == calls.len() {
                    assert!(!piece.id.is_empty() && !piece.name.is_empty(), "{piece:?}");
                    calls.push(ToolCall { id: piece.id, name: piece.name, ..ToolCall::default() });
                } else {
                    assert!(piece.id.is_empty() && piece.name.is_empty(), "{piece:?}");
                }
                calls[index].arguments.push_str(&piece.arguments);
                calls[index].signature = calls[index].signature.take().or(piece.signature);
            }
            Piece::End(summary) => end = Some(*summary),
        }
    }
    (text, calls, end.unwrap())
}

#[tokio::test]
async fn tools_are_called_and_their_results_answered_on_every_wire() {
    for adapter in WIRES {
        let (_fake, broker) = one(adapter).await;
        let whole = broker.text(&with_tools()).await.unwrap();
        let (text, calls, summary) = streamed(&broker, &with_tools()).await;
        for (text, calls, summary) in [(text, calls, summary), (whole.text, whole.tool_calls, whole.summary)]
        {
            assert_eq!((text.as_str(), summary.finish_reason.as_str()), ("", "tool_calls"), "{adapter:?}");
            let names: Vec<_> = calls.iter().map(|call| call.name.as_str()).collect();
            assert_eq!(names, ["weather", "time"], "{adapter:?}");
            assert!(!calls[0].id.is_empty() && calls[0].id != calls[1].id, "{adapter:?}: {calls:?}");
            for call in &calls {
                let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                assert_eq!(arguments, json!({"said": "hello you"}), "{adapter:?}");
            }
            let signed = calls[0].signature.as_deref();
            assert_eq!(signed, (adapter == Adapter::Gemini).then_some("signed"), "{adapter:?}");
            // The wire refuses what does not belong together.
            let next = answered(&with_tools(), calls);
            let answer = broker.text(&next).await.unwrap();
            assert_eq!(answer.text, "fake: weather is fine time is fine", "{adapter:?}");
            assert_eq!((answer.tool_calls.len(), answer.summary.finish_reason.as_str()), (0, "stop"));
        }
    }
}

#[tokio::test]
async fn a_tool_that_must_be_called_is_and_where_none_may_be_there_is_a_text() {
    for adapter in WIRES {
        let (_fake, broker) = one(adapter).await;
        let chosen = |choice| TextRequest { tool_choice: Some(choice), ..with_tools() };
        let none = broker.text(&chosen(ToolChoice::None)).await.unwrap();
        assert_eq!((none.text.as_str(), none.tool_calls.len()), ("fake: hello you", 0), "{adapter:?}");
        let named = broker.text(&chosen(ToolChoice::Named("time".into()))).await;
        if adapter == Adapter::Ollama {
            // It has no word for it, and a text instead would be a lie.
            assert_eq!(named.unwrap_err().kind, ErrorKind::Unsupported);
            continue;
        }
        let calls = named.unwrap().tool_calls;
        assert_eq!(calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), ["time"], "{adapter:?}");
    }
}

#[tokio::test]
async fn what_a_provider_has_no_word_for_goes_to_the_next_and_never_to_the_stand_in() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let providers = |list: &[Adapter]| {
        let named = list.iter().map(|adapter| config(adapter.as_str(), *adapter, &fake));
        broker(named.chain([ProviderConfig::offline()]).collect())
    };
    let forced = TextRequest { tool_choice: Some(ToolChoice::Required), ..with_tools() };
    let answer = providers(&[Adapter::Ollama, Adapter::OpenAi]).text(&forced).await.unwrap();
    assert_eq!(outline(&answer.summary.attempts), ["ollama: PROVIDER_UNSUPPORTED", "openai"]);
    fake.fault(Fault::Overloaded);
    let error = providers(&[Adapter::OpenAi]).text(&forced).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Overloaded);
    // Where nothing is forced, it stands in, and says so.
    let answer = providers(&[Adapter::OpenAi]).text(&with_tools()).await.unwrap();
    assert_eq!((answer.summary.provider.as_str(), answer.tool_calls.len()), ("offline", 0));
    let alone = broker(vec![ProviderConfig::offline()]);
    assert_eq!(alone.text(&forced).await.unwrap_err().kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_stream_that_breaks_in_a_call_says_so() {
    for adapter in WIRES {
        let (fake, broker) = one(adapter).await;
        fake.fault(Fault::StreamCut { after_chunks: 1 });
        let mut stream = broker.text_stream(&with_tools()).await.unwrap();
        let mut last = None;
        while let Some(piece) = stream.next().await {
            last = Some(piece);
        }
        assert_eq!(last.unwrap().unwrap_err().kind, ErrorKind::Connection, "{adapter:?}");
    }
}

fn schema() -> OutputSchema {
    let schema = r#"{"type":"object","properties":{"fake":{"type":"string"}},"required":["fake"],"additionalProperties":false}"#;
    OutputSchema { name: "said".into(), description: None, schema: schema.into(), strict: Some(true) }
}

#[tokio::test]
async fn an_answer_has_the_form_that_a_schema_describes() {
    for adapter in WIRES {
        let (fake, broker) = one(adapter).await;
        let request = TextRequest { schema: Some(schema()), ..hello() };
        assert_eq!(broker.text(&request).await.unwrap().text, r#"{"fake":"hello you"}"#, "{adapter:?}");
        let body = &fake.requests()[0].body;
        let sent = match adapter {
            Adapter::OpenAi => &body["response_format"]["json_schema"]["schema"],
            Adapter::Anthropic => &body["output_config"]["format"]["schema"],
            Adapter::Gemini => &body["generationConfig"]["responseJsonSchema"],
            _ => &body["format"],
        };
        let expected: Value = serde_json::from_str(&schema().schema).unwrap();
        assert_eq!(*sent, expected, "{adapter:?}");
    }
    let offline = broker(vec![ProviderConfig::offline()]);
    let request = TextRequest { schema: Some(schema()), ..hello() };
    let answer: Value = serde_json::from_str(&offline.text(&request).await.unwrap().text).unwrap();
    assert!(answer["fake"].is_string() && answer.as_object().unwrap().len() == 1, "{answer}");
}

fn looking_at(source: ImageSource) -> TextRequest {
    let parts = vec![Part::Text("hello you".into()), Part::Image(Image { source, detail: None })];
    TextRequest { messages: vec![Message { role: Role::User, content: Content::Parts(parts) }], ..hello() }
}

#[tokio::test]
async fn images_are_shown_on_every_wire() {
    let pixel = || ImageSource::Data { media_type: "image/png".into(), data: vec![1, 2, 3].into() };
    for adapter in WIRES {
        let (fake, broker) = one(adapter).await;
        assert_eq!(
            broker.text(&looking_at(pixel())).await.unwrap().text,
            "fake: hello you +1",
            "{adapter:?}"
        );
        let body = fake.requests()[0].body.to_string();
        assert!(body.contains("AQID"), "{adapter:?}: {body}");
        let elsewhere = broker.text(&looking_at(ImageSource::Url("https://x.test/y.png".into()))).await;
        if adapter == Adapter::Ollama {
            assert_eq!(elsewhere.unwrap_err().kind, ErrorKind::Unsupported);
            continue;
        }
        assert_eq!(elsewhere.unwrap().text, "fake: hello you +1", "{adapter:?}");
        assert!(fake.requests()[1].body.to_string().contains("https://x.test/y.png"), "{adapter:?}");
    }
}

#[tokio::test]
async fn too_many_bytes_of_images_are_refused_before_anybody_is_asked() {
    let (fake, broker) = one(Adapter::OpenAi).await;
    let data = vec![0; callboard_domain::limits::PROMPT_IMAGE_BYTES + 1].into();
    let request = looking_at(ImageSource::Data { media_type: "image/png".into(), data });
    let error = broker.text(&request).await.unwrap_err();
    assert_eq!((error.kind, fake.counts().received), (ErrorKind::InvalidRequest, 0));
}

#[tokio::test]
async fn sampling_is_asked_for_as_far_as_a_wire_has_words() {
    let request = TextRequest {
        top_p: Some(0.5),
        seed: Some(7),
        presence_penalty: Some(0.5),
        frequency_penalty: Some(-0.5),
        stop: vec!["END".into()],
        ..hello()
    };
    for adapter in WIRES {
        let (fake, broker) = one(adapter).await;
        broker.text(&request).await.unwrap();
        let body = fake.requests()[0].body.clone();
        let (asked, expected) = match adapter {
            Adapter::OpenAi => (
                body,
                json!({"top_p": 0.5, "seed": 7, "presence_penalty": 0.5, "frequency_penalty": -0.5, "stop": ["END"]}),
            ),
            Adapter::Anthropic => (body, json!({"top_p": 0.5, "stop_sequences": ["END"]})),
            Adapter::Gemini => (
                body["generationConfig"].clone(),
                json!({
                    "topP": 0.5, "seed": 7, "presencePenalty": 0.5, "frequencyPenalty": -0.5, "stopSequences": ["END"],
                }),
            ),
            _ => (
                body["options"].clone(),
                json!({"top_p": 0.5, "seed": 7, "presence_penalty": 0.5, "frequency_penalty": -0.5, "stop": ["END"]}),
            ),
        };
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(asked[field], *value, "{adapter:?} {field}");
        }
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_has_one_kind_on_every_wire_and_goes_to_nobody_else() {
    let good = FakeProvider::start().await.unwrap();
    for adapter in WIRES {
        let bad = FakeProvider::builder().key(KEY).start().await.unwrap();
        bad.fault(Fault::ContextTooLong);
        let broker = broker(vec![config("bad", adapter, &bad), openai("good", &good)]);
        assert_eq!(broker.text(&hello()).await.unwrap_err().kind, ErrorKind::ContextTooLong, "{adapter:?}");
    }
    assert_eq!(good.counts().received, 0);
}
