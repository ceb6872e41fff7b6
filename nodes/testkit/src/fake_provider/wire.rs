//! The wires that are spoken: where each has its key, and how it refuses.

use super::fault::{Endpoint, Fault};
use super::{anthropic, gemini, ollama, openai};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use serde_json::Value;

/// A provider's wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    OpenAi,
    Anthropic,
    Gemini,
    Ollama,
}

impl Endpoint {
    pub(super) fn wire(self) -> Wire {
        match self {
            Self::Chat | Self::Images | Self::Models | Self::Embeddings => Wire::OpenAi,
            Self::Messages => Wire::Anthropic,
            Self::GenerateContent => Wire::Gemini,
            Self::OllamaChat | Self::OllamaTags | Self::OllamaEmbed => Wire::Ollama,
        }
    }
}

impl Wire {
    /// The key of a request; empty without one.
    pub(super) fn key(self, headers: &HeaderMap) -> String {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let own = |name| text(header::HeaderName::from_static(name)).unwrap_or_default().into_owned();
        match self {
            Self::OpenAi | Self::Ollama => {
                let value = text(header::AUTHORIZATION).unwrap_or_default();
                value.strip_prefix("Bearer ").unwrap_or_default().to_owned()
            }
            Self::Anthropic => own("x-api-key"),
            Self::Gemini => own("x-goog-api-key"),
        }
    }

    /// The answer a fault makes, if the endpoint has no say in it.
    pub(super) fn refusal(self, fault: &Fault, key: &str) -> Option<Response> {
        match self {
            Self::OpenAi => openai::refusal(fault, key),
            Self::Anthropic => anthropic::refusal(fault, key),
            Self::Gemini => gemini::refusal(fault, key),
            Self::Ollama => ollama::refusal(fault, key),
        }
    }

    /// The answer to a request with this wrong key.
    pub(super) fn bad_key(self, key: &str) -> Response {
        match self {
            Self::OpenAi => openai::bad_key(key),
            Self::Anthropic => anthropic::bad_key(key),
            Self::Gemini => gemini::bad_key(key),
            Self::Ollama => ollama::bad_key(key),
        }
    }

    /// The answer to a body that is no JSON.
    pub(super) fn no_json(self) -> Response {
        let message = "We could not parse the JSON body of your request.";
        match self {
            Self::OpenAi => openai::error(400, message, "invalid_request_error", None),
            Self::Anthropic => anthropic::error(400, message),
            Self::Gemini => gemini::error(400, message, Value::Null),
            Self::Ollama => ollama::error(400, message),
        }
    }

    /// The beginning of an answer.
    pub(super) fn half_an_answer(self) -> &'static str {
        match self {
            Self::OpenAi => r#"{"id":"chatcmpl-1","choices":[{"ind"#,
            Self::Anthropic => r#"{"id":"msg_1","type":"message","content":[{"ty"#,
            Self::Gemini => r#"{"candidates":[{"content":{"par"#,
            Self::Ollama => r#"{"model":"m","mess"#,
        }
    }
}
