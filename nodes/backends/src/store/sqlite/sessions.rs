//! Sessions, and what their end does to the tasks they held.

use super::fault::Fault;
use super::readers::Reader;
use super::rows;
use super::tx::Tx;
use callboard_domain::{Command, SessionId, State, TaskId};
use callboard_ports::sessions::{EndedSession, NewSession, Session};
use callboard_ports::store::Error;
use rusqlite::types::Type;
use rusqlite::{ErrorCode, params};

const OPEN: &str = "INSERT INTO node_sessions (id, node, version, roles, addresses, started_at, revival) \
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const END: &str =
    "UPDATE node_sessions SET ended_at = ?2, ended_reason = ?3 WHERE id = ?1 AND ended_at IS NULL";
const HELD: &str = "SELECT id, session FROM tasks INDEXED BY tasks_running \
                    WHERE state = 3 AND session = ?1 ORDER BY id";
const ORPHANS: &str = "SELECT id, session FROM tasks INDEXED BY tasks_running WHERE state = 3 \
    AND session NOT IN (SELECT id FROM node_sessions WHERE ended_at IS NULL) LIMIT ?1";
const LIVE: &str = "SELECT id, node, version, roles, addresses, started_at, revival \
                    FROM node_sessions WHERE ended_at IS NULL ORDER BY started_at, id";
const IS_LIVE: &str = "SELECT 1 FROM node_sessions WHERE id = ?1 AND ended_at IS NULL";
const TO_CANCEL: &str = "SELECT id FROM tasks INDEXED BY tasks_running \
                         WHERE state = 3 AND session = ?1 AND cancel_requested = 1 ORDER BY id";

/// Writes a new session down.
pub(super) fn open(tx: &mut Tx<'_>, session: &NewSession) -> Result<Result<(), Error>, Fault> {
    let inserted = tx.sql(OPEN)?.execute(params![
        session.id.as_bytes().as_slice(),
        session.node,
        session.version,
        json(&session.roles)?,
        json(&session.addresses)?,
        tx.now.micros(),
        session.revival,
    ]);
    match inserted {
        Ok(_) => Ok(Ok(())),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Ok(Err(Error::Refused(format!("the session {} was opened before", session.id))))
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends a session and hands its tasks off again. There is one writer, so no claim can come between.
pub(super) fn end(tx: &mut Tx<'_>, id: SessionId, reason: &str) -> Result<EndedSession, Fault> {
    let mut ended = EndedSession::default();
    if tx.sql(END)?.execute(params![id.as_bytes().as_slice(), tx.now.micros(), reason])? == 0 {
        return Ok(ended);
    }
    let held: Vec<_> =
        tx.sql(HELD)?.query_map([id.as_bytes().as_slice()], held)?.collect::<Result<_, _>>()?;
    for (task, session) in held {
        match lose(tx, task, session)? {
            Some(state) if state.is_terminal() => ended.ended.push(task),
            Some(_) => ended.requeued.push(task),
            None => {}
        }
    }
    Ok(ended)
}

/// Ends a session on the word of another, if that one is live. None if there is nothing to end.
pub(super) fn accuse(
    tx: &mut Tx<'_>,
    accuser: SessionId,
    accused: SessionId,
    reason: &str,
) -> Result<Result<Option<EndedSession>, Error>, Fault> {
    if !tx.sql(IS_LIVE)?.exists([accuser.as_bytes().as_slice()])? {
        return Ok(Err(Error::SessionEnded));
    }
    if !tx.sql(IS_LIVE)?.exists([accused.as_bytes().as_slice()])? {
        return Ok(Ok(None));
    }
    end(tx, accused, reason).map(|ended| Ok(Some(ended)))
}

/// Hands off again what sessions hold that are not live. Returns how many.
pub(super) fn recover_orphans(tx: &mut Tx<'_>, limit: usize) -> Result<usize, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let orphans: Vec<_> = tx.sql(ORPHANS)?.query_map([limit], held)?.collect::<Result<_, _>>()?;
    let mut count = 0;
    for (task, session) in orphans {
        count += usize::from(lose(tx, task, session)?.is_some());
    }
    Ok(count)
}

fn held(sql: &rusqlite::Row<'_>) -> rusqlite::Result<(TaskId, SessionId)> {
    Ok((TaskId::from_bytes(rows::bytes16(sql, 0)?), SessionId::from_bytes(rows::bytes16(sql, 1)?)))
}

/// The state a lost task is in now; none if it was not lost after all.
fn lose(tx: &mut Tx<'_>, id: TaskId, session: SessionId) -> Result<Option<State>, Fault> {
    let work = |tx: &mut Tx<'_>| {
        let Some(mut row) = tx.load(id)? else { return Ok(None) };
        let command = Command::Lose { session, now: tx.now, jitter: (tx.jitter)() };
        let Ok(what) = row.life.decide(command) else { return Ok(None) };
        tx.happen(&mut row, what)?;
        tx.save(&row)?;
        Ok(Some(row.life.state))
    };
    tx.isolated(work, |_, fault| {
        tracing::error!(task.id = %id, error = %fault, "a lost task cannot be handed off again");
        Ok(None)
    })
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

fn from_json<T: serde::de::DeserializeOwned>(sql: &rusqlite::Row<'_>, i: usize) -> rusqlite::Result<T> {
    serde_json::from_str(rows::text(sql, i)?)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(i, Type::Text, Box::new(e)))
}

/// The sessions that have not ended, without their counters.
pub(super) fn live(reader: &mut Reader) -> Result<Vec<Session>, Fault> {
    let mut statement = reader.conn.prepare_cached(LIVE)?;
    let sessions = statement.query_map([], |sql| {
        Ok(Session {
            opened: NewSession {
                id: SessionId::from_bytes(rows::bytes16(sql, 0)?),
                node: sql.get(1)?,
                version: sql.get(2)?,
                roles: from_json(sql, 3)?,
                addresses: from_json(sql, 4)?,
                revival: sql.get(6)?,
            },
            started_at: rows::time(sql, 5)?,
            counter: 0,
            ended: None,
        })
    })?;
    Ok(sessions.collect::<Result<_, _>>()?)
}

/// The tasks a live session holds for which a cancel was asked; none if it is not live.
pub(super) fn to_cancel(reader: &mut Reader, id: SessionId) -> Result<Option<Vec<TaskId>>, Fault> {
    // One snapshot: a session that ends between the two statements must not look idle.
    let snapshot = reader.conn.unchecked_transaction()?;
    let id = id.as_bytes().as_slice();
    if !snapshot.prepare_cached(IS_LIVE)?.exists([id])? {
        return Ok(None);
    }
    let mut statement = snapshot.prepare_cached(TO_CANCEL)?;
    let tasks = statement.query_map([id], |sql| rows::bytes16(sql, 0).map(TaskId::from_bytes))?;
    Ok(Some(tasks.collect::<Result<_, _>>()?))
}
