//! `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent?alt=sse`: the wire of Gemini.
//!
//! As strict as the real one in what it takes: unknown fields, other roles and empty turns are refused.

use super::fault::Fault;
use super::http::{Call, raw};
use super::steps::{Script, stream, words};
use super::tools::{self, seen};
use axum::Json;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// What of the output is said to have been thought.
const THOUGHTS: usize = 1;

/// What may be asked of how a text is made.
const CONFIG: [&str; 11] = [
    "maxOutputTokens",
    "temperature",
    "topP",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "stopSequences",
    "responseMimeType",
    "responseJsonSchema",
    "responseModalities",
    "imageConfig",
];

/// What is asked for.
struct Asked {
    model: String,
    streams: bool,
    last: String,
    json: bool,
}

pub(super) fn answer(call: Call) -> Response {
    if call.path.ends_with(":batchEmbedContents") {
        return super::embeddings::gemini(call);
    }
    if call.path.ends_with(":predict") {
        return super::images::imagen(call);
    }
    let asked = match read(&call.path, &call.body) {
        Ok(asked) => asked,
        Err(wrong) => {
            call.flight.land();
            return error(400, &wrong, Value::Null);
        }
    };
    if call.body["generationConfig"]["responseModalities"].is_array() {
        return super::images::gemini(call, &asked.model);
    }
    let last = &asked.last;
    let echo = || if asked.json { json!({"fake": last}).to_string() } else { format!("fake: {last}") };
    let calls = called(&call.body);
    let text = match calls.is_empty() {
        true => call.state.next_answer().unwrap_or_else(echo),
        false => String::new(),
    };
    // The first call of a turn has a signature, and none has an id.
    let call_part = |(i, call): (usize, &tools::Call)| {
        let mut part = json!({"functionCall": {"name": call.name, "args": tools::Call::arguments(last)}});
        if i == 0 {
            part["thoughtSignature"] = json!("signed");
        }
        part
    };
    let (input, output) = (prompt(&call.body), words(&text));
    let usage = |output: usize| {
        json!({
            "promptTokenCount": input,
            "cachedContentTokenCount": 1,
            "candidatesTokenCount": output - THOUGHTS.min(output),
            "thoughtsTokenCount": THOUGHTS.min(output),
            "totalTokenCount": input + output,
        })
    };
    let piece = |candidates: Value, usage: Value| {
        json!({
            "candidates": candidates,
            "usageMetadata": usage,
            "modelVersion": asked.model,
            "responseId": "fake",
        })
    };
    let said = |part: Value| json!([{"content": {"parts": [part], "role": "model"}, "index": 0}]);
    let event = |data: Value| Bytes::from(format!("data: {data}\r\n\r\n"));
    let reason = if call.fault == Some(Fault::ContentFilterFinish) { "SAFETY" } else { "STOP" };
    let blocked = blocked(input, &asked.model);
    if asked.streams {
        let blocks = call.fault == Some(Fault::ContentFilter);
        let script = Script {
            head: vec![event(piece(said(json!({"text": "hm", "thought": true})), usage(THOUGHTS)))],
            text: &text,
            word: &|word| event(piece(said(json!({"text": word})), usage(THOUGHTS))),
            calls: calls
                .iter()
                .enumerate()
                .map(|c| event(piece(said(call_part(c)), usage(THOUGHTS))))
                .collect(),
            tail: vec![event(piece(
                json!([{"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": reason, "index": 0}]),
                usage(output),
            ))],
            error: event(error_body(503, "The model is overloaded. Please try again later.", Value::Null)),
            ping: None,
        };
        let script = if blocks {
            Script { head: vec![event(blocked)], text: "", calls: Vec::new(), tail: Vec::new(), ..script }
        } else {
            script
        };
        return stream("text/event-stream", script.steps(call.fault.as_ref()), call.flight);
    }
    let answer = match &call.fault {
        Some(Fault::ContentFilter) => blocked,
        Some(Fault::EmptyChoices) => piece(json!([]), usage(0)),
        Some(Fault::ContentFilterFinish) => piece(json!([{"finishReason": reason, "index": 0}]), usage(0)),
        _ => {
            let mut parts = vec![json!({"text": "hm", "thought": true})];
            match calls.is_empty() {
                true => parts.push(json!({ "text": text })),
                false => parts.extend(calls.iter().enumerate().map(call_part)),
            }
            let content = json!({"parts": parts, "role": "model"});
            piece(json!([{"content": content, "finishReason": reason, "index": 0}]), usage(output))
        }
    };
    call.flight.land();
    Json(answer).into_response()
}

/// The answer to a prompt that a filter blocked.
pub(super) fn blocked(input: usize, model: &str) -> Value {
    json!({
        "promptFeedback": {"blockReason": "SAFETY", "safetyRatings": []},
        "usageMetadata": {"promptTokenCount": input, "totalTokenCount": input},
        "modelVersion": model,
    })
}

/// What is asked for, or what is wrong with it.
fn read(path: &str, body: &Value) -> Result<Asked, String> {
    let path = path.strip_prefix("/v1beta/models/").unwrap_or_default();
    let (model, method) = path.split_once(':').ok_or("no method")?;
    let streams = match method {
        "generateContent" => false,
        "streamGenerateContent?alt=sse" => true,
        _ => return Err(format!("no such method: {method}")),
    };
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let unknown = |fields: &Map<String, Value>, known: &[&str]| {
        fields
            .keys()
            .find(|name| !known.contains(&name.as_str()))
            .map(|name| format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot find field."))
    };
    let config = fields(&body["generationConfig"]);
    let wrong =
        unknown(&fields(body), &["contents", "systemInstruction", "generationConfig", "tools", "toolConfig"])
            .or_else(|| unknown(&config, &CONFIG));
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if config.get("temperature").is_some_and(|t| t.as_f64().is_none_or(|t| !(0.0..=2.0).contains(&t))) {
        return Err("temperature must be in the range [0.0, 2.0]".into());
    }
    let contents =
        body["contents"].as_array().filter(|c| !c.is_empty()).ok_or("contents is not specified")?;
    let mut last = String::new();
    let mut calls = 0;
    for content in contents {
        let parts = content["parts"].as_array().filter(|parts| !parts.is_empty());
        let parts = parts.ok_or("contents.parts must not be empty")?;
        let count = |name: &str| parts.iter().filter(|part| part[name].is_object()).count();
        if count("functionResponse") != calls {
            return Err("Please ensure that the number of function response parts is equal to the number of function \
                        call parts of the function call turn.".into());
        }
        calls = count("functionCall");
        match content["role"].as_str() {
            Some("user") => last = text_of(content),
            Some("model") => {}
            _ => return Err("Please use a valid role: user, model.".into()),
        }
    }
    let json = config.get("responseMimeType").is_some_and(|kind| kind == "application/json");
    Ok(Asked { model: model.to_owned(), streams, last, json })
}

/// The text of a content, and how many images it has.
fn text_of(content: &Value) -> String {
    let parts = content["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |part: &Value| match &part["functionResponse"]["response"] {
        Value::Null => part["text"].as_str().map(str::to_owned),
        response => Some(response["output"].as_str().map_or_else(|| response.to_string(), str::to_owned)),
    };
    let texts = parts.iter().filter_map(text).collect::<Vec<_>>().join(" ");
    let images = parts.iter().filter(|part| part["inlineData"].is_object() || part["fileData"].is_object());
    seen(texts, images.count())
}

/// The tools that are called.
fn called(body: &Value) -> Vec<tools::Call> {
    let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let answered = contents.last().is_some_and(|c| c["parts"][0]["functionResponse"].is_object());
    let config = &body["toolConfig"]["functionCallingConfig"];
    if answered || config["mode"] == "NONE" {
        return Vec::new();
    }
    let offered = body["tools"][0]["functionDeclarations"].as_array().map(Vec::as_slice).unwrap_or_default();
    let offered = offered.iter().filter_map(|tool| tool["name"].as_str());
    tools::called(offered, config["allowedFunctionNames"][0].as_str(), false, contents.len())
}

/// The tokens of the prompt.
pub(super) fn prompt(body: &Value) -> usize {
    let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parts = contents.iter().chain([&body["systemInstruction"]]).filter_map(|c| c["parts"].as_array());
    parts.flatten().filter_map(|part| part["text"].as_str()).map(words).sum()
}

/// The answer a fault makes, if the endpoint has no say in it.
pub(super) fn refusal(fault: &Fault, key: &str) -> Option<Response> {
    Some(match fault {
        Fault::Quota | Fault::TierCap => limit(&["PerMinute", "PerDay"], Some(36)),
        Fault::RateLimit { retry_after } => limit(&["PerMinute"], *retry_after),
        Fault::Overloaded => error(503, "The model is overloaded. Please try again later.", Value::Null),
        Fault::ServerFault { status } => error(*status, "An internal error has occurred.", Value::Null),
        Fault::BadKey => bad_key(key),
        Fault::ContextTooLong => error(
            400,
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            Value::Null,
        ),
        Fault::NoSuchModel => {
            error(404, "models/m is not found for API version v1beta, or is not supported.", Value::Null)
        }
        _ => return None,
    })
}

/// A limit was passed, or several.
fn limit(spans: &[&str], retry_after: Option<u64>) -> Response {
    let violation = |span| {
        json!({
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
            "quotaId": format!("GenerateRequests{span}PerProjectPerModel-FreeTier"),
            "quotaDimensions": {"location": "global", "model": "fake-text"},
        })
    };
    let violations: Vec<_> = spans.iter().map(violation).collect();
    let mut details = vec![
        json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}),
        json!({"@type": "type.googleapis.com/google.rpc.Help", "links": []}),
    ];
    details.extend(retry_after.map(
        |seconds| json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")}),
    ));
    let message = "You exceeded your current quota, please check your plan and billing details.";
    error(429, message, json!(details))
}

pub(super) fn bad_key(key: &str) -> Response {
    let details = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }]);
    // The real one does not repeat the key; what is between us and it may.
    error(400, &format!("API key not valid. Please pass a valid API key: {key}."), details)
}

pub(super) fn error(status: u16, message: &str, details: Value) -> Response {
    raw(
        status,
        "application/json; charset=UTF-8",
        error_body(status, message, details).to_string().into_bytes(),
    )
}

fn error_body(code: u16, message: &str, details: Value) -> Value {
    let status = match code {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    let mut error = json!({"code": code, "message": message, "status": status});
    if !details.is_null() {
        error["details"] = details;
    }
    json!({"error": error})
}
