//! `POST /v1/chat/completions`, in one piece and as a stream.

use super::fault::Fault;
use super::http::Call;
use super::openai::{error, error_body};
use super::steps::{Script, stream, words};
use axum::Json;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

const CREATED: u64 = 1_700_000_000;

/// What is answered.
struct Answer {
    model: String,
    text: String,
    finish_reason: &'static str,
    usage: Value,
}

pub(super) fn answer(call: Call) -> Response {
    let Some((model, last)) = read(&call.body) else {
        call.flight.land();
        return error(400, "you must provide a model and messages", "invalid_request_error", None);
    };
    let text = call.state.next_answer().unwrap_or_else(|| echo(&call.body, &last));
    let filtered = call.fault == Some(Fault::ContentFilterFinish);
    let (input, output) = (words(&prompt(&call.body)), words(&text));
    let answer = Answer {
        model,
        text,
        finish_reason: if filtered { "content_filter" } else { "stop" },
        usage: json!({
            "prompt_tokens": input,
            "completion_tokens": output,
            "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }),
    };
    if call.body["stream"] == json!(true) {
        let with_usage = call.body["stream_options"]["include_usage"] == json!(true);
        let steps = script(&answer, with_usage, |script| script.steps(call.fault.as_ref()));
        stream("text/event-stream; charset=utf-8", steps, call.flight)
    } else {
        let response = whole(&answer, call.fault == Some(Fault::EmptyChoices));
        call.flight.land();
        response
    }
}

fn read(body: &Value) -> Option<(String, String)> {
    let model = body.get("model")?.as_str().filter(|m| !m.is_empty())?;
    let messages = body.get("messages")?.as_array().filter(|m| !m.is_empty())?;
    let last = messages.iter().rev().find(|m| m["role"] == "user").unwrap_or(&Value::Null);
    Some((model.to_owned(), last["content"].as_str().unwrap_or_default().to_owned()))
}

fn prompt(body: &Value) -> String {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().filter_map(|m| m["content"].as_str()).collect::<Vec<_>>().join("\n")
}

fn echo(body: &Value, last: &str) -> String {
    if body["response_format"]["type"] == "json_object" {
        json!({"fake": last}).to_string()
    } else {
        format!("fake: {last}")
    }
}

fn whole(answer: &Answer, empty: bool) -> Response {
    let choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "refusal": null, "annotations": []},
        "logprobs": null,
        "finish_reason": answer.finish_reason,
    });
    Json(json!({
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": CREATED,
        "model": answer.model,
        "choices": if empty { vec![] } else { vec![choice] },
        "usage": answer.usage,
        "service_tier": "default",
        "system_fingerprint": null,
    }))
    .into_response()
}

/// What is streamed: the role, the text word by word, the finish reason, the usage, the end.
fn script<T>(answer: &Answer, with_usage: bool, play: impl FnOnce(Script<'_>) -> T) -> T {
    let data = |value: Value| Bytes::from(format!("data: {value}\n\n"));
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": "chatcmpl-fake",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": answer.model,
            "service_tier": "default",
            "system_fingerprint": null,
            "choices": choices,
        });
        if with_usage {
            chunk["usage"] = usage;
        }
        data(chunk)
    };
    let choice = |delta: Value, finish: Value| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), Value::Null)
    };
    let mut tail = vec![choice(json!({}), json!(answer.finish_reason))];
    if with_usage {
        tail.push(chunk(json!([]), answer.usage.clone()));
    }
    tail.push(Bytes::from_static(b"data: [DONE]\n\n"));
    play(Script {
        head: vec![choice(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null)],
        text: &answer.text,
        word: &|word| choice(json!({"content": word}), Value::Null),
        tail,
        error: data(error_body("The server had an error.", "server_error", None)),
        ping: None,
    })
}
