//! The one error of this crate, decoded from a gRPC status and its details.

use callboard_contracts::v1;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Where an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The server answered with it.
    Server,
    /// No connection could be made: the call was never sent.
    Unreachable,
    /// The connection was lost while the call was on its way.
    Lost,
    /// The call's time was up before an answer came.
    TimedOut,
    /// The client refused it: an address that is none, for example.
    Local,
}

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, for example `input.prompt`.
    pub field: String,
    /// What is wrong with it and what was expected.
    pub description: String,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The gRPC status code.
    pub code: Code,
    /// The stable reason in UPPER_SNAKE form. Empty if the server gave none.
    pub reason: String,
    /// What it means, for a person.
    pub message: String,
    /// Every variable of the message.
    pub metadata: BTreeMap<String, String>,
    /// Every wrong field.
    pub violations: Vec<Violation>,
    /// When the server says to try again.
    pub retry_after: Option<Duration>,
    /// Whether the call may have taken effect all the same.
    pub may_have_run: bool,
    /// Where the error comes from.
    pub origin: Origin,
}

impl Error {
    pub(crate) fn new(code: Code, reason: &str, message: impl Into<String>, origin: Origin) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            retry_after: None,
            may_have_run: matches!(origin, Origin::Lost | Origin::TimedOut),
            origin,
        }
    }

    /// The connection was lost, or the stream ended where it should not.
    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, "CONNECTION_LOST", message, Origin::Lost)
    }

    /// The call's time was up.
    pub(crate) fn timed_out(after: Duration) -> Self {
        let message = format!("no answer within {} s", after.as_secs_f64().ceil());
        Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message, Origin::TimedOut)
    }

    /// The answer was not what the contract says.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self { may_have_run: true, ..Self::new(Code::Internal, "MALFORMED_ANSWER", message, Origin::Server) }
    }

    /// Whether no node could be reached at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.origin == Origin::Unreachable
    }

    /// Whether nothing answered: no connection, or none that lasted.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self.origin, Origin::Unreachable | Origin::Lost)
    }

    /// Whether another attempt of a call that is the same twice as once could help.
    pub(crate) fn is_passing(&self) -> bool {
        match self.origin {
            Origin::Unreachable | Origin::Lost => true,
            Origin::TimedOut | Origin::Local => false,
            // The providers have been tried in order, each within its own timeout: once more would only
            // cost the same again.
            Origin::Server if self.reason == "PROVIDERS_FAILED" => false,
            Origin::Server => {
                self.code == Code::Unavailable
                    || matches!(self.reason.as_str(), "COMMIT_UNKNOWN" | "MAY_HAVE_RUN")
                    || (self.code == Code::ResourceExhausted && self.retry_after.is_some())
            }
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let origin = origin(&status, info.is_some());
        let code = if origin == Origin::Lost { Code::Unavailable } else { status.code() };
        let reason = match (info, origin) {
            (Some(info), _) => info.reason.clone(),
            (None, Origin::Unreachable) => "UNREACHABLE".to_owned(),
            (None, Origin::Lost) => "CONNECTION_LOST".to_owned(),
            (None, Origin::TimedOut) => "DEADLINE_EXCEEDED".to_owned(),
            (None, _) => String::new(),
        };
        let message = match origin {
            Origin::Unreachable | Origin::Lost => root_cause(&status),
            _ => status.message().to_owned(),
        };
        Self {
            may_have_run: may_have_run(code, origin),
            code,
            message,
            metadata: info.map(|i| i.metadata.clone().into_iter().collect()).unwrap_or_default(),
            violations: details
                .bad_request()
                .map(|b| b.field_violations.iter())
                .into_iter()
                .flatten()
                .map(|v| Violation { field: v.field.clone(), description: v.description.clone() })
                .collect(),
            retry_after: details.retry_info().and_then(|r| r.retry_delay),
            reason,
            origin,
        }
    }
}

impl From<v1::SubmitError> for Error {
    fn from(error: v1::SubmitError) -> Self {
        let violations = error
            .field_violations
            .into_iter()
            .map(|v| Violation { field: v.field, description: v.description })
            .collect();
        let code = Code::from_i32(error.code);
        Self {
            violations,
            may_have_run: may_have_run(code, Origin::Server),
            ..Self::new(code, &error.reason, error.message, Origin::Server)
        }
    }
}

/// A status that our services send always carries an `ErrorInfo`; one that the transport makes up here
/// carries the error it comes from instead.
fn origin(status: &Status, has_info: bool) -> Origin {
    if has_info {
        return Origin::Server;
    }
    let mut source = std::error::Error::source(status);
    let local = source.is_some();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return Origin::Unreachable;
        }
        if error.is::<tonic::TimeoutExpired>() {
            return Origin::TimedOut;
        }
        source = error.source();
    }
    match status.code() {
        Code::DeadlineExceeded => Origin::TimedOut,
        _ if local => Origin::Lost,
        // A stream that was closed without its trailers, or a proxy that speaks for a node that is away.
        Code::Unknown | Code::Unavailable | Code::Cancelled => Origin::Lost,
        _ => Origin::Server,
    }
}

/// What lies at the bottom of a chain of errors: "connection refused" rather than "transport error".
fn root_cause(status: &Status) -> String {
    let mut source = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    // The operating system's number says nothing that its words do not.
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

fn may_have_run(code: Code, origin: Origin) -> bool {
    match origin {
        Origin::Unreachable | Origin::Local => false,
        Origin::Lost | Origin::TimedOut => true,
        Origin::Server => matches!(
            code,
            Code::Unknown | Code::Internal | Code::DeadlineExceeded | Code::Cancelled | Code::DataLoss
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn status(code: Code, reason: &str) -> Status {
        Status::with_error_details(
            code,
            "no",
            ErrorDetails::with_error_info(reason, "callboard", [("id".to_owned(), "7".to_owned())]),
        )
    }

    #[test]
    fn a_refusal_of_the_server_certainly_did_not_run() {
        let error = Error::from(status(Code::NotFound, "TASK_NOT_FOUND"));
        assert_eq!((error.origin, error.may_have_run), (Origin::Server, false));
        assert_eq!(error.reason, "TASK_NOT_FOUND");
        assert_eq!(error.metadata["id"], "7");
        assert!(!error.is_passing());
    }

    #[test]
    fn an_unknown_commit_may_have_run_and_passes() {
        let error = Error::from(status(Code::Unknown, "COMMIT_UNKNOWN"));
        assert!(error.may_have_run && error.is_passing());
    }

    #[test]
    fn failed_providers_are_not_asked_again() {
        assert!(!Error::from(status(Code::Unavailable, "PROVIDERS_FAILED")).is_passing());
        assert!(Error::from(status(Code::Unavailable, "DRAINING")).is_passing());
    }

    #[test]
    fn a_full_queue_passes_only_where_it_says_when() {
        let mut details = ErrorDetails::with_error_info(
            "OVERLOADED",
            "callboard",
            [("queue".to_owned(), "llm".to_owned())],
        );
        let bare = Status::with_error_details(Code::ResourceExhausted, "full", details.clone());
        assert!(!Error::from(bare).is_passing());
        details.set_retry_info(Some(Duration::from_secs(1)));
        let error = Error::from(Status::with_error_details(Code::ResourceExhausted, "full", details));
        assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
        assert!(error.is_passing() && !error.may_have_run);
    }

    #[test]
    fn a_status_without_details_that_a_proxy_sends_is_a_lost_connection() {
        let error = Error::from(Status::unavailable("upstream is away"));
        assert_eq!((error.origin, error.may_have_run), (Origin::Lost, true));
        let error = Error::from(Status::unimplemented("no such method"));
        assert_eq!(error.origin, Origin::Server);
    }
}
