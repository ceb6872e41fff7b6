//! What is known of a call that has no result.

use callboard_domain::Code;
use std::time::Duration;
use tonic::Status;
use tonic_types::StatusExt;

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It certainly did not run: it can be made again, also elsewhere.
    #[error("the call did not run: {}", .0.message())]
    DidNotRun(Status),
    /// It may have run.
    #[error("the call may have run: {}", .0.message())]
    MayHaveRun(Status),
    /// It ran, and this is its answer.
    #[error("{}", .0.message())]
    Answered(Status),
}

impl Error {
    /// The status, as it came. Made an [`Error`] again, it says the same.
    #[must_use]
    pub fn into_status(self) -> Status {
        match self {
            Self::DidNotRun(status) | Self::MayHaveRun(status) | Self::Answered(status) => status,
        }
    }

    /// The status, as it came.
    #[must_use]
    pub fn status(&self) -> &Status {
        match self {
            Self::DidNotRun(status) | Self::MayHaveRun(status) | Self::Answered(status) => status,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let is = |codes: &[Code], reason: &str| codes.iter().any(|code| code.reason() == reason);
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
        match reason.as_deref() {
            Some(r) if is(&[Code::ActorUnavailable, Code::Draining, Code::RoleNotHosted], r) => {
                Self::DidNotRun(status)
            }
            Some(r) if is(&[Code::MayHaveRun, Code::DeadlineExceeded], r) => Self::MayHaveRun(status),
            Some(_) => Self::Answered(status),
            // No reason of ours: the transport speaks, and it does not say what it has passed on.
            None => match status.code() {
                tonic::Code::InvalidArgument | tonic::Code::NotFound | tonic::Code::Unimplemented => {
                    Self::Answered(status)
                }
                _ => Self::MayHaveRun(status),
            },
        }
    }
}

/// Says in the metadata of an error what broke a connection.
const CAUSE: &str = "cause";
const FOREIGN: &str = "protocol";

/// When a call that did not run is worth another attempt.
const AGAIN: Duration = Duration::from_millis(200);

/// The status of a call that never left this node.
pub(super) fn not_sent(peer: &str, why: &str) -> Status {
    callboard_domain::Error::new(Code::ActorUnavailable, format!("cannot reach {peer}: {why}"))
        .with("peer", peer)
        .retry_after(AGAIN)
        .into()
}

/// The status of a call whose connection failed after it was sent.
pub(super) fn lost(peer: &str, why: &str) -> Status {
    failed_after(peer, why).into()
}

/// The status of a call that was sent to somebody who does not speak HTTP/2.
pub(super) fn foreign(peer: &str, why: &str) -> Status {
    failed_after(peer, why).with(CAUSE, FOREIGN).into()
}

/// Whether a call went to somebody who does not speak HTTP/2.
pub(crate) fn is_foreign(status: &Status) -> bool {
    let info = status.get_error_details().error_info().cloned();
    info.is_some_and(|info| info.metadata.get(CAUSE).is_some_and(|cause| cause == FOREIGN))
}

fn failed_after(peer: &str, why: &str) -> callboard_domain::Error {
    let text = format!("the connection to {peer} failed before the answer came: {why}");
    callboard_domain::Error::new(Code::MayHaveRun, text).with("peer", peer)
}

/// The status of a call that ran out of time.
pub(super) fn too_late() -> Status {
    callboard_domain::Error::new(Code::DeadlineExceeded, "the call's time was up").into()
}

/// The status of a call for which no node was found.
pub(super) fn no_node(role: &str) -> Status {
    let text = format!("no node that can be reached hosts the role {role}");
    callboard_domain::Error::new(Code::ActorUnavailable, text).with("role", role).retry_after(AGAIN).into()
}

/// The status of a call for a role that this node does not host.
pub(super) fn not_hosted(role: &str) -> Status {
    let text = format!("this node does not host the role {role}");
    callboard_domain::Error::new(Code::RoleNotHosted, text).with("role", role).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(error: Error) -> Error {
        Error::from(error.into_status())
    }

    #[test]
    fn what_is_known_of_a_call_survives_being_passed_on() {
        let refused = again(Error::from(not_sent("b", "connection refused")));
        assert!(
            matches!(&refused, Error::DidNotRun(s) if s.code() == tonic::Code::Unavailable),
            "{refused:?}"
        );
        assert!(matches!(again(Error::from(lost("b", "reset"))), Error::MayHaveRun(_)));
        assert!(matches!(again(Error::from(too_late())), Error::MayHaveRun(_)));
        assert!(matches!(again(Error::from(not_hosted("alert"))), Error::DidNotRun(_)));
        assert!(matches!(again(Error::from(no_node("alert"))), Error::DidNotRun(_)));
    }

    #[test]
    fn a_reason_of_ours_decides_and_without_one_only_what_is_certain_counts_as_an_answer() {
        let of = |code| Error::from(Status::from(callboard_domain::Error::new(code, "text")));
        for code in Code::ALL {
            let error = of(*code);
            match code {
                Code::ActorUnavailable | Code::Draining | Code::RoleNotHosted => {
                    assert!(matches!(error, Error::DidNotRun(_)), "{code:?}");
                }
                Code::MayHaveRun | Code::DeadlineExceeded => {
                    assert!(matches!(error, Error::MayHaveRun(_)), "{code:?}");
                }
                _ => assert!(matches!(error, Error::Answered(_)), "{code:?}"),
            }
        }
        for bare in
            [Status::unavailable("x"), Status::cancelled("x"), Status::internal("x"), Status::unknown("x")]
        {
            assert!(matches!(Error::from(bare), Error::MayHaveRun(_)));
        }
        assert!(matches!(Error::from(Status::not_found("x")), Error::Answered(_)));
    }
}
