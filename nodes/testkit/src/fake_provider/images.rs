//! Images: `POST /v1/images/generations`, and for Gemini `:generateContent` with an image among what is asked for, and
//! `:predict`.

use super::fault::Fault;
use super::gemini;
use super::http::Call;
use super::openai::error;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A PNG of one pixel, in base64.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

pub(super) fn answer(call: Call) -> Response {
    let asked =
        |field: &str| call.body.get(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let response = if !asked("prompt") || !asked("model") {
        error(400, "You must provide a model and a prompt.", "invalid_request_error", None)
    } else if call.fault == Some(Fault::EmptyChoices) {
        Json(json!({"created": 1_700_000_000, "data": []})).into_response()
    } else {
        Json(json!({
            "created": 1_700_000_000,
            "data": [{"b64_json": PIXEL}],
            "usage": {"input_tokens": 12, "output_tokens": 34, "total_tokens": 46},
        }))
        .into_response()
    };
    call.flight.land();
    response
}

/// The shapes that a model of Gemini's makes, of which Imagen's make the first.
const SHAPES: [&str; 10] = ["1:1", "3:4", "4:3", "9:16", "16:9", "2:3", "3:2", "4:5", "5:4", "21:9"];
const IMAGEN_SHAPES: usize = 5;

fn refuse(call: Call, message: &str) -> Response {
    call.flight.land();
    gemini::error(400, message, Value::Null)
}

/// `POST /v1beta/models/{model}:generateContent` where images may be in the answer.
pub(super) fn gemini(call: Call, model: &str) -> Response {
    let config = &call.body["generationConfig"];
    if config["responseModalities"] != json!(["TEXT", "IMAGE"]) {
        return refuse(
            call,
            "The requested combination of response modalities is not supported by the model.",
        );
    }
    let shape = &config["imageConfig"]["aspectRatio"];
    if !shape.is_null() && shape.as_str().is_none_or(|shape| !SHAPES.contains(&shape)) {
        return refuse(call, "aspect_ratio must be one of the supported values.");
    }
    let input = gemini::prompt(&call.body);
    let usage = json!({
        "promptTokenCount": input,
        "candidatesTokenCount": 1290,
        "totalTokenCount": input + 1290,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
    });
    let candidates = match &call.fault {
        Some(Fault::EmptyChoices) => json!([]),
        Some(Fault::ContentFilterFinish) => json!([{
            "finishReason": "IMAGE_SAFETY",
            "finishMessage": "Unable to show the generated image.",
            "index": 0,
        }]),
        _ => json!([{
            "content": {"role": "model", "parts": [
                {"text": "Here is your image:"},
                {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
            ]},
            "finishReason": "STOP",
            "index": 0,
        }]),
    };
    let answer = match &call.fault {
        Some(Fault::ContentFilter) => gemini::blocked(input, model),
        _ => json!({
            "candidates": candidates, "usageMetadata": usage, "modelVersion": model, "responseId": "fake",
        }),
    };
    call.flight.land();
    Json(answer).into_response()
}

/// `POST /v1beta/models/{model}:predict`, as of Imagen's models.
pub(super) fn imagen(call: Call) -> Response {
    let prompt = call.body["instances"][0]["prompt"].as_str().is_some_and(|prompt| !prompt.is_empty());
    let parameters = &call.body["parameters"];
    let shapes = SHAPES.get(..IMAGEN_SHAPES).unwrap_or_default();
    let shape = parameters["aspectRatio"].as_str().is_none_or(|shape| shapes.contains(&shape));
    if !prompt || !shape || parameters["sampleCount"] != 1 {
        return refuse(call, "Invalid argument: a prompt, a sampleCount and a known aspectRatio are needed.");
    }
    let reason = "Unable to show generated images. All images were filtered out because they violated Google's \
                  Responsible AI practices.";
    let response = match &call.fault {
        Some(Fault::ContentFilter) => gemini::error(
            400,
            "The prompt could not be submitted. It contains words that violate Google's Responsible AI practices.",
            Value::Null,
        ),
        Some(Fault::ContentFilterFinish) if parameters["includeRaiReason"] == true => {
            Json(json!({"predictions": [{"raiFilteredReason": reason}]})).into_response()
        }
        // What was withheld is not there.
        Some(Fault::ContentFilterFinish | Fault::EmptyChoices) => Json(json!({})).into_response(),
        _ => Json(json!({"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": PIXEL}]}))
            .into_response(),
    };
    call.flight.land();
    response
}
