//! How a command can fail, and the exit code of each.

use callboard_client::{Code, Error};
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The arguments, or what they point to, are wrong.
    #[error("{0}")]
    Usage(String),
    /// The node refused, or could not be reached.
    #[error("{0}")]
    Node(#[from] Error),
    /// The task failed, was cancelled, or has no result; or some items of several failed.
    #[error("{0}")]
    Task(String),
    /// What was waited for did not come in time.
    #[error("{0}")]
    Late(String),
    /// The person interrupted the command. Holds what to say then.
    #[error("interrupted")]
    Interrupted(Option<String>),
    /// Whoever read the output has gone.
    #[error("nobody reads the output")]
    ReaderGone,
    /// Something on this machine.
    #[error("{0:#}")]
    Local(#[from] anyhow::Error),
}

impl Failure {
    /// The exit code, as the top-level help documents it.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Task(_) | Self::Local(_) => 1,
            Self::Usage(_) => 2,
            Self::Node(error) => match error.code {
                _ if error.is_unreachable() => 4,
                Code::InvalidArgument => 2,
                Code::NotFound => 3,
                _ => 5,
            },
            Self::Late(_) => 124,
            Self::Interrupted(_) => 130,
        }
    }

    /// The exit code, for the process.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// What to do next, where that is known. `program` is how to call this program.
    #[must_use]
    pub fn advice(&self, program: &str) -> Option<String> {
        let Self::Node(error) = self else { return None };
        if error.is_unreachable() {
            return Some(format!(
                "is a node running? start one with `{program} up`, or name another address with --addr"
            ));
        }
        if error.message.contains("`callboard ") {
            // The node says itself what to do: twice would be noise.
            return None;
        }
        let id = error.metadata.get("id").map_or("ID", String::as_str);
        match error.reason.as_str() {
            "UNKNOWN_KIND" => Some(format!("`{program} kinds` lists the kinds that exist")),
            "TASK_NOT_FOUND" => Some(format!("`{program} list` shows the newest tasks with their ids")),
            "AMBIGUOUS_ID" => Some("give more digits of the id".to_owned()),
            "TASK_NOT_ENDED" => {
                Some(format!("wait for it with `{program} wait {id}` or end it with `{program} cancel {id}`"))
            }
            "TASK_ENDED" => Some(format!("`{program} get {id}` shows how it ended")),
            "REQUEST_ID_REUSED" => Some("give another --request-id, or leave it out".to_owned()),
            "PROVIDERS_FAILED" => Some(format!("`{program} providers` shows what each of them answered")),
            _ if error.retry_after.is_some() => {
                let seconds = error.retry_after.unwrap_or_default().as_secs_f64().ceil();
                Some(format!("try again in {seconds} s"))
            }
            _ if error.code == Code::Unavailable || error.code == Code::DeadlineExceeded => {
                Some(format!("try again; `{program} doctor` looks for what is wrong"))
            }
            _ => None,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        Self::Local(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_client::Origin;

    fn node(code: Code, reason: &str, origin: Origin) -> Failure {
        Failure::Node(Error {
            code,
            reason: reason.into(),
            message: String::new(),
            metadata: Default::default(),
            violations: Vec::new(),
            retry_after: None,
            may_have_run: false,
            origin,
        })
    }

    #[test]
    fn exit_codes_are_those_of_the_help() {
        let server = Origin::Server;
        assert_eq!(node(Code::InvalidArgument, "UNKNOWN_KIND", server).code(), 2);
        assert_eq!(node(Code::NotFound, "TASK_NOT_FOUND", server).code(), 3);
        assert_eq!(node(Code::Unavailable, "UNREACHABLE", Origin::Unreachable).code(), 4);
        assert_eq!(node(Code::Unavailable, "DRAINING", server).code(), 5);
        assert_eq!(node(Code::FailedPrecondition, "TASK_ENDED", server).code(), 5);
        assert_eq!(Failure::Task(String::new()).code(), 1);
        assert_eq!(Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).code(), 0);
    }

    #[test]
    fn advice_names_the_program_as_it_is_called() {
        let advice =
            node(Code::Unavailable, "UNREACHABLE", Origin::Unreachable).advice("target/debug/callboard");
        assert!(advice.unwrap().contains("`target/debug/callboard up`"));
        assert_eq!(node(Code::Internal, "INTERNAL", Origin::Server).advice("callboard"), None);
        let mut missing = node(Code::NotFound, "TASK_NOT_FOUND", Origin::Server);
        assert!(missing.advice("cb").is_some());
        if let Failure::Node(error) = &mut missing {
            error.message = "no such task; `callboard list` shows those there are".into();
        }
        assert_eq!(missing.advice("cb"), None);
    }
}
