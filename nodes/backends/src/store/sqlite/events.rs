//! A task's log in its table.

use super::rows;
use super::tx::Tx;
use crate::store::codec::{decode, encode, type_code};
use crate::store::names::Names;
use callboard_domain::{Event, Happening, SessionId, TaskId};
use rusqlite::{CachedStatement, types::Type};

/// The columns [`read`] expects, from 0.
macro_rules! event_columns {
    () => {
        "e.seq, e.at, e.type, e.state, e.attempt, e.node, e.detail"
    };
}
pub(super) use event_columns;

const INSERT: &str = "INSERT INTO task_events (task, seq, at, type, state, attempt, node, detail) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

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
