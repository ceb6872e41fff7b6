use super::*;
use serde_json::json;

fn read(body: &Value) -> Result<Asked, Value> {
    let refused = |error: Error| serde_json::from_str::<Value>(&error.document()).unwrap()["error"].clone();
    chat(body.to_string().as_bytes()).map_err(refused)
}

/// A request with a field more.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    body[field] = value;
    body
}

/// The parameter that is refused, and the code of the refusal.
fn refused(body: &Value) -> (String, Option<String>) {
    let error = read(body).unwrap_err();
    assert_eq!(error["type"], "invalid_request_error", "{error}");
    let text = |field: &str| error[field].as_str().map(str::to_owned);
    (text("param").unwrap_or_default(), text("code"))
}

const UNSUPPORTED: &str = "unsupported_parameter";

#[test]
fn a_request_becomes_that_of_the_broker() {
    let asked = read(&json!({
        "model": "fast",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "eve"},
            {"role": "assistant", "content": "c", "tool_calls": null, "refusal": null, "annotations": []},
            {"role": "assistant", "content": null, "refusal": "no"},
        ],
        "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0.5, "user": "u-1",
        "response_format": {"type": "json_object"}, "made_up": {"deep": [1, 2]},
    }))
    .unwrap();
    let said: Vec<_> =
        asked.request.messages.iter().map(|m| (m.role().as_str_name(), m.content.as_str())).collect();
    assert_eq!(
        said,
        [
            ("CHAT_ROLE_SYSTEM", "be brief"),
            ("CHAT_ROLE_USER", "a\nb"),
            ("CHAT_ROLE_ASSISTANT", "c"),
            ("CHAT_ROLE_ASSISTANT", "no")
        ]
    );
    assert_eq!((asked.model.as_str(), asked.request.max_tokens, asked.request.json), ("fast", Some(7), true));
    assert_eq!((asked.request.temperature, asked.stream), (Some(0.5), None));
}

#[test]
fn a_stream_is_asked_for_with_or_without_usage() {
    let stream = |options: Value| {
        let mut body = with("stream", json!(true));
        body["stream_options"] = options;
        read(&body).unwrap().stream
    };
    assert_eq!(stream(Value::Null), Some(StreamOptions { include_usage: false }));
    assert_eq!(stream(json!({"include_usage": true})), Some(StreamOptions { include_usage: true }));
    assert_eq!(read(&with("stream", json!(false))).unwrap().stream, None);
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    for (field, value) in [
        ("n", json!(2)),
        ("functions", json!([{}])),
        ("function_call", json!({"name": "f"})),
        ("tool_choice", json!({"type": "allowed_tools"})),
        ("logit_bias", json!({"1": 2})),
        ("logprobs", json!(true)),
        ("top_logprobs", json!(1)),
        ("modalities", json!(["text", "audio"])),
        ("audio", json!({"voice": "x"})),
        ("web_search_options", json!({"user_location": 1})),
        ("response_format", json!({"type": "grammar"})),
    ] {
        assert_eq!(refused(&with(field, value)), (field.into(), Some(UNSUPPORTED.into())), "{field}");
    }
}

#[test]
fn what_says_nothing_else_than_holds_anyway_is_taken() {
    for (field, value) in [
        ("n", json!(1)),
        ("tools", json!([])),
        ("tool_choice", json!("auto")),
        ("stop", json!(null)),
        ("top_p", json!(1)),
        ("presence_penalty", json!(0.0)),
        ("logprobs", json!(false)),
        ("modalities", json!(["text"])),
        ("response_format", json!({"type": "text"})),
        ("seed", json!(7)),
    ] {
        assert!(read(&with(field, value)).is_ok(), "{field}");
    }
}

#[test]
fn messages_that_cannot_be_passed_on_are_refused_at_their_place() {
    let message =
        |message: Value| refused(&with("messages", json!([{"role": "user", "content": "x"}, message])));
    let unsupported = |param: &str| (param.to_owned(), Some(UNSUPPORTED.to_owned()));
    assert_eq!(message(json!({"role": "function", "content": "x"})), unsupported("messages[1].role"));
    assert_eq!(
        message(json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "custom"}]})),
        unsupported("messages[1].tool_calls[0].type")
    );
    let sound = json!([{"type": "text", "text": "x"}, {"type": "input_audio", "input_audio": {}}]);
    assert_eq!(message(json!({"role": "user", "content": sound})), unsupported("messages[1].content[1]"));
    let invalid = |param: &str| (param.to_owned(), None);
    assert_eq!(message(json!({"role": "tool", "content": "x"})), invalid("messages[1].tool_call_id"));
    for url in ["x", "data:image/png,x", "data:image/png;base64,?", "file:///etc/passwd"] {
        let image = json!([{"type": "image_url", "image_url": {"url": url}}]);
        let at = invalid("messages[1].content[0].image_url.url");
        assert_eq!(message(json!({"role": "user", "content": image})), at, "{url}");
    }
    assert_eq!(message(json!({"role": "wizard", "content": "x"})), invalid("messages[1].role"));
    assert_eq!(message(json!({"role": "user"})), invalid("messages[1].content"));
    assert_eq!(message(json!({"role": "user", "content": []})), invalid("messages[1].content"));
    assert_eq!(
        message(json!({"role": "user", "content": [{"type": "text"}]})),
        invalid("messages[1].content[0].text")
    );
}

#[test]
fn what_is_missing_or_of_another_type_is_named() {
    assert_eq!(refused(&json!({"messages": [{"role": "user", "content": "x"}]})).0, "model");
    assert_eq!(refused(&json!({"model": "m"})).0, "messages");
    assert_eq!(refused(&with("messages", json!([]))).0, "messages");
    assert_eq!(refused(&with("temperature", json!("warm"))).0, "temperature");
    assert_eq!(refused(&with("max_tokens", json!(-1))).0, "max_tokens");
    assert_eq!(refused(&with("messages", json!([{"role": "user", "content": 7}]))).0, "messages[0].content");
    assert_eq!(refused(&json!("x")).0, "");
    assert!(chat(b"{\"model\": ").unwrap_err().message().contains("no JSON"));
    assert!(chat(&[0xff, 0xfe]).is_err());
}

#[test]
fn messages_over_the_limit_are_too_large() {
    let error =
        read(&with("messages", json!([{"role": "user", "content": "x".repeat(limits::INPUT_BYTES + 1)}])));
    assert_eq!(error.unwrap_err()["code"], "request_too_large");
}

#[test]
fn tools_and_their_calls_and_results_become_those_of_the_broker() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}});
    let mut signed = call.clone();
    signed["extra_content"] = json!({"google": {"thought_signature": "s"}});
    let asked = read(&json!({
        "model": "m",
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [call, signed]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "7"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2.50}, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": false,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        "stop": "END", "top_p": 0.5, "seed": 7, "presence_penalty": 0.5, "frequency_penalty": -0.5,
    }))
    .unwrap()
    .request;
    let calls = &asked.messages[1].tool_calls;
    assert_eq!((calls[0].id.as_str(), calls[0].arguments.as_str()), ("c1", "{\"a\": 1}"));
    assert_eq!((calls[0].signature.as_str(), calls[1].signature.as_str()), ("", "s"));
    let result = &asked.messages[2];
    assert_eq!((result.role(), result.content.as_str()), (v1::ChatRole::Tool, "7"));
    assert_eq!(result.tool_call_id, "c1");
    // As it was written: the order of fields matters to models.
    assert_eq!(asked.tools[0].parameters, json!({"z": 1, "a": 2.50}).to_string());
    assert_eq!(asked.tool_choice.unwrap().name, "f");
    assert_eq!(asked.schema.unwrap().schema, "{\"type\":\"object\"}");
    assert_eq!((asked.stop, asked.top_p, asked.seed), (vec!["END".to_owned()], Some(0.5), Some(7)));
    assert_eq!((asked.presence_penalty, asked.frequency_penalty), (Some(0.5), Some(-0.5)));
    assert_eq!(asked.parallel_tool_calls, Some(false));
}

#[test]
fn images_become_parts_and_texts_alone_stay_one_text() {
    let images = json!([
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AQID"}},
    ]);
    let asked = read(&with("messages", json!([{"role": "user", "content": images}]))).unwrap().request;
    let parts: Vec<_> = asked.messages[0].parts.iter().map(|part| part.part.clone().unwrap()).collect();
    let image = |source, media_type: &str, detail: &str| {
        let (media_type, detail) = (media_type.to_owned(), detail.to_owned());
        v1::chat_part::Part::Image(v1::ChatImage { source: Some(source), media_type, detail })
    };
    let url = v1::chat_image::Source::Url("https://x/y.png".into());
    let data = v1::chat_image::Source::Data(vec![1, 2, 3].into());
    let text = v1::chat_part::Part::Text("what?".into());
    assert_eq!(parts, [text, image(url, "", "low"), image(data, "image/jpeg", "")]);
    assert_eq!(asked.messages[0].content, "");
}
