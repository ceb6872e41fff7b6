//! What went wrong, from a status, headers and a body that may hold anything.

use crate::wire::{excerpt, kind_of_status, refused, worded};
use callboard_domain::llm::{Error, ErrorKind};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// An error object, as it is sent under an error status, under a 200 and in the middle of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    message: String,
    kind: String,
    code: String,
}

impl Fault {
    /// The error object in a document, if there is one. Servers disagree on its shape:
    /// `{"error": {"message", "type", "code"}}`, `{"error": "text"}`, `{"object": "error", "message", ..}`,
    /// `{"detail": ..}`.
    pub(super) fn find(document: &Value) -> Option<Self> {
        let text = |value: &Value, field: &str| match value.get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let object = |value: &Value| Self {
            message: text(value, "message"),
            kind: text(value, "type"),
            code: text(value, "code"),
        };
        match document.get("error") {
            Some(Value::String(message)) => {
                return Some(Self { message: message.clone(), ..Self::default() });
            }
            Some(error @ Value::Object(_)) => return Some(object(error)),
            _ => {}
        }
        if document.get("object") == Some(&"error".into()) {
            return Some(object(document));
        }
        match document.get("detail") {
            Some(Value::String(detail)) => Some(Self { message: detail.clone(), ..Self::default() }),
            Some(detail) => Some(Self { message: detail.to_string(), ..Self::default() }),
            None => None,
        }
    }

    /// What its words say, whatever the status.
    fn kind_by_name(&self) -> Option<ErrorKind> {
        // Servers other than OpenAI's have no name for it, but its words.
        let too_long = self.message.contains("maximum context length");
        let named = self.name_as_kind();
        if too_long && matches!(named, None | Some(ErrorKind::InvalidRequest)) {
            return Some(ErrorKind::ContextTooLong);
        }
        named
    }

    fn name_as_kind(&self) -> Option<ErrorKind> {
        [&self.code, &self.kind].into_iter().find_map(|name| match name.as_str() {
            "insufficient_quota"
            | "quota_exceeded"
            | "credit_balance_exhausted"
            | "organization_spend_limit_exceeded"
            | "billing_hard_limit_reached"
            | "billing_not_active"
            | "billing_error" => Some(ErrorKind::QuotaExceeded),
            "rate_limit_exceeded" | "rate_limit_error" | "slow_down" => Some(ErrorKind::RateLimited),
            "server_is_overloaded" | "overloaded_error" | "overloaded" => Some(ErrorKind::Overloaded),
            "content_filter" | "content_policy_violation" | "moderation_blocked" => {
                Some(ErrorKind::ContentFiltered)
            }
            "model_not_found" => Some(ErrorKind::ModelNotFound),
            // The second is of llama.cpp.
            "context_length_exceeded" | "exceed_context_size_error" => Some(ErrorKind::ContextTooLong),
            "string_above_max_length" => Some(ErrorKind::InvalidRequest),
            "invalid_api_key" | "authentication_error" | "permission_error" => {
                Some(ErrorKind::Authentication)
            }
            "timeout" | "timeout_error" => Some(ErrorKind::Timeout),
            _ => None,
        })
    }

    /// The error it stands for where no status tells more: under a 200, or in a stream.
    pub(super) fn into_error(self) -> Error {
        let by_code = self.code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
        let kind =
            self.kind_by_name().or_else(|| by_code.map(kind_of_status)).unwrap_or(match self.kind.as_str() {
                "invalid_request_error" => ErrorKind::InvalidRequest,
                _ => ErrorKind::ServerFault,
            });
        Error::new(kind, self.into_message())
    }

    fn into_message(self) -> String {
        let name = if self.code.is_empty() { self.kind } else { self.code };
        worded(self.message, name)
    }
}

/// The error of an answer whose status is no success.
pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let document = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let fault = Fault::find(&document);
    let words = fault.as_ref().and_then(Fault::kind_by_name);
    let message = fault.map_or_else(|| excerpt(body), Fault::into_message);
    refused(status, headers, words, &message)
}

/// The error that a document holds, if it holds one.
pub(super) fn in_document(document: &Value) -> Option<Error> {
    Fault::find(document).map(Fault::into_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> ErrorKind {
        of_answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes()).kind
    }

    #[test]
    fn statuses_and_words_have_their_kinds() {
        use ErrorKind::*;
        let error = |code: &str, kind: &str| {
            format!(r#"{{"error":{{"message":"m","type":"{kind}","code":"{code}"}}}}"#)
        };
        for (status, body, expected) in [
            (429, error("insufficient_quota", "insufficient_quota"), QuotaExceeded),
            (429, error("credit_balance_exhausted", ""), QuotaExceeded),
            (
                429,
                r#"{"error":{"message":"m","type":"insufficient_quota","code":null}}"#.into(),
                QuotaExceeded,
            ),
            (400, error("billing_hard_limit_reached", ""), QuotaExceeded),
            (402, String::new(), QuotaExceeded),
            (429, error("rate_limit_exceeded", "requests"), RateLimited),
            (429, String::new(), RateLimited),
            (503, error("server_is_overloaded", "server_error"), Overloaded),
            (529, String::new(), Overloaded),
            (500, error("", "server_error"), ServerFault),
            (502, "<html>bad gateway</html>".into(), ServerFault),
            (504, String::new(), ServerFault),
            (408, String::new(), Timeout),
            (401, error("invalid_api_key", "invalid_request_error"), Authentication),
            (403, error("unsupported_country_region_territory", ""), Authentication),
            (403, error("insufficient_quota", ""), QuotaExceeded),
            (400, error("content_filter", ""), ContentFiltered),
            (400, error("context_length_exceeded", "invalid_request_error"), ContextTooLong),
            (400, r#"{"error":{"message":"This model's maximum context length is 8 tokens","type":"BadRequestError","code":400}}"#.into(), ContextTooLong),
            (400, r#"{"error":"something"}"#.into(), InvalidRequest),
            (404, error("model_not_found", "invalid_request_error"), ModelNotFound),
            (404, r#"{"detail":"Not Found"}"#.into(), InvalidRequest),
            (422, r#"{"detail":[{"loc":["body"]}]}"#.into(), InvalidRequest),
            (302, String::new(), MalformedAnswer),
        ] {
            assert_eq!(kind(status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn an_error_without_a_status_is_read_by_its_words() {
        let kind =
            |text: &str| Fault::find(&serde_json::from_str(text).unwrap()).map(|f| f.into_error().kind);
        assert_eq!(kind(r#"{"error":{"message":"m","type":"server_error"}}"#), Some(ErrorKind::ServerFault));
        assert_eq!(kind(r#"{"error":{"message":"m","code":429}}"#), Some(ErrorKind::RateLimited));
        assert_eq!(kind(r#"{"error":{"type":"invalid_request_error"}}"#), Some(ErrorKind::InvalidRequest));
        assert_eq!(kind(r#"{"object":"error","message":"m","code":401}"#), Some(ErrorKind::Authentication));
        assert_eq!(kind(r#"{"error":null,"choices":[]}"#), None);
    }
}
