//! Sessions, and what their end does to the tasks they held.

use super::fault::Fault;
use super::line::Work;
use super::rows;
use super::tx::Tx;
use callboard_domain::{Command, SessionId, State, TaskId};
use callboard_ports::planted::Bug;
use callboard_ports::sessions::{Accusation, EndedSession, NewSession, Session};
use callboard_ports::store::Error;
use sqlx::postgres::PgRow;
use std::collections::HashSet;
use uuid::Uuid;

const OPEN: &str = "INSERT INTO node_sessions (id, node, version, roles, addresses, started_at, revival) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
/// A plain UPDATE would not wait for the claims, which hold the row FOR KEY SHARE.
const LOCK: &str = "SELECT counter FROM node_sessions WHERE id = $1 AND ended_at IS NULL FOR UPDATE";
const HOLD: &str = "SELECT counter FROM node_sessions WHERE id = $1 AND ended_at IS NULL FOR KEY SHARE";
const END: &str = "UPDATE node_sessions SET ended_at = $2, ended_reason = $3 WHERE id = $1";
const HELD: &str = "SELECT id FROM tasks WHERE state = 3 AND session = $1 ORDER BY id";
const END_AND_HELD: &str = "WITH ended AS ( \
        UPDATE node_sessions SET ended_at = $2, ended_reason = $3 WHERE id = $1 AND ended_at IS NULL \
        RETURNING id) \
    SELECT t.id FROM tasks t JOIN ended ON t.session = ended.id WHERE t.state = 3 ORDER BY t.id";
const ORPHANS: &str = "SELECT t.id, t.session FROM tasks t WHERE t.state = 3 AND NOT EXISTS ( \
        SELECT 1 FROM node_sessions s WHERE s.id = t.session AND s.ended_at IS NULL) \
    LIMIT $1 FOR UPDATE OF t SKIP LOCKED";
const ARE_LIVE: &str = "SELECT id FROM node_sessions WHERE id = ANY($1) AND ended_at IS NULL";
/// One statement, so that a renewal is one round trip. It answers one row without a task at least, if the
/// session is live.
pub(super) const RENEW: &str = "WITH renewed AS ( \
        UPDATE node_sessions SET counter = counter + 1 WHERE id = $1 AND ended_at IS NULL RETURNING id) \
    SELECT t.id FROM renewed LEFT JOIN tasks t \
        ON t.state = 3 AND t.session = renewed.id AND t.session = $1 AND t.cancel_requested ORDER BY t.id";
pub(super) const LIVE: &str = "SELECT id, node, version, roles, addresses, started_at, revival, counter \
                               FROM node_sessions WHERE ended_at IS NULL ORDER BY started_at, id";

/// Opens a session.
pub(super) struct Open(pub(super) NewSession);

impl Work for Open {
    type Out = Result<(), Error>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, Fault> {
        let session = &self.0;
        let opened = sqlx::query(OPEN)
            .bind(rows::session_uuid(session.id))
            .bind(&session.node)
            .bind(&session.version)
            .bind(json(&session.roles)?)
            .bind(json(&session.addresses)?)
            .bind(tx.now().micros())
            .bind(session.revival)
            .execute(&mut *tx.conn)
            .await?;
        Ok(if opened.rows_affected() == 1 {
            Ok(())
        } else {
            Err(Error::Refused(format!("the session {} was opened before", session.id)))
        })
    }
}

/// What the end of a session did.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) ended: EndedSession,
    /// Tasks it held that nothing was done about.
    pub(super) left: Vec<TaskId>,
}

/// Ends a session and hands its tasks off again.
pub(super) struct End {
    pub(super) id: SessionId,
    pub(super) reason: String,
    /// Whether its tasks are left as they are.
    pub(super) alone: bool,
}

impl Work for End {
    type Out = Ending;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Ending, Fault> {
        if Bug::SessionEndedInOneStatement.is_planted() {
            return end(tx, self.id, &self.reason, self.alone).await;
        }
        let locked = sqlx::query(LOCK).bind(rows::session_uuid(self.id)).fetch_optional(&mut *tx.conn);
        match locked.await? {
            Some(_) => end(tx, self.id, &self.reason, self.alone).await,
            None => Ok(Ending::default()),
        }
    }
}

/// Ends a session on the word of another.
pub(super) struct Accuse {
    pub(super) accusation: Accusation,
    /// Whether its tasks are left as they are.
    pub(super) alone: bool,
}

impl Work for Accuse {
    type Out = Result<Option<Ending>, Error>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, Fault> {
        let Accusation { accuser, accused, counter, reason } = self.accusation.clone();
        let (mut accuser_lives, mut standing) = (false, None);
        // In the order of the ids, so that two that accuse each other do not deadlock.
        let mut both = [accuser, accused];
        both.sort_unstable();
        for id in both {
            // An accuser that accuses itself needs the stronger lock.
            let sql = if id == accused { LOCK } else { HOLD };
            let found: Option<i64> =
                sqlx::query_scalar(sql).bind(rows::session_uuid(id)).fetch_optional(&mut *tx.conn).await?;
            if id == accuser {
                accuser_lives = found.is_some();
            }
            if id == accused {
                standing = found;
            }
        }
        if !accuser_lives {
            return Ok(Err(Error::SessionEnded));
        }
        match standing {
            Some(found) if counter.is_none_or(|seen| rows::stored(seen) == found) => {
                Ok(Ok(Some(end(tx, accused, &reason, self.alone).await?)))
            }
            _ => Ok(Ok(None)),
        }
    }
}

/// Hands off again up to so many tasks whose session is not live.
pub(super) struct RecoverOrphans(pub(super) usize);

impl Work for RecoverOrphans {
    type Out = usize;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<usize, Fault> {
        let held = orphans(tx, self.0).await?;
        // While the row was waited for, a session may have taken the task that is younger than what that
        // statement saw. With the rows locked, a second look is certain.
        let live = live(tx, held.iter().map(|(_, session)| *session)).await?;
        tx.load(held.iter().map(|(id, _)| *id)).await?;
        let lost = held.into_iter().filter(|(_, session)| !live.contains(session));
        Ok(lost.filter(|(id, session)| lose(tx, *id, *session).is_some()).count())
    }
}

/// Finds up to so many tasks whose session is not live, as far as can be seen without a lock on them.
pub(super) struct Orphans(pub(super) usize);

impl Work for Orphans {
    type Out = Vec<(TaskId, SessionId)>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, Fault> {
        orphans(tx, self.0).await
    }
}

async fn orphans(tx: &mut Tx<'_>, limit: usize) -> Result<Vec<(TaskId, SessionId)>, Fault> {
    let found = sqlx::query(ORPHANS).bind(rows::limit(limit)).fetch_all(&mut *tx.conn).await?;
    found.iter().map(|sql| Ok((rows::id(sql, 0)?, SessionId::new(rows::get::<Uuid>(sql, 1)?)))).collect()
}

/// Which of some sessions are live.
pub(super) async fn live(
    tx: &mut Tx<'_>,
    sessions: impl Iterator<Item = SessionId>,
) -> Result<HashSet<SessionId>, Fault> {
    let sessions: Vec<Uuid> = sessions.map(rows::session_uuid).collect::<HashSet<_>>().into_iter().collect();
    let live: Vec<Uuid> = sqlx::query_scalar(ARE_LIVE).bind(sessions).fetch_all(&mut *tx.conn).await?;
    Ok(live.into_iter().map(SessionId::new).collect())
}

/// The session's row is locked FOR UPDATE: no claim under it is in flight, and none can follow.
async fn end(tx: &mut Tx<'_>, id: SessionId, reason: &str, alone: bool) -> Result<Ending, Fault> {
    let (session, now) = (rows::session_uuid(id), tx.now().micros());
    let held: Vec<Uuid> = if Bug::SessionEndedInOneStatement.is_planted() {
        let both = sqlx::query_scalar(END_AND_HELD).bind(session).bind(now).bind(reason);
        both.fetch_all(&mut *tx.conn).await?
    } else {
        sqlx::query(END).bind(session).bind(now).bind(reason).execute(&mut *tx.conn).await?;
        // A statement of its own, so with a snapshot that sees every claim the lock was waited for.
        sqlx::query_scalar(HELD).bind(session).fetch_all(&mut *tx.conn).await?
    };
    let held: Vec<TaskId> = held.into_iter().map(TaskId::new).collect();
    let mut ended = EndedSession::default();
    if alone {
        return Ok(Ending { ended, left: held });
    }
    tx.load(held.iter().copied()).await?;
    for task in held {
        if let Some(state) = lose(tx, task, id) {
            note(&mut ended, task, state);
        }
    }
    Ok(Ending { ended, left: Vec::new() })
}

/// Notes what became of a lost task.
pub(super) fn note(ended: &mut EndedSession, id: TaskId, state: State) {
    if state.is_terminal() { ended.ended.push(id) } else { ended.requeued.push(id) }
}

/// The state a lost task is in now; none if it was not lost after all.
pub(super) fn lose(tx: &mut Tx<'_>, id: TaskId, session: SessionId) -> Option<State> {
    let (now, jitter) = (tx.now(), (tx.jitter)());
    let what = tx.draft.rows.get(&id)?.life.decide(Command::Lose { session, now, jitter }).ok()?;
    if let Err(fault) = tx.draft.happen(id, what) {
        tracing::error!(task.id = %id, error = %fault, "a lost task cannot be handed off again");
        return None;
    }
    tx.draft.rows.get(&id).map(|row| row.life.state)
}

fn json(value: &impl serde::Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|e| Fault::Unreadable(e.to_string()))
}

fn from_json<T: serde::de::DeserializeOwned>(sql: &PgRow, i: usize) -> Result<T, Fault> {
    serde_json::from_str(rows::get(sql, i)?).map_err(|e| Fault::Unreadable(e.to_string()))
}

/// Reads a row of [`LIVE`].
pub(super) fn session(sql: &PgRow) -> Result<Session, Fault> {
    Ok(Session {
        opened: NewSession {
            id: SessionId::new(rows::get(sql, 0)?),
            node: rows::get(sql, 1)?,
            version: rows::get(sql, 2)?,
            roles: from_json(sql, 3)?,
            addresses: from_json(sql, 4)?,
            revival: rows::get(sql, 6)?,
        },
        started_at: rows::time(sql, 5)?,
        counter: rows::count(sql, 7)?,
        ended: None,
    })
}
