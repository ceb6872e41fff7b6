//! `POST /v1/images/generations`.

use super::fault::Fault;
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
