//! What went wrong, from a status and a body that may hold anything. The API has no names for errors, only texts.

use crate::wire::{excerpt, refused, worded};
use callboard_domain::llm::{Error, ErrorKind};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// The text of the error in a document, if there is one.
fn find(document: &Value) -> Option<String> {
    match document.get("error")? {
        Value::String(message) => Some(message.clone()),
        error @ Value::Object(_) => Some(error["message"].as_str().unwrap_or_default().to_owned()),
        _ => None,
    }
}

/// What its words say, whatever the status.
fn kind_by_words(message: &str) -> Option<ErrorKind> {
    let says = |part: &str| message.contains(part);
    if says("server busy") || says("maximum pending requests") || says("overloaded") {
        Some(ErrorKind::Overloaded)
    } else if message.starts_with("model ") && says("not found") {
        Some(ErrorKind::ModelNotFound)
    } else if says("exceed") && says("context") {
        Some(ErrorKind::ContextTooLong)
    } else {
        None
    }
}

/// The error that a document holds, if it holds one: under a 200, or in a stream.
pub(super) fn in_document(document: &Value) -> Option<Error> {
    let message = find(document)?;
    let kind = kind_by_words(&message).unwrap_or(ErrorKind::ServerFault);
    Some(Error::new(kind, worded(message, String::new())))
}

/// The error of an answer whose status is no success.
pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let document = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let message = find(&document);
    let words = message.as_deref().and_then(kind_by_words);
    let message = message.map_or_else(|| excerpt(body), |message| worded(message, String::new()));
    refused(status, headers, words, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_before_the_status() {
        use ErrorKind::*;
        for (status, body, expected) in [
            (
                500,
                r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
                Overloaded,
            ),
            (503, "", Overloaded),
            (500, r#"{"error":"llama runner process has terminated: signal: killed"}"#, ServerFault),
            (404, "404 page not found", InvalidRequest),
            (400, r#"{"error":"\"m\" does not support chat"}"#, InvalidRequest),
            (401, r#"{"error":"unauthorized"}"#, Authentication),
            (429, r#"{"error":{"message":"m"}}"#, RateLimited),
            (302, "", MalformedAnswer),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                of_answer(status, &HeaderMap::new(), body.as_bytes()).kind,
                expected,
                "{status} {body}"
            );
        }
        let in_document = |text: &str| in_document(&serde_json::from_str(text).unwrap());
        assert_eq!(in_document(r#"{"error":"model 'm' not found"}"#).unwrap().kind, ModelNotFound);
        assert_eq!(in_document(r#"{"error":""}"#).unwrap().message, "an error without a message");
        assert_eq!(in_document(r#"{"message":{}}"#), None);
    }
}
