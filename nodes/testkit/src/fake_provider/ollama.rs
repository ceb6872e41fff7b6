//! `POST /api/chat` and `GET /api/tags`: the native wire of Ollama. It streams unless it is told not to.

use super::fault::Fault;
use super::http::{Call, raw};
use super::steps::{Script, stream, words};
use super::tools::{self, seen};
use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

const CREATED: &str = "2026-01-01T00:00:00.000000Z";
const FAILED: &str = "llama runner process has terminated: signal: killed";

pub(super) fn tags(call: Call) -> Response {
    let model = |name: &String| json!({"name": name, "model": name, "modified_at": CREATED, "size": 1});
    let models: Vec<_> = call.state.models.iter().map(model).collect();
    call.flight.land();
    Json(json!({"models": models})).into_response()
}

pub(super) fn answer(call: Call) -> Response {
    let last = match read(&call.body) {
        Ok(last) => last,
        Err(wrong) => {
            call.flight.land();
            return error(400, wrong);
        }
    };
    let json = call.body["format"] == "json" || call.body["format"].is_object();
    let echo = || if json { json!({"fake": last}).to_string() } else { format!("fake: {last}") };
    let calls = called(&call.body);
    let text = match calls.is_empty() {
        true => call.state.next_answer().unwrap_or_else(echo),
        false => String::new(),
    };
    // They have no ids, and come whole.
    let call_of = |call: &tools::Call| json!({"function": {"name": call.name, "arguments": tools::Call::arguments(&last)}});
    let part = |message: Value| json!({"model": call.body["model"], "created_at": CREATED, "message": message, "done": false});
    let said = |text: &str| part(json!({"role": "assistant", "content": text}));
    let done = |mut part: Value| {
        let end = json!({
            "done": true,
            "done_reason": "stop",
            "total_duration": 5,
            "load_duration": 1,
            "prompt_eval_count": prompt(&call.body),
            "prompt_eval_duration": 1,
            "eval_count": words(&text),
            "eval_duration": 3,
        });
        if let (Some(part), Value::Object(end)) = (part.as_object_mut(), end) {
            part.extend(end);
        }
        part
    };
    if call.body["stream"] == json!(false) {
        let mut answer = done(said(&text));
        if !calls.is_empty() {
            answer["message"]["tool_calls"] = calls.iter().map(call_of).collect();
        }
        if call.fault == Some(Fault::EmptyChoices)
            && let Some(answer) = answer.as_object_mut()
        {
            answer.remove("message");
        }
        call.flight.land();
        return Json(answer).into_response();
    }
    let line = |value: Value| Bytes::from(format!("{value}\n"));
    let steps = Script {
        head: vec![line(part(json!({"role": "assistant", "content": "", "thinking": "hm"})))],
        text: &text,
        word: &|word| line(said(word)),
        calls: calls
            .iter()
            .map(|call| {
                line(part(json!({"role": "assistant", "content": "", "tool_calls": [call_of(call)]})))
            })
            .collect(),
        tail: vec![line(done(said("")))],
        error: line(json!({"error": FAILED})),
        ping: None,
    }
    .steps(call.fault.as_ref());
    stream("application/x-ndjson", steps, call.flight)
}

/// The last message of the user, or what is wrong.
fn read(body: &Value) -> Result<String, &'static str> {
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err("model is required");
    }
    let messages =
        body["messages"].as_array().ok_or("json: cannot unmarshal into Go struct field messages")?;
    if messages.iter().any(|m| !matches!(m["role"].as_str(), Some("system" | "user" | "assistant" | "tool")))
    {
        return Err("invalid role, must be one of [\"system\" \"user\" \"assistant\" \"tool\"]");
    }
    let mut calls = messages.iter().filter_map(|m| m["tool_calls"].as_array()).flatten();
    if !calls.all(|call| call["function"]["arguments"].is_object()) {
        return Err(
            "json: cannot unmarshal string into Go struct field messages.tool_calls.function.arguments",
        );
    }
    let said = messages.iter().rev().take_while(|m| m["role"] == "tool").map(text_of).collect::<Vec<_>>();
    Ok(match said.is_empty() {
        true => messages.iter().rev().find(|m| m["role"] == "user").map(text_of).unwrap_or_default(),
        false => said.into_iter().rev().collect::<Vec<_>>().join(" "),
    })
}

/// The text of a message, and how many images it has.
fn text_of(message: &Value) -> String {
    let images = message["images"].as_array().map_or(0, Vec::len);
    seen(message["content"].as_str().unwrap_or_default().to_owned(), images)
}

/// The tools that are called.
fn called(body: &Value) -> Vec<tools::Call> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if messages.last().is_some_and(|m| m["role"] == "tool") {
        return Vec::new();
    }
    let offered = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    tools::called(
        offered.iter().filter_map(|tool| tool["function"]["name"].as_str()),
        None,
        false,
        messages.len(),
    )
}

/// The tokens of the prompt.
fn prompt(body: &Value) -> usize {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().filter_map(|m| m["content"].as_str()).map(words).sum()
}

/// The answer a fault makes, if the endpoint has no say in it.
pub(super) fn refusal(fault: &Fault, key: &str) -> Option<Response> {
    Some(match fault {
        Fault::RateLimit { retry_after } => {
            let mut response = error(429, "too many requests");
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, (*seconds).into());
            }
            response
        }
        // With both blanks, as the real one has it.
        Fault::Overloaded => error(503, "server busy, please try again.  maximum pending requests exceeded"),
        Fault::ServerFault { status } => error(*status, FAILED),
        Fault::BadKey => bad_key(key),
        Fault::NoSuchModel => error(404, "model 'm' not found"),
        Fault::ContextTooLong => error(400, "the input length exceeds the context length"),
        _ => return None,
    })
}

/// Only a gateway in front of it asks for a key.
pub(super) fn bad_key(key: &str) -> Response {
    error(401, &format!("unauthorized: {key}"))
}

pub(super) fn error(status: u16, message: &str) -> Response {
    raw(status, "application/json; charset=utf-8", json!({"error": message}).to_string().into_bytes())
}
