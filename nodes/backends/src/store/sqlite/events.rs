//! How a task's log is stored: a type per [`Happening`], and its details as compact JSON (mostly none).

use super::names::Names;
use super::rows;
use super::tx::Tx;
use callboard_domain::{Event, Happening, Progress, SessionId, TaskError, TaskId, Timestamp};
use rusqlite::{CachedStatement, types::Type};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Write;

/// The columns [`read`] expects, from 0.
macro_rules! event_columns {
    () => {
        "e.seq, e.at, e.type, e.state, e.attempt, e.node, e.detail"
    };
}
pub(super) use event_columns;

const INSERT: &str = "INSERT INTO task_events (task, seq, at, type, state, attempt, node, detail) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

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
fn encode(what: &Happening, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
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
fn decode(code: u8, detail: Option<&str>) -> Option<Happening> {
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

/// Appends an event to the log of task `n`.
pub(super) fn insert(tx: &mut Tx<'_>, n: i64, event: &Event) -> rusqlite::Result<()> {
    let mut buffer = std::mem::take(&mut tx.scratch.buffer);
    let detail = encode(&event.what, &mut buffer)
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
        .map(|()| std::str::from_utf8(&buffer).ok().filter(|t| !t.is_empty()));
    let inserted = detail.and_then(|detail| {
        tx.sql(INSERT)?.execute(rusqlite::params![
            n,
            rows::stored(event.seq),
            event.at.micros(),
            type_code(&event.what),
            event.state.code(),
            event.attempt,
            event.node.as_deref(),
            detail,
        ])
    });
    tx.scratch.buffer = buffer;
    inserted.map(drop)
}

/// Reads an event of the task `id`.
pub(super) fn read(sql: &rusqlite::Row<'_>, id: TaskId, names: &mut Names) -> rusqlite::Result<Event> {
    let detail = rows::maybe(sql, 6, rows::text)?;
    Ok(Event {
        task_id: id,
        seq: rows::count(sql, 0)?,
        at: rows::time(sql, 1)?,
        what: decode(sql.get(2)?, detail).ok_or_else(|| rows::wrong(6, Type::Text))?,
        state: rows::state(sql, 3)?,
        attempt: sql.get(4)?,
        node: rows::maybe(sql, 5, |sql, i| rows::name(sql, i, names))?,
    })
}

/// Reads every event a statement yields.
pub(super) fn read_all(
    statement: &mut CachedStatement<'_>,
    params: impl rusqlite::Params,
    id: TaskId,
    names: &mut Names,
) -> rusqlite::Result<Vec<Event>> {
    let mut rows = statement.query(params)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(read(row, id, names)?);
    }
    Ok(events)
}

/// The session that a claim was recorded for.
pub(super) fn claimed_by(events: &[Event]) -> Option<SessionId> {
    events.iter().rev().find_map(|e| match e.what {
        Happening::Claimed { session } => Some(session),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
