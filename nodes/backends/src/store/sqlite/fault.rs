//! What can go wrong with a statement, and whose fault it is.

use callboard_domain::lifecycle::Illegal;
use callboard_ports::store::Error;
use rusqlite::ErrorCode;

/// Why a piece of work cannot go on. What it wrote has to be undone.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error(transparent)]
    Illegal(#[from] Illegal),
    #[error("{0}")]
    Unreadable(String),
}

impl Fault {
    /// Whether one item's data is the cause. If not, the file or the machine is, and every other item
    /// would meet the same.
    pub(super) fn is_of_data(&self) -> bool {
        match self {
            Self::Sql(error) => match error.sqlite_error_code() {
                Some(code) => is_of_data(code),
                // No code: the value that was read or bound is not what it should be.
                None => true,
            },
            Self::Illegal(_) | Self::Unreadable(_) => true,
        }
    }

    /// Whether a commit that failed so may have reached the disk all the same.
    pub(super) fn leaves_commit_unknown(&self) -> bool {
        matches!(self, Self::Sql(e) if e.sqlite_error_code() == Some(ErrorCode::SystemIoFailure))
    }
}

fn is_of_data(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ConstraintViolation
            | ErrorCode::TooBig
            | ErrorCode::TypeMismatch
            | ErrorCode::ParameterOutOfRange
    )
}

/// As the callers of the port see it.
impl From<&Fault> for Error {
    fn from(fault: &Fault) -> Self {
        let text = fault.to_string();
        match fault {
            Fault::Illegal(_) | Fault::Unreadable(_) => Self::Corrupt(text),
            Fault::Sql(error) => match error.sqlite_error_code() {
                None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(text),
                Some(code) if is_of_data(code) => Self::Refused(text),
                Some(_) => Self::Unavailable(text),
            },
        }
    }
}
