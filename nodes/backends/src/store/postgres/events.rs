//! A task's log in its table.

use super::fault::Fault;
use super::rows;
use crate::store::codec::{decode, encode, type_code};
use crate::store::names::Names;
use callboard_domain::{Event, Happening, SessionId, TaskId};
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use std::collections::HashMap;

/// The columns [`read`] expects, from 0.
macro_rules! event_columns {
    () => {
        "e.task_id, e.seq, e.at, e.type, e.state, e.attempt, e.node, e.detail"
    };
}
pub(super) use event_columns;

const OF_TASK: &str =
    concat!("SELECT ", event_columns!(), " FROM task_events e WHERE e.task_id = $1 ORDER BY e.seq");
const OF_TASKS: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM task_events e WHERE e.task_id = ANY($1) ORDER BY e.task_id, e.seq"
);

/// The number a happening is stored as.
pub(super) fn code(what: &Happening) -> i16 {
    i16::from(type_code(what))
}

/// What a happening holds beside its number, if anything.
pub(super) fn detail(what: &Happening) -> Result<Option<String>, Fault> {
    let mut text = Vec::new();
    encode(what, &mut text).map_err(|e| Fault::Unreadable(e.to_string()))?;
    if text.is_empty() {
        return Ok(None);
    }
    String::from_utf8(text).map(Some).map_err(|e| Fault::Unreadable(e.to_string()))
}

/// Reads an event.
pub(super) fn read(sql: &PgRow, names: &mut Names) -> Result<Event, Fault> {
    let detail: Option<&str> = rows::get(sql, 7)?;
    Ok(Event {
        task_id: rows::id(sql, 0)?,
        seq: rows::count(sql, 1)?,
        at: rows::time(sql, 2)?,
        what: decode(rows::byte(sql, 3)?, detail).ok_or_else(|| rows::wrong("an event"))?,
        state: rows::state(sql, 4)?,
        attempt: rows::small(sql, 5)?,
        node: rows::get::<Option<&str>>(sql, 6)?.map(|n| names.get(n)),
    })
}

/// A task's whole log.
pub(super) async fn of_task(
    conn: &mut PgConnection,
    id: TaskId,
    names: &mut Names,
) -> Result<Vec<Event>, Fault> {
    let found = sqlx::query(OF_TASK).bind(rows::uuid(id)).fetch_all(conn).await?;
    found.iter().map(|sql| read(sql, names)).collect()
}

/// The whole logs of tasks. Events that cannot be read are left out.
pub(super) async fn of_tasks(
    conn: &mut PgConnection,
    ids: &[TaskId],
    names: &mut Names,
) -> Result<HashMap<TaskId, Vec<Event>>, Fault> {
    let ids: Vec<_> = ids.iter().copied().map(rows::uuid).collect();
    let mut logs: HashMap<TaskId, Vec<Event>> = HashMap::new();
    for sql in sqlx::query(OF_TASKS).bind(ids).fetch_all(conn).await? {
        if let Ok(event) = read(&sql, names) {
            logs.entry(event.task_id).or_default().push(event);
        }
    }
    Ok(logs)
}

/// The session that a claim was recorded for.
pub(super) fn claimed_by(event: &Event) -> Option<SessionId> {
    match event.what {
        Happening::Claimed { session } => Some(session),
        _ => None,
    }
}
