//! Errors that look alike whoever answers, and the pieces that those of one provider are made of.

use callboard_domain::llm::{Error, ErrorKind};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::error::Error as _;
use std::time::Duration;

/// The longest wait that is taken over from a provider: some name days.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The most characters shown of a body that is no error object.
const EXCERPT_CHARS: usize = 200;

/// The error of an answer whose status is no success. What its words say goes before what the status says.
pub(crate) fn refused(
    status: StatusCode,
    headers: &HeaderMap,
    words: Option<ErrorKind>,
    message: &str,
) -> Error {
    let kind = match (status.as_u16(), words) {
        // A gateway in between may repeat any words under these.
        (401 | 403, Some(kind @ (ErrorKind::QuotaExceeded | ErrorKind::ContentFiltered))) => kind,
        (401 | 403, _) => ErrorKind::Authentication,
        (_, Some(kind)) => kind,
        (_, None) => kind_of_status(status),
    };
    let mut error = Error::new(kind, format!("{}: {message}", status.as_u16()));
    error.retry_after = retry_after(headers);
    error
}

/// A message and the name that the provider gives to the error, of which either may be missing.
pub(crate) fn worded(message: String, name: String) -> String {
    match (message.is_empty(), name.is_empty()) {
        (false, false) => format!("{message} ({name})"),
        (false, true) => message,
        (true, false) => name,
        (true, true) => "an error without a message".into(),
    }
}

/// What a status says where no words tell more.
pub(crate) fn kind_of_status(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        401 | 403 => ErrorKind::Authentication,
        402 => ErrorKind::QuotaExceeded,
        408 => ErrorKind::Timeout,
        429 => ErrorKind::RateLimited,
        400..=499 => ErrorKind::InvalidRequest,
        503 | 529 => ErrorKind::Overloaded,
        500..=599 => ErrorKind::ServerFault,
        // A redirect is not followed: the key must not go where it was not meant to.
        _ => ErrorKind::MalformedAnswer,
    }
}

/// The wait a provider names, in milliseconds or seconds. A date is not taken: clocks differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| -> Option<f64> {
        headers.get(name)?.to_str().ok()?.trim().parse().ok().filter(|n| *n >= 0.0)
    };
    let seconds = number("retry-after-ms").map(|ms| ms / 1_000.0).or_else(|| number(RETRY_AFTER.as_str()))?;
    capped(seconds)
}

/// A wait that a provider names, up to what is taken over. `None` if it is no wait.
pub(crate) fn capped(seconds: f64) -> Option<Duration> {
    (seconds >= 0.0).then(|| {
        Duration::try_from_secs_f64(seconds).map_or(RETRY_AFTER_MAX, |wait| wait.min(RETRY_AFTER_MAX))
    })
}

/// The error of a connection.
pub(super) fn of_transport(error: reqwest::Error) -> Error {
    let kind = if error.is_timeout() && !error.is_connect() {
        ErrorKind::Timeout
    } else if error.is_builder() {
        ErrorKind::InvalidRequest
    } else {
        ErrorKind::Connection
    };
    Error::new(kind, causes(&error.without_url()))
}

/// The error of an adapter that makes no images, if it is asked for one.
pub(crate) fn no_images() -> Error {
    Error::new(ErrorKind::InvalidRequest, "the provider makes no images")
}

/// The error of an adapter that makes no embeddings, if it is asked for some.
pub(crate) fn no_embeddings() -> Error {
    Error::new(ErrorKind::Unsupported, "the provider makes no embeddings")
}

/// An error and its causes, in one line.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// The error of an answer that could not be understood.
pub(crate) fn malformed(what: &str, body: &[u8]) -> Error {
    Error::new(ErrorKind::MalformedAnswer, format!("{what}: {}", excerpt(body)))
}

/// The beginning of a body, for a message.
pub(crate) fn excerpt(body: &[u8]) -> String {
    // Four bytes a character at most; one more to know that something was left out.
    let start = &body[..body.len().min(4 * EXCERPT_CHARS + 4)];
    let text = String::from_utf8_lossy(start);
    let text = text.trim();
    if text.is_empty() {
        return "an empty body".into();
    }
    let mut shown: String = text.chars().take(EXCERPT_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_taken_in_seconds_and_capped() {
        let wait = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(wait("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(wait("retry-after", "172800"), Some(RETRY_AFTER_MAX));
        assert_eq!(wait("retry-after", "1e300"), Some(RETRY_AFTER_MAX));
        for none in ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "NaN", "soon"] {
            assert_eq!(wait("retry-after", none), None, "{none}");
        }
    }
}
