//! How what happens to a task is stored, the same in every store: a number per [`Happening`], and its
//! details as compact JSON (mostly none).

use callboard_domain::alert::{Severity, Standing};
use callboard_domain::{Happening, Progress, TaskError, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Write;

/// What a happening holds beside its type.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Detail<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<bool>,
}

impl<'a> Detail<'a> {
    fn of_error(error: &'a TaskError) -> Self {
        Self {
            reason: Some(Cow::Borrowed(&error.reason)),
            message: Some(Cow::Borrowed(&error.message)),
            retryable: Some(error.retryable),
            ..Self::default()
        }
    }

    fn error(&mut self) -> Option<TaskError> {
        Some(TaskError {
            reason: self.reason.take()?.into_owned(),
            message: self.message.take()?.into_owned(),
            retryable: self.retryable?,
        })
    }
}

/// The number a happening is stored as. Numbers are never used again for something else.
pub(super) const fn type_code(what: &Happening) -> u8 {
    match what {
        Happening::Submitted { .. } => 1,
        Happening::Due => 2,
        Happening::Claimed { .. } => 3,
        Happening::Started { .. } => 4,
        Happening::Progressed(_) => 5,
        Happening::AttemptFailed { .. } => 6,
        Happening::Lost { .. } => 7,
        Happening::Returned => 8,
        Happening::CancelRequested => 9,
        Happening::Succeeded => 10,
        Happening::Failed { .. } => 11,
        Happening::Cancelled => 12,
    }
}

/// Writes the details into `out`, or nothing if there are none.
pub(super) fn encode(what: &Happening, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    out.clear();
    let detail = match what {
        Happening::Submitted { run_at: None }
        | Happening::Due
        | Happening::Returned
        | Happening::CancelRequested
        | Happening::Succeeded
        | Happening::Cancelled => return Ok(()),
        // The two of every task, by hand: nothing in them needs escaping.
        Happening::Claimed { session } => {
            return write!(out, "{{\"session\":\"{session}\"}}").map_err(serde_json::Error::io);
        }
        Happening::Started { at } => {
            return write!(out, "{{\"at\":{}}}", at.micros()).map_err(serde_json::Error::io);
        }
        Happening::Submitted { run_at: Some(at) } => {
            Detail { run_at: Some(at.micros()), ..Detail::default() }
        }
        Happening::Progressed(progress) => Detail {
            percent: Some(progress.percent),
            message: Some(Cow::Borrowed(&progress.message)),
            ..Detail::default()
        },
        Happening::AttemptFailed { error, run_at } => {
            Detail { run_at: Some(run_at.micros()), ..Detail::of_error(error) }
        }
        Happening::Lost { started, run_at } => {
            Detail { started: Some(*started), run_at: run_at.map(Timestamp::micros), ..Detail::default() }
        }
        Happening::Failed { error, lost } => Detail { lost: Some(*lost), ..Detail::of_error(error) },
    };
    serde_json::to_writer(out, &detail)
}

/// The happening stored as a type and its details.
pub(super) fn decode(code: u8, detail: Option<&str>) -> Option<Happening> {
    let mut detail: Detail<'_> = match detail {
        Some(json) => serde_json::from_str(json).ok()?,
        None => Detail::default(),
    };
    let run_at = detail.run_at.map(Timestamp::from_micros);
    Some(match code {
        1 => Happening::Submitted { run_at },
        2 => Happening::Due,
        3 => Happening::Claimed { session: detail.session?.parse().ok()? },
        4 => Happening::Started { at: Timestamp::from_micros(detail.at?) },
        5 => Happening::Progressed(Progress {
            percent: detail.percent?,
            message: detail.message?.into_owned(),
        }),
        6 => Happening::AttemptFailed { error: detail.error()?, run_at: run_at? },
        7 => Happening::Lost { started: detail.started?, run_at },
        8 => Happening::Returned,
        9 => Happening::CancelRequested,
        10 => Happening::Succeeded,
        11 => Happening::Failed { error: detail.error()?, lost: detail.lost? },
        12 => Happening::Cancelled,
        _ => return None,
    })
}

/// The number a severity is stored as.
pub(super) const fn severity_code(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 1,
        Severity::Warning => 2,
        Severity::Critical => 3,
    }
}

/// The severity stored as `code`.
pub(super) fn severity(code: u8) -> Option<Severity> {
    [Severity::Info, Severity::Warning, Severity::Critical].into_iter().find(|s| severity_code(*s) == code)
}

/// The number a standing is stored as.
pub(super) const fn standing_code(standing: Standing) -> u8 {
    match standing {
        Standing::Pending => 1,
        Standing::Firing => 2,
        Standing::Acknowledged => 3,
        Standing::Resolved => 4,
        Standing::Silenced => 5,
    }
}

/// The standing stored as `code`.
pub(super) fn standing(code: u8) -> Option<Standing> {
    [Standing::Pending, Standing::Firing, Standing::Acknowledged, Standing::Resolved, Standing::Silenced]
        .into_iter()
        .find(|s| standing_code(*s) == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::SessionId;

    #[test]
    fn every_happening_comes_back_as_it_was() {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        let error = TaskError::new("TIMEOUT", "a \"quoted\"\nmessage \u{0} é", true);
        let all = [
            Happening::Submitted { run_at: None },
            Happening::Submitted { run_at: Some(at) },
            Happening::Due,
            Happening::Claimed { session: SessionId::from_bytes([7; 16]) },
            Happening::Started { at },
            Happening::Progressed(Progress { percent: 42, message: "half \"way\"".into() }),
            Happening::AttemptFailed { error: error.clone(), run_at: at },
            Happening::Lost { started: true, run_at: Some(at) },
            Happening::Lost { started: false, run_at: None },
            Happening::Returned,
            Happening::CancelRequested,
            Happening::Succeeded,
            Happening::Failed { error, lost: true },
            Happening::Cancelled,
        ];
        let mut buffer = Vec::new();
        for what in all {
            encode(&what, &mut buffer).unwrap();
            let text = std::str::from_utf8(&buffer).unwrap();
            let detail = (!text.is_empty()).then_some(text);
            assert_eq!(decode(type_code(&what), detail), Some(what));
        }
    }

    #[test]
    fn garbage_is_no_happening() {
        assert_eq!(decode(0, None), None);
        assert_eq!(decode(13, None), None);
        assert_eq!(decode(3, None), None);
        assert_eq!(decode(3, Some("{\"session\":\"no\"}")), None);
        assert_eq!(decode(4, Some("not json")), None);
    }
}
