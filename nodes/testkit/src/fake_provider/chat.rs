//! `POST /v1/chat/completions`, in one piece and as a stream.

use super::fault::Fault;
use super::http::{Call, error, error_body};
use super::state::Flight;
use axum::Json;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;

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
        stream(pieces(&answer, call.fault.as_ref(), with_usage), call.flight)
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

fn words(text: &str) -> usize {
    text.split_whitespace().count()
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

/// A step of a stream.
enum Step {
    Data(Bytes),
    Stall,
}

/// The steps of a stream: the role, the text word by word, the finish reason, the usage, the end.
fn pieces(answer: &Answer, fault: Option<&Fault>, with_usage: bool) -> VecDeque<Step> {
    let data = |value: Value| Step::Data(format!("data: {value}\n\n").into());
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
    let mut steps =
        VecDeque::from([choice(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null)]);
    let (limit, last) = match fault {
        Some(Fault::StreamCut { after_chunks }) => (*after_chunks, None),
        Some(Fault::StreamStall { after_chunks }) => (*after_chunks, Some(Step::Stall)),
        Some(Fault::StreamErrorMid { after_chunks }) => {
            (*after_chunks, Some(data(error_body("The server had an error.", "server_error", None))))
        }
        _ => (usize::MAX, None),
    };
    let words = answer.text.split_inclusive(' ');
    steps.extend(words.take(limit).map(|word| choice(json!({"content": word}), Value::Null)));
    if limit < usize::MAX {
        steps.extend(last);
        return steps;
    }
    steps.push_back(choice(json!({}), json!(answer.finish_reason)));
    if with_usage {
        steps.push_back(chunk(json!([]), answer.usage.clone()));
    }
    steps.push_back(Step::Data(Bytes::from_static(b"data: [DONE]\n\n")));
    steps
}

fn stream(steps: VecDeque<Step>, flight: Flight) -> Response {
    let body = futures::stream::unfold((steps, Some(flight)), |(mut steps, mut flight)| async move {
        let step = steps.pop_front();
        if steps.is_empty()
            && !matches!(step, Some(Step::Stall))
            && let Some(flight) = flight.take()
        {
            flight.land();
        }
        match step? {
            Step::Data(bytes) => Some((bytes, (steps, flight))),
            Step::Stall => std::future::pending().await,
        }
    });
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(body.map(Ok::<_, Infallible>))).into_response()
}
