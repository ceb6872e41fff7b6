//! Errors as OpenAI's clients know them: by the status they raise their own exceptions.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use callboard_domain::convert;
use callboard_domain::llm::ErrorKind;
use callboard_runtime::mesh;
use serde::Serialize;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The request is wrong.
const INVALID: &str = "invalid_request_error";
/// We are, or a provider is.
const SERVER: &str = "server_error";

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Tells OpenAI's clients not to send the same again by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-callboard-attempts");

/// A request that has no answer.
#[derive(Debug)]
pub(super) struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    said: Said,
    retry_after: Option<Duration>,
    /// It makes no sense, or may cost twice, to send it again.
    final_: bool,
    /// How many attempts at providers there were.
    attempts: Option<String>,
}

/// The error object.
#[derive(Clone, Debug, Serialize)]
struct Said {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

/// The document around it.
#[derive(Serialize)]
struct Document<'a> {
    error: &'a Said,
}

/// What an error of providers is to a client of OpenAI: the status, the type, the code. Where OpenAI has no word for it,
/// the code is ours.
const fn of_kind(kind: ErrorKind) -> (StatusCode, &'static str, Option<&'static str>) {
    match kind {
        ErrorKind::QuotaExceeded => {
            (StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", Some("insufficient_quota"))
        }
        ErrorKind::RateLimited => {
            (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit_exceeded"))
        }
        ErrorKind::Disabled => (StatusCode::SERVICE_UNAVAILABLE, SERVER, Some("provider_disabled")),
        ErrorKind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, SERVER, Some("server_is_overloaded")),
        ErrorKind::ServerFault => (StatusCode::BAD_GATEWAY, SERVER, Some("provider_server_fault")),
        ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, SERVER, Some("provider_timeout")),
        ErrorKind::Connection => (StatusCode::BAD_GATEWAY, SERVER, Some("provider_connection")),
        // It is our key that is wrong, not the caller's.
        ErrorKind::Authentication => (StatusCode::BAD_GATEWAY, SERVER, Some("provider_authentication")),
        ErrorKind::InvalidRequest => (StatusCode::BAD_REQUEST, INVALID, None),
        ErrorKind::ContextTooLong => (StatusCode::BAD_REQUEST, INVALID, Some("context_length_exceeded")),
        ErrorKind::Unsupported => (StatusCode::BAD_REQUEST, INVALID, Some("unsupported_parameter")),
        ErrorKind::ModelNotFound => (StatusCode::NOT_FOUND, INVALID, Some("model_not_found")),
        ErrorKind::ContentFiltered => (StatusCode::BAD_REQUEST, INVALID, Some("content_filter")),
        ErrorKind::MalformedAnswer => (StatusCode::BAD_GATEWAY, SERVER, Some("provider_malformed_answer")),
    }
}

impl Error {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        let said = Said { message: message.into(), kind, param: None, code };
        Self(Box::new(Parts { status, said, retry_after: None, final_: false, attempts: None }))
    }

    fn at(mut self, param: Option<String>) -> Self {
        self.0.said.param = param;
        self
    }

    /// The request is wrong, in a parameter if one is named.
    pub(super) fn invalid(param: Option<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, None, message).at(param)
    }

    /// A parameter holds what cannot be passed on to providers.
    pub(super) fn unsupported(param: &str, what: &str) -> Self {
        let error = Self::invalid(Some(param.to_owned()), format!("`{param}`: {what}"));
        Self(Box::new(Parts {
            said: Said { code: Some("unsupported_parameter"), ..error.0.said },
            ..*error.0
        }))
    }

    /// The body, or the prompt in it.
    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, Some("request_too_large"), message)
    }

    /// The body did not come.
    pub(super) fn slow_body() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            INVALID,
            Some("request_timeout"),
            "the body did not come in time",
        )
    }

    /// There is no key, or a wrong one.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, INVALID, Some("invalid_api_key"), message)
    }

    /// Whoever calls may not.
    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, INVALID, Some(code), message)
    }

    /// There is no such model here.
    pub(super) fn no_such_model(message: impl Into<String>) -> Self {
        let (status, kind, code) = of_kind(ErrorKind::ModelNotFound);
        Self::new(status, kind, code, message).at(Some("model".into()))
    }

    /// Nothing is served there.
    pub(super) fn no_such_url() -> Self {
        let message = "there is nothing at this URL; there are: /v1/chat/completions, /v1/embeddings, \
                       /v1/images/generations, /v1/models";
        Self::new(StatusCode::NOT_FOUND, INVALID, Some("unknown_url"), message)
    }

    /// Something is served there, for another method.
    pub(super) fn wrong_method() -> Self {
        let message = "this URL does not take this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, Some("method_not_allowed"), message)
    }

    /// We did not do what we should.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, Some("internal"), message)
    }

    /// What a call of the ProviderBroker ended with.
    pub(super) fn of_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let about = |key: &str| info.and_then(|info| info.metadata.get(key));
        let message = status.message();
        if let Some(kind) = info.and_then(|info| convert::kind_in(&info.metadata)) {
            let (code, typ, name) = of_kind(kind);
            let mut error = Self::new(code, typ, name, message);
            error.0.said.param = match kind {
                ErrorKind::ModelNotFound => Some("model".into()),
                ErrorKind::ContextTooLong => Some("messages".into()),
                _ => None,
            };
            error.0.retry_after = convert::error_from_status(status).retry_after;
            error.0.final_ = !kind.is_retryable();
            error.0.attempts = about("attempts").cloned();
            return error;
        }
        let mut error = match status.code() {
            Code::InvalidArgument => {
                let wrong = details.bad_request().and_then(|wrong| wrong.field_violations.first());
                Self::invalid(wrong.map(|wrong| wrong.field.clone()), message)
            }
            Code::DeadlineExceeded => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, Some("timeout"), message)
            }
            // They say that it did not run.
            Code::Unavailable | Code::ResourceExhausted | Code::Unimplemented => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, Some("unavailable"), message)
            }
            _ => Self::internal(message),
        };
        error.0.retry_after = details.retry_info().and_then(|again| again.retry_delay);
        // It may have run: sent again, it may be paid for twice.
        error.0.final_ = error.0.status == StatusCode::INTERNAL_SERVER_ERROR;
        error
    }

    /// The same of a call that has an input instead of messages.
    pub(super) fn of_input(mut self) -> Self {
        if self.0.said.param.as_deref() == Some("messages") {
            self.0.said.param = Some("input".into());
        }
        self
    }

    /// The document, for an event of a stream.
    pub(super) fn document(&self) -> String {
        // An object of texts can always be written.
        serde_json::to_string(&Document { error: &self.0.said }).unwrap_or_default()
    }

    /// What it says.
    pub(super) fn message(&self) -> &str {
        &self.0.said.message
    }
}

impl From<mesh::Error> for Error {
    fn from(error: mesh::Error) -> Self {
        Self::of_status(error.status())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Parts { status, said, retry_after, final_, attempts } = *self.0;
        let mut response = (status, Json(Document { error: &said })).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = retry_after {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
        }
        if final_ {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(attempts) = attempts.and_then(|count| HeaderValue::from_str(&count).ok()) {
            headers.insert(ATTEMPTS, attempts);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm;

    fn of(kind: ErrorKind, retry_after: Option<Duration>) -> Response {
        let error = llm::Error { retry_after, ..llm::Error::new(kind, "why") };
        Error::of_status(&convert::error_to_status(&error)).into_response()
    }

    #[test]
    fn every_error_of_providers_has_its_status_and_says_whether_to_send_it_again() {
        let seen: Vec<_> = ErrorKind::ALL
            .iter()
            .map(|kind| {
                let response = of(*kind, None);
                let again = !response.headers().contains_key(SHOULD_RETRY);
                (*kind, response.status().as_u16(), of_kind(*kind).2.unwrap_or("-"), again)
            })
            .collect();
        let expected = [
            (ErrorKind::QuotaExceeded, 429, "insufficient_quota", false),
            (ErrorKind::RateLimited, 429, "rate_limit_exceeded", true),
            (ErrorKind::Overloaded, 503, "server_is_overloaded", true),
            (ErrorKind::ServerFault, 502, "provider_server_fault", true),
            (ErrorKind::Timeout, 504, "provider_timeout", true),
            (ErrorKind::Connection, 502, "provider_connection", true),
            (ErrorKind::Authentication, 502, "provider_authentication", false),
            (ErrorKind::InvalidRequest, 400, "-", false),
            (ErrorKind::ContextTooLong, 400, "context_length_exceeded", false),
            (ErrorKind::Unsupported, 400, "unsupported_parameter", false),
            (ErrorKind::ModelNotFound, 404, "model_not_found", false),
            (ErrorKind::ContentFiltered, 400, "content_filter", false),
            (ErrorKind::MalformedAnswer, 502, "provider_malformed_answer", true),
            (ErrorKind::Disabled, 503, "provider_disabled", true),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_exactly() {
        let response = of(ErrorKind::RateLimited, Some(Duration::from_millis(1_200)));
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[RETRY_AFTER_MS], "1200");
        assert!(!of(ErrorKind::RateLimited, None).headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn errors_of_the_way_there_say_whether_the_call_may_have_run() {
        use callboard_domain::Code as Ours;
        let of = |code| {
            let status: Status = callboard_domain::Error::new(code, "why").into();
            let response = Error::of_status(&status).into_response();
            (response.status().as_u16(), !response.headers().contains_key(SHOULD_RETRY))
        };
        assert_eq!(of(Ours::ActorUnavailable), (503, true));
        assert_eq!(of(Ours::RoleNotHosted), (503, true));
        assert_eq!(of(Ours::Draining), (503, true));
        assert_eq!(of(Ours::DeadlineExceeded), (504, true));
        assert_eq!(of(Ours::MayHaveRun), (500, false));
        assert_eq!(of(Ours::Internal), (500, false));
        let wrong: Status =
            callboard_domain::Error::field(Ours::InvalidArgument, "temperature", "must be 0 to 2").into();
        let error = Error::of_status(&wrong);
        assert_eq!((error.0.status.as_u16(), error.0.said.param.as_deref()), (400, Some("temperature")));
    }
}
