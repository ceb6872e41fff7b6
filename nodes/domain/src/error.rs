//! The product's error codes, and the one place that maps them to gRPC.
//!
//! Every code has a stable reason and a page under `docs/errors`.

use crate::limits;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "callboard";
/// The most bytes of a variable of the message on the wire.
const METADATA_BYTES: usize = 256;
/// The most violations that are named on the wire.
const VIOLATIONS: usize = 50;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $reason:literal => $grpc:ident,)*) => {
        /// What went wrong, for a caller of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable reason in UPPER_SNAKE form.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// The gRPC status code it is sent as.
            #[must_use]
            pub const fn grpc(self) -> tonic::Code {
                match self { $(Self::$name => tonic::Code::$grpc,)* }
            }
        }
    };
}

codes! {
    /// A field is wrong; every wrong one is named.
    InvalidArgument = "INVALID_ARGUMENT" => InvalidArgument,
    /// No worker registered a kind of that name.
    UnknownKind = "UNKNOWN_KIND" => InvalidArgument,
    /// The input is over its limit.
    InputTooLarge = "INPUT_TOO_LARGE" => InvalidArgument,
    /// The page token is none of ours, or for another filter.
    InvalidPageToken = "INVALID_PAGE_TOKEN" => InvalidArgument,
    /// A suffix fits more than one task.
    AmbiguousId = "AMBIGUOUS_ID" => InvalidArgument,
    /// No task has that id.
    TaskNotFound = "TASK_NOT_FOUND" => NotFound,
    /// No artifact has that digest.
    ArtifactNotFound = "ARTIFACT_NOT_FOUND" => NotFound,
    /// The task has ended, so it cannot be cancelled.
    TaskEnded = "TASK_ENDED" => FailedPrecondition,
    /// The task has not ended, so it cannot be retried.
    TaskNotEnded = "TASK_NOT_ENDED" => FailedPrecondition,
    /// The request id was used for another request.
    RequestIdReused = "REQUEST_ID_REUSED" => AlreadyExists,
    /// A queue of ours is full.
    Overloaded = "OVERLOADED" => ResourceExhausted,
    /// The store cannot be reached, and nothing was written.
    StoreUnavailable = "STORE_UNAVAILABLE" => Unavailable,
    /// Whether the write was committed is not known.
    CommitUnknown = "COMMIT_UNKNOWN" => Unknown,
    /// Another attempt, or another holder, has taken over.
    StaleFence = "STALE_FENCE" => Aborted,
    /// The watcher fell behind; `resume_seq` says where to go on.
    WatchTooSlow = "WATCH_TOO_SLOW" => Aborted,
    /// The node is shutting down.
    Draining = "DRAINING" => Unavailable,
    /// The actor did not take the call; it certainly did not run.
    ActorUnavailable = "ACTOR_UNAVAILABLE" => Unavailable,
    /// The node does not host the role that answers this call; it certainly did not run.
    RoleNotHosted = "ROLE_NOT_HOSTED" => Unimplemented,
    /// The actor failed while it ran the call; it may have run.
    MayHaveRun = "MAY_HAVE_RUN" => Unknown,
    /// The call's time was up.
    DeadlineExceeded = "DEADLINE_EXCEEDED" => DeadlineExceeded,
    /// No provider could answer.
    ProvidersFailed = "PROVIDERS_FAILED" => Unavailable,
    /// The provider refused the request itself.
    ProviderRefused = "PROVIDER_REFUSED" => FailedPrecondition,
    /// The call needs a key, and has none that is known.
    KeyNeeded = "KEY_NEEDED" => Unauthenticated,
    /// The key may not make this call.
    RoleNeeded = "ROLE_NEEDED" => PermissionDenied,
    /// A fault of ours.
    Internal = "INTERNAL" => Internal,
}

/// A field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, for example `input.prompt`.
    pub field: String,
    /// What is wrong with it and what was expected.
    pub description: String,
}

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What went wrong.
    pub code: Code,
    /// The message: what it means and what to do next.
    pub message: String,
    /// Every variable of the message.
    pub metadata: BTreeMap<String, String>,
    /// Every wrong field.
    pub violations: Vec<Violation>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// An error with a message.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    /// An error that names every wrong field. The message lists them.
    #[must_use]
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let list: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        Self { violations, ..Self::new(Code::InvalidArgument, list.join("; ")) }
    }

    /// An error about one field.
    #[must_use]
    pub fn field(code: Code, field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            code,
            ..Self::invalid(vec![Violation { field: field.into(), description: description.into() }])
        }
    }

    /// Adds a variable of the message.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Cuts what it quotes, so that it fits in the headers of an answer. Wrong fields stay named, up to 50.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.message = limits::cut(self.message, limits::STATUS_MESSAGE_BYTES);
        self.violations.truncate(VIOLATIONS);
        let bytes: usize = self.violations.iter().map(|v| v.field.len() + v.description.len()).sum();
        if bytes > limits::STATUS_VIOLATIONS_BYTES {
            let share = limits::STATUS_VIOLATIONS_BYTES / self.violations.len();
            for violation in &mut self.violations {
                violation.field = limits::cut(std::mem::take(&mut violation.field), share / 2);
                let left = share - violation.field.len();
                violation.description = limits::cut(std::mem::take(&mut violation.description), left);
            }
        }
        for value in self.metadata.values_mut() {
            *value = limits::cut(std::mem::take(value), METADATA_BYTES);
        }
        self
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let error = error.bounded();
        let mut details = ErrorDetails::new();
        details.set_error_info(
            error.code.reason(),
            DOMAIN,
            error.metadata.into_iter().collect::<std::collections::HashMap<_, _>>(),
        );
        for v in error.violations {
            details.add_bad_request_violation(v.field, v.description);
        }
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        tonic::Status::with_error_details(error.code.grpc(), error.message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_its_details_over_grpc() {
        let error = Error::invalid(vec![
            Violation { field: "priority".into(), description: "must be 0 to 9".into() },
            Violation { field: "timeout".into(), description: "must be over zero".into() },
        ])
        .with("kind", "echo")
        .retry_after(Duration::from_secs(2));
        let status = tonic::Status::from(error);
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_ARGUMENT", "callboard"));
        assert_eq!(info.metadata["kind"], "echo");
        assert_eq!(details.bad_request().unwrap().field_violations.len(), 2);
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(2)));
    }

    #[test]
    fn an_error_fits_in_headers_and_still_names_every_field() {
        let long = "é".repeat(50_000);
        let violations: Vec<_> = (0..26)
            .map(|n| Violation { field: format!("input.f{n}{long}"), description: long.clone() })
            .collect();
        let status = tonic::Status::from(Error::invalid(violations).with("id", long));
        let headers = status.clone().into_http::<()>();
        let bytes: usize = headers.headers().iter().map(|(k, v)| k.as_str().len() + v.len() + 32).sum();
        assert!(bytes < 12 << 10, "{bytes}");
        let details = status.get_error_details();
        let named = &details.bad_request().unwrap().field_violations;
        assert_eq!(named.len(), 26);
        for (n, violation) in named.iter().enumerate() {
            assert!(violation.field.starts_with(&format!("input.f{n}")), "{}", violation.field);
            assert!(violation.description.starts_with('é'));
        }
        let endless = vec![Violation { field: "a".into(), description: "b".into() }; 10_000];
        assert_eq!(Error::invalid(endless).bounded().violations.len(), VIOLATIONS);
        let short = Violation { field: "a".into(), description: "b".repeat(2_000) };
        let error = Error::invalid(vec![short.clone()]);
        assert_eq!(error.bounded().violations, [short]);
    }

    #[test]
    fn reasons_are_unique() {
        let mut reasons: Vec<_> = Code::ALL.iter().map(|c| c.reason()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), Code::ALL.len());
    }
}
