//! What went wrong, from a status, headers and a body that may hold anything.
//!
//! A spent quota and a rate limit are the same status here, and a wrong key is a bad request: only the details
//! tell.

use crate::wire::{capped, excerpt, kind_of_status, refused, worded};
use callboard_domain::llm::{Error, ErrorKind};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::time::Duration;

/// An error object, as it is sent under an error status, under a 200 and in the middle of a stream.
#[derive(Debug)]
struct Fault<'a> {
    message: &'a str,
    status: &'a str,
    code: Option<u16>,
    details: &'a [Value],
}

impl<'a> Fault<'a> {
    /// The error object in a document, if there is one. It may stand in a list.
    fn find(document: &'a Value) -> Option<Self> {
        let document = document.as_array().and_then(|list| list.first()).unwrap_or(document);
        match document.get("error")? {
            Value::String(message) => Some(Self { message, status: "", code: None, details: &[] }),
            error @ Value::Object(_) => Some(Self {
                message: error["message"].as_str().unwrap_or_default(),
                status: error["status"].as_str().unwrap_or_default(),
                code: error["code"].as_u64().and_then(|code| code.try_into().ok()),
                details: error["details"].as_array().map(Vec::as_slice).unwrap_or_default(),
            }),
            _ => None,
        }
    }

    /// The details of a type of `google.rpc`.
    fn details(&self, name: &'static str) -> impl Iterator<Item = &'a Value> {
        let is = move |detail: &&Value| {
            detail["@type"].as_str().is_some_and(|found| found.rsplit('.').next() == Some(name))
        };
        self.details.iter().filter(is)
    }

    /// The limits that were passed.
    fn limits(&self) -> impl Iterator<Item = &'a str> {
        let violations = self.details("QuotaFailure").filter_map(|detail| detail["violations"].as_array());
        let ids = violations.flatten().filter_map(|v| v["quotaId"].as_str().or(v["quotaMetric"].as_str()));
        ids.chain(self.details("ErrorInfo").filter_map(|detail| detail["metadata"]["quota_limit"].as_str()))
    }

    /// The limit that no wait of a task brings back.
    fn spent(&self) -> Option<&'a str> {
        self.limits().find(|limit| limit.contains("PerDay") || limit.contains("per_day"))
    }

    fn has_reason(&self, is: impl Fn(&str) -> bool) -> bool {
        self.details("ErrorInfo").filter_map(|detail| detail["reason"].as_str()).any(is)
    }

    /// What its words say, whatever the status of HTTP.
    fn kind_by_words(&self) -> Option<ErrorKind> {
        if self.has_reason(|reason| reason.starts_with("API_KEY_")) {
            return Some(ErrorKind::Authentication);
        }
        // A prompt that is too long has been told as an internal error.
        if self.message.contains("context is too long") || self.message.contains("maximum number of tokens") {
            return Some(ErrorKind::ContextTooLong);
        }
        // So Imagen refuses a prompt, as a bad request.
        if self.message.contains("Responsible AI practices") {
            return Some(ErrorKind::ContentFiltered);
        }
        match self.status {
            "RESOURCE_EXHAUSTED" if self.spent().is_some() => Some(ErrorKind::QuotaExceeded),
            "RESOURCE_EXHAUSTED" if self.has_reason(|reason| reason == "MODEL_CAPACITY_EXHAUSTED") => {
                Some(ErrorKind::Overloaded)
            }
            "RESOURCE_EXHAUSTED" => Some(ErrorKind::RateLimited),
            "UNAVAILABLE" => Some(ErrorKind::Overloaded),
            "DEADLINE_EXCEEDED" => Some(ErrorKind::Timeout),
            "INTERNAL" | "UNKNOWN" | "DATA_LOSS" | "ABORTED" | "CANCELLED" => Some(ErrorKind::ServerFault),
            // A precondition that fails is that of the account: its country, or its billing.
            "UNAUTHENTICATED" | "PERMISSION_DENIED" | "FAILED_PRECONDITION" => {
                Some(ErrorKind::Authentication)
            }
            "NOT_FOUND" => Some(ErrorKind::ModelNotFound),
            "INVALID_ARGUMENT" | "OUT_OF_RANGE" | "UNIMPLEMENTED" => Some(ErrorKind::InvalidRequest),
            _ => None,
        }
    }

    /// The wait it names. A spent quota names one too, after which it is just as spent.
    fn retry_after(&self) -> Option<Duration> {
        if self.spent().is_some() {
            return None;
        }
        let delay = self.details("RetryInfo").find_map(|detail| detail["retryDelay"].as_str())?;
        capped(delay.trim().strip_suffix('s')?.parse().ok()?)
    }

    fn message(&self) -> String {
        let limit = self.spent().or_else(|| self.limits().next());
        let names: Vec<_> =
            [Some(self.status).filter(|s| !s.is_empty()), limit].into_iter().flatten().collect();
        worded(self.message.trim().to_owned(), names.join(", "))
    }
}

/// The error that a document holds, if it holds one: under a 200, or in a stream.
pub(super) fn in_document(document: &Value) -> Option<Error> {
    let fault = Fault::find(document)?;
    let by_code = || Some(kind_of_status(StatusCode::from_u16(fault.code?).ok()?));
    let kind = fault.kind_by_words().or_else(by_code).unwrap_or(ErrorKind::ServerFault);
    Some(Error { retry_after: fault.retry_after(), ..Error::new(kind, fault.message()) })
}

/// The error of an answer whose status is no success.
pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let document = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let Some(fault) = Fault::find(&document) else { return refused(status, headers, None, &excerpt(body)) };
    let error = refused(status, headers, fault.kind_by_words(), &fault.message());
    Error { retry_after: fault.retry_after().or(error.retry_after), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(status: u16, body: &str) -> Error {
        of_answer(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn a_quota_is_told_from_a_rate_by_the_details() {
        let error = |limits: &[&str], delay: &str| {
            let violations: Vec<_> =
                limits.iter().map(|id| json!({"quotaMetric": "x", "quotaId": id})).collect();
            let body = json!({"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
            ]}});
            let error = of(429, &body.to_string());
            (error.kind, error.retry_after, error.message)
        };
        let minute = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier";
        let day = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
        let half = Some(Duration::from_millis(1_500));
        let said = |limit: &str| format!("429: m (RESOURCE_EXHAUSTED, {limit})");
        assert_eq!(error(&[minute], "1.5s"), (ErrorKind::RateLimited, half, said(minute)));
        assert_eq!(error(&[minute, day], "1.5s"), (ErrorKind::QuotaExceeded, None, said(day)));
        let capped = Some(Duration::from_secs(60));
        assert_eq!(error(&[], "86400s").1, capped);
        for none in ["", "s", "soon", "1", "-1s", "NaNs"] {
            assert_eq!(error(&[minute], none).1, None, "{none}");
        }
    }

    #[test]
    fn what_is_no_error_of_this_api_goes_by_its_status() {
        use ErrorKind::*;
        for (status, body, expected) in [
            (429, "{}", RateLimited),
            (503, "", Overloaded),
            (502, "<html>bad gateway</html>", ServerFault),
            (404, r#"{"error":"no such path"}"#, InvalidRequest),
            (400, r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#, InvalidRequest),
            (400, r#"{"error":{"message":"m","status":"FAILED_PRECONDITION"}}"#, Authentication),
            (
                429,
                r#"{"error":{"message":"m","details":[7,{"@type":8},{"@type":"x.QuotaFailure"}]}}"#,
                RateLimited,
            ),
            (302, "", MalformedAnswer),
        ] {
            assert_eq!(of(status, body).kind, expected, "{status} {body}");
        }
    }

    #[test]
    fn an_error_without_a_status_is_read_by_its_words() {
        let kind = |text: &str| in_document(&serde_json::from_str(text).unwrap()).map(|e| e.kind);
        assert_eq!(kind(r#"{"error":{"code":429,"message":"m"}}"#), Some(ErrorKind::RateLimited));
        assert_eq!(kind(r#"{"error":{}}"#), Some(ErrorKind::ServerFault));
        assert_eq!(kind(r#"{"candidates":[]}"#), None);
    }
}
