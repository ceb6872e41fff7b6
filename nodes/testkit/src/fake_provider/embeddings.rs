//! Embeddings on every wire: the vector of a text is its length in bytes and its words, and then halves.

use super::fault::Fault;
use super::http::Call;
use super::openai::error;
use super::steps::words;
use super::{gemini, ollama};
use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How many numbers a vector has where a request names no number.
const DIMENSIONS: u64 = 4;

fn vector(text: &str, dimensions: &Value) -> Vec<f32> {
    let numbers = [text.len() as f32, words(text) as f32].into_iter().chain(std::iter::repeat(0.5));
    numbers.take(usize::try_from(dimensions.as_u64().unwrap_or(DIMENSIONS)).unwrap_or(0)).collect()
}

/// The texts of a request: one or several, none empty.
fn texts(input: &Value) -> Option<Vec<&str>> {
    let texts: Vec<_> = match input {
        Value::String(text) => vec![text.as_str()],
        Value::Array(texts) => texts.iter().map(Value::as_str).collect::<Option<_>>()?,
        _ => return None,
    };
    (!texts.is_empty() && texts.iter().all(|text| !text.is_empty())).then_some(texts)
}

/// `POST /v1/embeddings`.
pub(super) fn openai(call: Call) -> Response {
    let response = match (call.body["model"].as_str(), texts(&call.body["input"])) {
        (Some(model), Some(texts)) => {
            let base64 = call.body["encoding_format"] == "base64";
            let form = |numbers: Vec<f32>| match base64 {
                true => {
                    json!(STANDARD.encode(numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>()))
                }
                false => json!(numbers),
            };
            let one = |(i, text): (usize, &&str)| {
                let embedding = form(vector(text, &call.body["dimensions"]));
                json!({"object": "embedding", "index": i, "embedding": embedding})
            };
            let mut data: Vec<_> = texts.iter().enumerate().map(one).collect();
            if call.fault == Some(Fault::EmptyChoices) {
                data.clear();
            }
            let tokens: usize = texts.iter().map(|text| words(text)).sum();
            let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
            Json(json!({"object": "list", "data": data, "model": model, "usage": usage})).into_response()
        }
        _ => error(400, "'$.input' is invalid.", "invalid_request_error", None),
    };
    call.flight.land();
    response
}

/// `POST /v1beta/models/{model}:batchEmbedContents`.
pub(super) fn gemini(call: Call) -> Response {
    let asked = call.body["requests"].as_array().map(Vec::as_slice).unwrap_or_default();
    let model =
        call.path.strip_prefix("/v1beta/").and_then(|path| path.split(':').next()).unwrap_or_default();
    let one = |request: &Value| {
        let text = request["content"]["parts"][0]["text"].as_str().filter(|text| !text.is_empty())?;
        let values = vector(text, &request["outputDimensionality"]);
        (request["model"] == model).then(|| json!({ "values": values }))
    };
    let embeddings: Option<Vec<_>> = asked.iter().map(one).collect();
    let response = match embeddings.filter(|embeddings| !embeddings.is_empty()) {
        Some(embeddings) => Json(json!({ "embeddings": embeddings })).into_response(),
        None => gemini::error(400, "requests are wrong: each needs the model and a text", Value::Null),
    };
    call.flight.land();
    response
}

/// `POST /api/embed`.
pub(super) fn ollama(call: Call) -> Response {
    let response = match (call.body["model"].as_str(), texts(&call.body["input"])) {
        (Some(model), Some(texts)) => {
            let vectors: Vec<_> = texts.iter().map(|text| vector(text, &call.body["dimensions"])).collect();
            let tokens: usize = texts.iter().map(|text| words(text)).sum();
            Json(json!({
                "model": model, "embeddings": vectors, "total_duration": 3, "load_duration": 1,
                "prompt_eval_count": tokens,
            }))
            .into_response()
        }
        _ => ollama::error(400, "invalid input type"),
    };
    call.flight.land();
    response
}
