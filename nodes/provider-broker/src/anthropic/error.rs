//! What went wrong, from a status, headers and a body that may hold anything.

use crate::wire::{excerpt, refused, worded};
use callboard_domain::llm::{Error, ErrorKind};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// An error object, as it is sent under an error status, under a 200 and in the middle of a stream.
#[derive(Debug, Default)]
struct Fault {
    message: String,
    kind: String,
    /// What the type does not tell apart.
    code: String,
}

impl Fault {
    /// The error object in a document, if there is one.
    fn find(document: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match document.get("error")? {
            Value::String(message) => Some(Self { message: message.clone(), ..Self::default() }),
            error @ Value::Object(_) => Some(Self {
                message: text(&error["message"]),
                kind: text(&error["type"]),
                code: text(&error["details"]["error_code"]),
            }),
            _ => None,
        }
    }

    /// What its words say, whatever the status.
    fn kind_by_words(&self) -> Option<ErrorKind> {
        // The cap of an account's tier is told as a rate limit, but no wait helps.
        if self.code == "enforced_spend_limit_reached" {
            return Some(ErrorKind::QuotaExceeded);
        }
        match self.kind.as_str() {
            "billing_error" => Some(ErrorKind::QuotaExceeded),
            "rate_limit_error" => Some(ErrorKind::RateLimited),
            "overloaded_error" => Some(ErrorKind::Overloaded),
            "timeout_error" => Some(ErrorKind::Timeout),
            "api_error" | "conflict_error" => Some(ErrorKind::ServerFault),
            "authentication_error" | "permission_error" => Some(ErrorKind::Authentication),
            "not_found_error" => Some(ErrorKind::ModelNotFound),
            "request_too_large" => Some(ErrorKind::InvalidRequest),
            "invalid_request_error" => self.kind_by_message(),
            _ => None,
        }
    }

    /// What is told as an invalid request, though it is none: only its message tells.
    fn kind_by_message(&self) -> Option<ErrorKind> {
        let says = |part: &str| self.message.contains(part);
        if (says("You have reached your specified") && says("usage limits"))
            || says("credit balance is too low")
        {
            Some(ErrorKind::QuotaExceeded)
        } else if says("content filtering policy") {
            Some(ErrorKind::ContentFiltered)
        } else if says("prompt is too long") || says("exceed context limit") {
            Some(ErrorKind::ContextTooLong)
        } else {
            None
        }
    }

    fn into_message(self) -> String {
        worded(self.message, if self.code.is_empty() { self.kind } else { self.code })
    }
}

/// The error that a document holds, if it holds one: under a 200, or in a stream.
pub(super) fn in_document(document: &Value) -> Option<Error> {
    let fault = Fault::find(document)?;
    let kind = fault.kind_by_words().unwrap_or(match fault.kind.as_str() {
        "invalid_request_error" => ErrorKind::InvalidRequest,
        _ => ErrorKind::ServerFault,
    });
    Some(Error::new(kind, fault.into_message()))
}

/// The error of an answer whose status is no success.
pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let document = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let fault = Fault::find(&document);
    let words = fault.as_ref().and_then(Fault::kind_by_words);
    let message = fault.map_or_else(|| excerpt(body), Fault::into_message);
    refused(status, headers, words, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_error_of_this_api_goes_by_its_status() {
        use ErrorKind::*;
        for (status, body, expected) in [
            (529, "", Overloaded),
            (429, "{}", RateLimited),
            (402, "[]", QuotaExceeded),
            (502, "<html>bad gateway</html>", ServerFault),
            (413, r#"{"error":"too large"}"#, InvalidRequest),
            (422, r#"{"error":{"type":"invalid_request_error","message":"m"}}"#, InvalidRequest),
            (403, r#"{"error":{"type":"rate_limit_error","message":"m"}}"#, Authentication),
            (302, "", MalformedAnswer),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = of_answer(status, &HeaderMap::new(), body.as_bytes());
            assert_eq!(error.kind, expected, "{status} {body}");
        }
    }

    #[test]
    fn an_error_without_a_status_is_read_by_its_words() {
        let kind = |text: &str| in_document(&serde_json::from_str(text).unwrap()).map(|e| e.kind);
        assert_eq!(
            kind(r#"{"error":{"type":"invalid_request_error","message":"m"}}"#),
            Some(ErrorKind::InvalidRequest)
        );
        assert_eq!(kind(r#"{"type":"error","error":{}}"#), Some(ErrorKind::ServerFault));
        assert_eq!(kind(r#"{"error":null,"content":[]}"#), None);
    }
}
