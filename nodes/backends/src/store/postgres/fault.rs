//! What can go wrong with a statement, and whose fault it is.

use callboard_domain::lifecycle::Illegal;
use callboard_ports::store::Error;
use std::borrow::Cow;

/// Why a piece of work cannot go on. What it wrote is rolled back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Illegal(#[from] Illegal),
    #[error("{0}")]
    Unreadable(String),
    /// A row is no longer what it was, as it was read without a lock or is remembered.
    #[error("{found} of {wanted} tasks were as they had been read")]
    Moved { found: i64, wanted: usize },
    #[error("the server did not answer within {0} s")]
    TimedOut(u64),
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// One item's data: every other item can do without it.
    Data,
    /// Two transactions in each other's way: the same work may succeed at once.
    Clash,
    /// The connection is gone, or the server is.
    Connection,
    /// The server, for now: its locks, its disk, its memory.
    Server,
}

impl Fault {
    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::Illegal(_) | Self::Unreadable(_) => Blame::Data,
            Self::Moved { .. } => Blame::Clash,
            Self::TimedOut(_) => Blame::Connection,
            Self::Sql(error) => match error {
                _ if self.lacks_partition() => Blame::Server,
                sqlx::Error::Database(error) => blame(&error.code().unwrap_or(Cow::Borrowed(""))),
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
                    Blame::Data
                }
                sqlx::Error::RowNotFound
                | sqlx::Error::TypeNotFound { .. }
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. } => Blame::Server,
                _ => Blame::Connection,
            },
        }
    }

    /// Whether there is no partition for the day of a task. It has the code of a check that failed, and names
    /// none.
    pub(super) fn lacks_partition(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(e))
            if e.code().as_deref() == Some("23514") && e.constraint().is_none())
    }

    /// Whether a table is not there.
    pub(super) fn lacks_table(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(e)) if e.code().as_deref() == Some("42P01"))
    }

    /// Whether something is there already that can be there but once.
    pub(super) fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(e)) if e.is_unique_violation())
    }

    /// Whether a task with the same id, or of the same request, is there already.
    pub(super) fn is_taken_id(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(e))
            if e.is_unique_violation() && e.table().is_some_and(|t| t.starts_with("task")))
    }
}

/// By the SQLSTATE; see the manual's appendix A.
fn blame(code: &str) -> Blame {
    match code {
        // The last: a partition that was named and has been dropped since.
        "40001" | "40P01" | "42P01" => Blame::Clash,
        // Ended while idle in a transaction; ended by an administrator, by a crash, not ready yet.
        "25P03" | "57P01" | "57P02" | "57P03" | "57P05" => Blame::Connection,
        // More than the protocol takes in one value.
        "54000" => Blame::Data,
        _ if code.starts_with("08") => Blame::Connection,
        _ if code.starts_with("22") || code.starts_with("23") => Blame::Data,
        _ => Blame::Server,
    }
}

/// As the callers of the port see it.
impl From<&Fault> for Error {
    fn from(fault: &Fault) -> Self {
        let text = describe(fault);
        match fault {
            Fault::Illegal(_) | Fault::Unreadable(_) => Self::Corrupt(text),
            Fault::Sql(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => Self::Corrupt(text),
            _ if fault.blame() == Blame::Data => Self::Refused(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// What happened, with a hint where the cause is not in the server's own words.
fn describe(fault: &Fault) -> String {
    let Fault::Sql(sqlx::Error::Database(error)) = fault else { return fault.to_string() };
    match error.code().as_deref() {
        Some("23514") if fault.lacks_partition() => format!(
            "{}: partitions are made for 8 days when a node starts and each hour, see its log, and its clock",
            error.message()
        ),
        Some("26000" | "42P05") => format!(
            "{}: a connection pooler in transaction mode must support prepared statements (PgBouncer from 1.21)",
            error.message()
        ),
        _ => error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_tells_whose_fault_it_is() {
        for (code, wanted) in [
            ("22021", Blame::Data),
            ("23514", Blame::Data),
            ("40P01", Blame::Clash),
            ("42P01", Blame::Clash),
            ("57P01", Blame::Connection),
            ("08006", Blame::Connection),
            ("55P03", Blame::Server),
            ("53100", Blame::Server),
            ("57014", Blame::Server),
        ] {
            assert_eq!(blame(code), wanted, "{code}");
        }
    }

    #[test]
    fn only_data_is_refused_for_good() {
        let error = |fault: Fault| Error::from(&fault);
        assert!(matches!(error(Fault::Unreadable("x".into())), Error::Corrupt(_)));
        assert!(matches!(error(Fault::TimedOut(5)), Error::Unavailable(_)));
        assert!(matches!(error(Fault::Moved { found: 1, wanted: 2 }), Error::Unavailable(_)));
        assert!(matches!(error(Fault::Sql(sqlx::Error::PoolTimedOut)), Error::Unavailable(_)));
    }
}
