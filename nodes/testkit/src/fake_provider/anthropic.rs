//! `POST /v1/messages`: the wire of Anthropic, in one piece and as a stream.
//!
//! As strict as the real one in what it takes: unknown fields, a missing `max_tokens` or version, empty messages
//! and other roles are refused.

use super::fault::Fault;
use super::http::{Call, raw};
use super::steps::{Script, stream, words};
use super::tools::{self, halves, seen};
use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

const VERSION: &str = "2023-06-01";
const FIELDS: [&str; 11] = [
    "model",
    "max_tokens",
    "messages",
    "system",
    "temperature",
    "stream",
    "top_p",
    "stop_sequences",
    "tools",
    "tool_choice",
    "output_config",
];
/// How much of a prompt is said to have come from a cache.
const CACHED: usize = 1;

pub(super) fn answer(call: Call) -> Response {
    let last = match read(&call.headers, &call.body) {
        Ok(last) => last,
        Err(wrong) => {
            call.flight.land();
            return error(400, &wrong);
        }
    };
    let schema = call.body["output_config"]["format"]["schema"].is_object();
    let json = schema || call.body["system"].as_str().is_some_and(|system| system.contains("JSON"));
    let echo = || if json { json!({"fake": last}).to_string() } else { format!("fake: {last}") };
    let calls = called(&call.body);
    let text = match calls.is_empty() {
        true => call.state.next_answer().unwrap_or_else(echo),
        false => String::new(),
    };
    let arguments = tools::Call::arguments(&last);
    let stop_reason = match (call.fault == Some(Fault::ContentFilterFinish), calls.is_empty()) {
        (true, _) => "refusal",
        (false, true) => "end_turn",
        (false, false) => "tool_use",
    };
    let input = prompt(&call.body).map(|text| words(&text)).sum::<usize>();
    let usage = |output: usize| {
        json!({
            "input_tokens": input - CACHED.min(input),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": CACHED.min(input),
            "output_tokens": output,
            "service_tier": "standard",
        })
    };
    let mut message = json!({
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": call.body["model"],
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage(1),
    });
    if call.body["stream"] == json!(true) {
        let output = words(&text);
        let steps = Script {
            head: vec![
                event("message_start", json!({"message": message})),
                event(
                    "content_block_start",
                    json!({"index": 0, "content_block": {"type": "text", "text": ""}}),
                ),
                event("ping", json!({})),
            ],
            text: &text,
            word: &|word| {
                let delta = json!({"index": 0, "delta": {"type": "text_delta", "text": word}});
                [event("content_block_delta", delta), event("ping", json!({}))].concat().into()
            },
            calls: calls.iter().enumerate().map(|(i, call)| in_pieces(i + 1, call, &arguments)).collect(),
            tail: vec![
                event("content_block_stop", json!({"index": 0})),
                event(
                    "message_delta",
                    json!({
                        "delta": {"stop_reason": stop_reason, "stop_sequence": null},
                        "usage": {"output_tokens": output},
                    }),
                ),
                event("message_stop", json!({})),
            ],
            error: event("error", error_body("overloaded_error", "Overloaded", Value::Null)),
            ping: Some(event("ping", json!({}))),
        }
        .steps(call.fault.as_ref());
        return stream("text/event-stream; charset=utf-8", steps, call.flight);
    }
    if call.fault != Some(Fault::EmptyChoices) {
        let used = |call: &tools::Call| json!({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments});
        message["content"] = match calls.is_empty() {
            true => json!([{"type": "text", "text": text}]),
            false => calls.iter().map(used).collect(),
        };
    }
    message["stop_reason"] = json!(stop_reason);
    message["usage"] = usage(words(&text));
    call.flight.land();
    Json(message).into_response()
}

/// The events of a tool that is called. The first piece of its arguments is empty, as the real one has it.
fn in_pieces(index: usize, call: &tools::Call, arguments: &Value) -> Bytes {
    let arguments = arguments.to_string();
    let (first, second) = halves(&arguments);
    let block = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
    let delta = |part: &str| {
        let delta = json!({"type": "input_json_delta", "partial_json": part});
        event("content_block_delta", json!({"index": index, "delta": delta}))
    };
    [
        event("content_block_start", json!({"index": index, "content_block": block})),
        delta(""),
        delta(first),
        delta(second),
        event("content_block_stop", json!({"index": index})),
    ]
    .concat()
    .into()
}

/// The tools that are called.
fn called(body: &Value) -> Vec<tools::Call> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let answered = messages.last().is_some_and(|m| m["content"][0]["type"] == "tool_result");
    let choice = &body["tool_choice"];
    if answered || choice["type"] == "none" {
        return Vec::new();
    }
    let offered = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let offered = offered.iter().filter_map(|tool| tool["name"].as_str());
    tools::called(
        offered,
        choice["name"].as_str(),
        choice["disable_parallel_tool_use"] == json!(true),
        messages.len(),
    )
}

fn event(name: &str, mut data: Value) -> Bytes {
    data["type"] = json!(name);
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// The last message of the user, or what is wrong.
fn read(headers: &HeaderMap, body: &Value) -> Result<String, String> {
    if headers.get("anthropic-version").is_none_or(|version| version != VERSION) {
        return Err("anthropic-version: header is required".into());
    }
    let fields = body.as_object().ok_or("body: Input should be an object")?;
    if let Some(extra) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(format!("{extra}: Extra inputs are not permitted"));
    }
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err("model: Field required".into());
    }
    if body["max_tokens"].as_u64().is_none_or(|n| n == 0) {
        return Err("max_tokens: Field required".into());
    }
    if body.get("temperature").is_some_and(|t| t.as_f64().is_none_or(|t| !(0.0..=1.0).contains(&t))) {
        return Err("temperature: range: 0..1".into());
    }
    if body.get("temperature").is_some() && body.get("top_p").is_some() {
        return Err("`temperature` and `top_p` cannot both be specified for this model.".into());
    }
    for tool in body["tools"].as_array().into_iter().flatten() {
        if tool["name"].as_str().is_none_or(str::is_empty) || tool["input_schema"]["type"] != "object" {
            return Err("tools.0.custom.input_schema: Field required".into());
        }
    }
    if body.get("system").is_some_and(|s| s.as_str().is_none_or(str::is_empty)) {
        return Err("system: text content blocks must be non-empty".into());
    }
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if messages.is_empty() {
        return Err("messages: at least one message is required".into());
    }
    for message in messages {
        if !matches!(message["role"].as_str(), Some("user" | "assistant")) {
            return Err("messages: Unexpected role".into());
        }
        let blocks = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        if message["content"]
            .as_str()
            .map_or(blocks.is_empty() || !blocks.iter().all(is_block), str::is_empty)
        {
            return Err("messages: text content blocks must be non-empty".into());
        }
    }
    for pair in messages.windows(2) {
        let of = |message: &Value, kind: &str, id: &str| -> Vec<Value> {
            let blocks = message["content"].as_array().cloned().unwrap_or_default();
            blocks.into_iter().filter(|b| b["type"] == kind).map(|b| b[id].clone()).collect()
        };
        if of(&pair[0], "tool_use", "id") != of(&pair[1], "tool_result", "tool_use_id") {
            return Err(
                "messages: `tool_use` ids were found without `tool_result` blocks immediately after".into()
            );
        }
    }
    Ok(messages.iter().rev().find(|m| m["role"] == "user").map(text_of).unwrap_or_default())
}

/// Whether a block is as the API wants it.
fn is_block(block: &Value) -> bool {
    let text = |name: &str| block[name].as_str().is_some_and(|text| !text.is_empty());
    match block["type"].as_str() {
        Some("text") => text("text"),
        Some("tool_use") => text("id") && text("name") && block["input"].is_object(),
        Some("tool_result") => text("tool_use_id"),
        Some("image") => matches!(block["source"]["type"].as_str(), Some("base64" | "url")),
        _ => false,
    }
}

/// The text of a message, and how many images it has.
fn text_of(message: &Value) -> String {
    let blocks = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = blocks.iter().filter_map(|block| block["text"].as_str().or(block["content"].as_str()));
    let texts = texts.collect::<Vec<_>>().join(" ");
    let images = blocks.iter().filter(|block| block["type"] == "image").count();
    message["content"].as_str().map_or_else(|| seen(texts, images), str::to_owned)
}

fn prompt(body: &Value) -> impl Iterator<Item = String> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    body["system"].as_str().map(str::to_owned).into_iter().chain(messages.iter().map(text_of))
}

/// The answer a fault makes, if the endpoint has no say in it.
pub(super) fn refusal(fault: &Fault, key: &str) -> Option<Response> {
    Some(match fault {
        Fault::Quota => error(402, "There is an issue with your billing or payment information."),
        Fault::SpendLimit => error(
            400,
            "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
        ),
        Fault::TierCap => {
            let details = json!({"error_code": "enforced_spend_limit_reached"});
            let message = "Your organization has reached its monthly usage limit.";
            json(429, &error_body("rate_limit_error", message, details))
        }
        Fault::RateLimit { retry_after } => {
            let mut response = error(429, "This request would exceed your account's rate limit.");
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, (*seconds).into());
            }
            response
        }
        Fault::Overloaded => error(529, "Overloaded"),
        Fault::ServerFault { status } => error(*status, "Internal server error"),
        Fault::BadKey => bad_key(key),
        Fault::ContentFilter => error(400, "Output blocked by content filtering policy"),
        Fault::ContextTooLong => error(400, "prompt is too long: 200001 tokens > 200000 maximum"),
        Fault::NoSuchModel => error(404, "model: no-such-model"),
        _ => return None,
    })
}

pub(super) fn bad_key(key: &str) -> Response {
    // The real one does not repeat the key; what is between us and it may.
    error(401, &format!("invalid x-api-key: {key}"))
}

/// An error of the type that belongs to the status.
pub(super) fn error(status: u16, message: &str) -> Response {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json(status, &error_body(kind, message, Value::Null))
}

fn error_body(kind: &str, message: &str, details: Value) -> Value {
    json!({
        "type": "error",
        "error": {"details": details, "type": kind, "message": message},
        "request_id": "req_fake",
    })
}

fn json(status: u16, body: &Value) -> Response {
    raw(status, "application/json", body.to_string().into_bytes())
}
