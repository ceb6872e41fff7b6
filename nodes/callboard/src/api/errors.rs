//! What a store's error means to a caller.

use callboard_domain::{Code, Error};
use callboard_ports::{artifacts, store};
use std::time::Duration;

/// When to try again after an overload.
const SOON: Duration = Duration::from_millis(500);

/// An error about a task that the caller named.
pub(super) fn about_task(error: store::Error, named: &str) -> Error {
    match error {
        store::Error::NotFound => Error::new(
            Code::TaskNotFound,
            format!("there is no task `{named}`; `callboard list` shows those there are"),
        )
        .with("id", named),
        store::Error::Ambiguous => Error::new(
            Code::AmbiguousId,
            format!("more than one task's id ends in `{named}`: give more of it"),
        )
        .with("id", named),
        other => of_store(other),
    }
}

/// An error that is about no task in particular.
pub(super) fn of_store(error: store::Error) -> Error {
    let text = error.to_string();
    match error {
        store::Error::Unavailable(_) => Error::new(Code::StoreUnavailable, text).retry_after(SOON),
        store::Error::Unknown(_) => Error::new(Code::CommitUnknown, text),
        store::Error::Overloaded => {
            Error::new(Code::Overloaded, "too many writes wait for the store: try again").retry_after(SOON)
        }
        store::Error::Refused(_) => Error::new(Code::InvalidArgument, text),
        store::Error::RequestIdReused(id) => {
            Error::new(Code::RequestIdReused, text).with("task_id", id.to_string())
        }
        store::Error::SessionEnded | store::Error::Fenced => Error::new(Code::StaleFence, text),
        store::Error::NotFound => Error::new(Code::TaskNotFound, text),
        store::Error::Ambiguous => Error::new(Code::AmbiguousId, text),
        store::Error::Corrupt(_) => {
            tracing::error!(error = text, "stored data cannot be read");
            Error::new(Code::Internal, text)
        }
    }
}

/// An error of artifacts.
pub(super) fn of_artifacts(error: &artifacts::Error, digest: &str) -> Error {
    let code = match error {
        artifacts::Error::NotFound => Code::ArtifactNotFound,
        artifacts::Error::TooLarge(_) => Code::InvalidArgument,
        artifacts::Error::Unavailable(_) => Code::StoreUnavailable,
        artifacts::Error::Damaged => Code::Internal,
    };
    Error::new(code, format!("{error} (`{digest}`)")).with("digest", digest)
}
