//! How OpenAI refuses.

use super::fault::Fault;
use super::http::raw;
use axum::http::header;
use axum::response::Response;
use serde_json::{Value, json};

/// The answer a fault makes, if the endpoint has no say in it.
pub(super) fn refusal(fault: &Fault, key: &str) -> Option<Response> {
    let invalid = "invalid_request_error";
    let quota = |message, code| Some(error(429, message, "insufficient_quota", Some(code)));
    match fault {
        Fault::Quota => quota(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
        ),
        Fault::SpendLimit => {
            quota("The organization reached its spend limit.", "organization_spend_limit_exceeded")
        }
        Fault::TierCap => {
            quota("The organization reached its usage limit.", "organization_usage_limit_exceeded")
        }
        Fault::RateLimit { retry_after } => {
            let mut response =
                error(429, "Rate limit reached for requests", "requests", Some("rate_limit_exceeded"));
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, (*seconds).into());
            }
            Some(response)
        }
        Fault::Overloaded => Some(error(
            503,
            "The server is currently overloaded.",
            "server_error",
            Some("server_is_overloaded"),
        )),
        Fault::ServerFault { status } => {
            Some(error(*status, "The server had an error.", "server_error", None))
        }
        Fault::BadKey => Some(bad_key(key)),
        Fault::ContentFilter => {
            Some(error(400, "The response was filtered.", invalid, Some("content_filter")))
        }
        Fault::ContextTooLong => Some(error(
            400,
            "This model's maximum context length is 8192 tokens.",
            invalid,
            Some("context_length_exceeded"),
        )),
        Fault::NoSuchModel => Some(error(404, "The model does not exist.", invalid, Some("model_not_found"))),
        _ => None,
    }
}

pub(super) fn bad_key(key: &str) -> Response {
    let message = format!("Incorrect API key provided: {key}. You can find your API key at the website.");
    error(401, &message, "invalid_request_error", Some("invalid_api_key"))
}

pub(super) fn error_body(message: &str, kind: &str, code: Option<&str>) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

pub(super) fn error(status: u16, message: &str, kind: &str, code: Option<&str>) -> Response {
    raw(status, "application/json", error_body(message, kind, code).to_string().into_bytes())
}
