use callboard_domain::{TaskError, llm};
use std::time::Duration;

/// Why a handler could not do its work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .error.message)]
pub struct Failure {
    /// The reason, the message, and whether another attempt could help.
    pub error: TaskError,
    /// The wait that the other side named before another attempt.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that another attempt could mend.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self { error: TaskError::new("HANDLER_FAILED", message, true), retry_after: None }
    }

    /// A failure that no other attempt can mend.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { error: TaskError::new("HANDLER_FAILED", message, false), retry_after: None }
    }

    /// Replaces the reason, a stable word in UPPER_SNAKE form.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.error.reason = reason.into();
        self
    }
}

impl From<llm::Error> for Failure {
    /// Retryable if the same call could succeed later.
    fn from(error: llm::Error) -> Self {
        Self {
            error: TaskError::new(error.kind.reason(), error.message, error.kind.is_retryable()),
            retry_after: error.retry_after,
        }
    }
}
