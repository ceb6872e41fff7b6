//! Calls to models on the mesh: nothing is lost on the way, and what a version before sends is understood.

use callboard_contracts::v1;
use callboard_domain::convert::{self, error_from_status, error_to_status};
use callboard_domain::llm::{
    CacheSource, Content, Cost, EmbeddingRequest, Error, ErrorKind, Image, ImageSource, Message,
    OutputSchema, Part, ProviderAttempt, Role, Summary, TextRequest, Tool, ToolCall, ToolChoice, ToolResult,
    Trial, Usage,
};
use callboard_domain::money::Money;
use prost::Message as _;
use std::time::Duration;
use tonic_types::StatusExt as _;

fn call(id: &str) -> Part {
    let (name, arguments) = ("weather".into(), "{\"at\":\"home\"}".into());
    Part::ToolCall(ToolCall { id: id.into(), name, arguments, signature: Some("s".into()) })
}

fn result(id: &str) -> Part {
    Part::ToolResult(ToolResult { id: id.into(), content: "warm".into() })
}

fn everything() -> TextRequest {
    let say = |role, parts| Message { role, content: Content::Parts(parts) };
    let image =
        |source, detail: Option<&str>| Part::Image(Image { source, detail: detail.map(str::to_owned) });
    let data = ImageSource::Data { media_type: "image/png".into(), data: vec![1, 2].into() };
    TextRequest {
        messages: vec![
            Message { role: Role::System, content: "be brief".into() },
            say(
                Role::User,
                vec![
                    Part::Text("look".into()),
                    image(ImageSource::Url("https://x/y".into()), Some("low")),
                    image(data, None),
                ],
            ),
            say(Role::Assistant, vec![Part::Text("so".into()), call("1"), call("2")]),
            say(Role::Tool, vec![result("1")]),
            say(Role::Tool, vec![result("2")]),
            say(Role::Assistant, vec![call("3")]),
            say(Role::Tool, vec![result("3")]),
        ],
        top_p: Some(0.5),
        seed: Some(-7),
        presence_penalty: Some(-1.0),
        frequency_penalty: Some(2.0),
        stop: vec!["END".into()],
        schema: Some(OutputSchema {
            name: "s".into(),
            description: Some("d".into()),
            schema: "{\"type\": \"object\"}".into(),
            strict: Some(true),
        }),
        tools: vec![Tool {
            name: "weather".into(),
            description: Some("d".into()),
            parameters: Some("{\"type\": \"object\"}".into()),
            strict: Some(false),
        }],
        tool_choice: Some(ToolChoice::Named("weather".into())),
        parallel_tool_calls: Some(false),
        ..TextRequest::default()
    }
}

#[test]
fn a_call_comes_over_the_mesh_as_it_was() {
    let sent = convert::text_request_to_proto(&everything()).encode_to_vec();
    let received = v1::GenerateRequest::decode(&*sent).unwrap();
    assert_eq!(convert::text_request_from_proto(received).unwrap(), everything());
    // What several tools said in one message is several messages on the wire.
    let several = Message { role: Role::Tool, content: Content::Parts(vec![result("1"), result("2")]) };
    let mut request = everything();
    request.messages.splice(3..5, [several]);
    let read = convert::text_request_from_proto(convert::text_request_to_proto(&request)).unwrap();
    assert_eq!(read, everything());
}

#[test]
fn what_a_version_before_sends_is_understood() {
    // `{messages: [{role: USER, content: "hi"}], max_tokens: 5, json: true}`
    let old = b"\x0a\x06\x08\x02\x12\x02hi\x18\x05\x28\x01";
    let read = convert::text_request_from_proto(v1::GenerateRequest::decode(&old[..]).unwrap()).unwrap();
    assert_eq!(read, TextRequest { json: true, max_tokens: Some(5), ..TextRequest::prompt("hi") });
    // And what a version after adds, here field 1000, is no error.
    let new = [&old[..], b"\xc0\x3e\x01"].concat();
    assert_eq!(convert::text_request_from_proto(v1::GenerateRequest::decode(&*new).unwrap()).unwrap(), read);
}

#[test]
fn every_wrong_field_is_named() {
    let text =
        |role: v1::ChatRole| v1::ChatMessage { role: role.into(), content: "x".into(), ..Default::default() };
    let image = |source| v1::ChatPart {
        part: Some(v1::chat_part::Part::Image(v1::ChatImage { source, ..Default::default() })),
    };
    let elsewhere = |url: &str| image(Some(v1::chat_image::Source::Url(url.into())));
    let tool = |name: &str, parameters: &str| v1::Tool {
        name: name.into(),
        parameters: parameters.into(),
        ..Default::default()
    };
    let request = v1::GenerateRequest {
        messages: vec![
            v1::ChatMessage { role: 9, ..text(v1::ChatRole::User) },
            text(v1::ChatRole::Tool),
            v1::ChatMessage { tool_call_id: "1".into(), ..text(v1::ChatRole::User) },
            v1::ChatMessage { tool_calls: vec![v1::ToolCall::default()], ..text(v1::ChatRole::Assistant) },
            v1::ChatMessage { parts: vec![elsewhere("https://x")], ..text(v1::ChatRole::User) },
            v1::ChatMessage {
                content: String::new(),
                parts: vec![elsewhere("file:///x"), image(None), v1::ChatPart::default()],
                ..text(v1::ChatRole::User)
            },
        ],
        tools: vec![tool("no name", ""), tool("f", "[]")],
        tool_choice: Some(v1::ToolChoice { mode: v1::ToolMode::Named.into(), name: "g".into() }),
        schema: Some(v1::OutputSchema { name: "s".into(), schema: "{".into(), ..Default::default() }),
        stop: vec![String::new()],
        top_p: Some(1.5),
        presence_penalty: Some(f32::NAN),
        ..Default::default()
    };
    let error = convert::text_request_from_proto(request).unwrap_err();
    let fields: Vec<_> = error.violations.iter().map(|wrong| wrong.field.as_str()).collect();
    let expected = [
        "messages[0].role",
        "messages[1].tool_call_id",
        "messages[2].tool_call_id",
        "messages[3].tool_calls[0]",
        "messages[4].content",
        "messages[5].parts[0].url",
        "messages[5].parts[1]",
        "messages[5].parts[2]",
        "top_p",
        "presence_penalty",
        "stop",
        "tools[0].name",
        "tools[1].parameters",
        "tool_choice",
        "schema.schema",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn how_an_answer_came_about_comes_as_it_was() {
    let failed = ProviderAttempt {
        provider: "bad".into(),
        key: "k".into(),
        model: "m".into(),
        duration: Duration::from_millis(250),
        error: Some((ErrorKind::Overloaded, "busy".into())),
    };
    let summary = Summary {
        provider: "good".into(),
        key: "k".into(),
        model: "m".into(),
        finish_reason: "stop".into(),
        usage: Usage::of(3, 5),
        attempts: vec![failed],
        from_cache: Some(CacheSource::Similar(97)),
        degraded: Some("why".into()),
        cost: Some(Cost { amount: Money::from_picodollars(7), prices_version: "v".into() }),
        usage_estimated: true,
        trial: Some(Trial { experiment: "e".into(), arm: "a".into() }),
        dropped: vec!["seed".into(), "top_p".into()],
    };
    let message = convert::summary_to_proto(&summary).encode_to_vec();
    let read = v1::GenerateSummary::decode(&*message).unwrap();
    assert_eq!(convert::summary_from_proto(read), summary);
}

#[test]
fn a_request_for_embeddings_comes_as_it_was_and_a_wrong_one_is_named() {
    let request = EmbeddingRequest {
        inputs: vec!["a".into(), "b".into()],
        model: Some("m".into()),
        dimensions: Some(8),
        ..EmbeddingRequest::default()
    };
    let read = convert::embedding_request_from_proto(convert::embedding_request_to_proto(&request)).unwrap();
    assert_eq!(read, request);
    let wrong = EmbeddingRequest { inputs: vec![String::new()], dimensions: Some(0), ..request };
    let error =
        convert::embedding_request_from_proto(convert::embedding_request_to_proto(&wrong)).unwrap_err();
    let fields: Vec<_> = error.violations.iter().map(|wrong| wrong.field.as_str()).collect();
    assert_eq!(fields, ["inputs[0]", "dimensions"]);
    let long = EmbeddingRequest::of(["x".repeat(1 << 20), "y".into()]);
    let error =
        convert::embedding_request_from_proto(convert::embedding_request_to_proto(&long)).unwrap_err();
    assert_eq!(error.violations[0].description, "must be at most 1 MiB together");
}

#[test]
fn a_kind_that_nodes_before_do_not_know_is_one_they_do_beside_the_exact_one() {
    for kind in ErrorKind::ALL {
        let status = error_to_status(&Error::new(*kind, "why"));
        assert_eq!(error_from_status(&status).kind, *kind);
        let metadata = status.get_error_details().error_info().unwrap().metadata.clone();
        let before = match kind {
            ErrorKind::ContextTooLong | ErrorKind::Unsupported => ErrorKind::InvalidRequest,
            known => *known,
        };
        assert_eq!(metadata["kind"], before.reason());
    }
}
