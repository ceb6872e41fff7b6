//! `POST /v1/chat/completions`, in one piece and as a stream.

use super::fault::Fault;
use super::http::Call;
use super::openai::{error, error_body};
use super::steps::{Script, stream, words};
use super::tools::{self, halves, seen};
use axum::Json;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

const CREATED: u64 = 1_700_000_000;
/// How many tokens of each prompt were in a cache.
const CACHED: usize = 1;

/// What is answered.
struct Answer {
    model: String,
    text: String,
    calls: Vec<tools::Call>,
    arguments: String,
    finish_reason: &'static str,
    usage: Value,
}

pub(super) fn answer(call: Call) -> Response {
    let asked = read(&call.body);
    let (model, last) = match asked {
        Ok(asked) => asked,
        Err(wrong) => {
            call.flight.land();
            return error(400, wrong, "invalid_request_error", None);
        }
    };
    let calls = called(&call.body);
    let text = match calls.is_empty() {
        true => call.state.next_answer().unwrap_or_else(|| echo(&call.body, &last)),
        false => String::new(),
    };
    let filtered = call.fault == Some(Fault::ContentFilterFinish);
    let (input, output) = (words(&prompt(&call.body)), words(&text));
    let answer = Answer {
        model,
        text,
        finish_reason: match (filtered, calls.is_empty()) {
            (true, _) => "content_filter",
            (false, true) => "stop",
            (false, false) => "tool_calls",
        },
        calls,
        arguments: tools::Call::arguments(&last).to_string(),
        usage: json!({
            "prompt_tokens": input,
            "completion_tokens": output,
            "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": CACHED.min(input)},
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

/// The model, and what was said last, by the user or by tools; or what is wrong.
fn read(body: &Value) -> Result<(String, String), &'static str> {
    let missing = "you must provide a model and messages";
    let model = body["model"].as_str().filter(|m| !m.is_empty()).ok_or(missing)?;
    let messages = body["messages"].as_array().filter(|m| !m.is_empty()).ok_or(missing)?;
    if !body["tool_choice"].is_null() && body["tools"].as_array().is_none_or(Vec::is_empty) {
        return Err("'tool_choice' is only allowed when 'tools' are specified.");
    }
    let mut open: Vec<&Value> = Vec::new();
    for message in messages {
        if message["role"] == "tool" {
            let at = open.iter().position(|id| **id == message["tool_call_id"]);
            open.remove(at.ok_or(
                "messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
            )?);
        } else if !open.is_empty() {
            return Err("An assistant message with 'tool_calls' must be followed by tool messages.");
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let is_call = call["type"] == "function" && call["function"]["arguments"].is_string();
            open.push(call.get("id").filter(|_| is_call).ok_or("a tool call is wrong")?);
        }
    }
    let said = messages.iter().rev().take_while(|m| m["role"] == "tool").map(text_of).collect::<Vec<_>>();
    let last = match said.is_empty() {
        true => messages.iter().rev().find(|m| m["role"] == "user").map(text_of).unwrap_or_default(),
        false => said.into_iter().rev().collect::<Vec<_>>().join(" "),
    };
    Ok((model.to_owned(), last))
}

/// The text of a message, and how many images it has.
fn text_of(message: &Value) -> String {
    let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ");
    let images = parts.iter().filter(|part| part["image_url"]["url"].is_string()).count();
    message["content"].as_str().map_or_else(|| seen(texts, images), str::to_owned)
}

fn prompt(body: &Value) -> String {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().map(text_of).collect::<Vec<_>>().join("\n")
}

/// The tools that are called.
fn called(body: &Value) -> Vec<tools::Call> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let answered = messages.last().is_some_and(|m| m["role"] == "tool");
    if answered || body["tool_choice"] == "none" {
        return Vec::new();
    }
    let offered = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let offered = offered.iter().filter_map(|tool| tool["function"]["name"].as_str());
    let forced = body["tool_choice"]["function"]["name"].as_str();
    tools::called(offered, forced, body["parallel_tool_calls"] == json!(false), messages.len())
}

fn echo(body: &Value, last: &str) -> String {
    let schema = body["response_format"]["json_schema"]["schema"].is_object();
    if body["response_format"]["type"] == "json_object" || schema {
        json!({"fake": last}).to_string()
    } else {
        format!("fake: {last}")
    }
}

fn whole(answer: &Answer, empty: bool) -> Response {
    let mut message =
        json!({"role": "assistant", "content": answer.text, "refusal": null, "annotations": []});
    if !answer.calls.is_empty() {
        let call = |call: &tools::Call| {
            let function = json!({"name": call.name, "arguments": answer.arguments});
            json!({"id": call.id, "type": "function", "function": function})
        };
        message["content"] = Value::Null;
        message["tool_calls"] = answer.calls.iter().map(call).collect();
    }
    let choice = json!({
        "index": 0,
        "message": message,
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
    let piece = |piece: Value| choice(json!({"tool_calls": [piece]}), Value::Null);
    let calls = answer.calls.iter().enumerate().flat_map(|(i, call)| {
        let (first, second) = halves(&answer.arguments);
        let function = json!({"name": call.name, "arguments": ""});
        let begin = json!({"index": i, "id": call.id, "type": "function", "function": function});
        let more = |part: &str| json!({"index": i, "function": {"arguments": part}});
        [piece(begin), piece(more(first)), piece(more(second))]
    });
    let mut tail = vec![choice(json!({}), json!(answer.finish_reason))];
    if with_usage {
        tail.push(chunk(json!([]), answer.usage.clone()));
    }
    tail.push(Bytes::from_static(b"data: [DONE]\n\n"));
    play(Script {
        head: vec![choice(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null)],
        text: &answer.text,
        word: &|word| choice(json!({"content": word}), Value::Null),
        calls: calls.collect(),
        tail,
        error: data(error_body("The server had an error.", "server_error", None)),
        ping: None,
    })
}
