//! The session store on a connection of its own: what a node renews its lease on.

use super::fault::Fault;
use super::line::{Line, Work};
use super::sessions::{LIVE, Open, RENEW, session};
use super::tx::Tx;
use super::{recovery, rows};
use async_trait::async_trait;
use callboard_domain::{SessionId, TaskId};
use callboard_ports::sessions::{Accusation, EndedSession, NewSession, Session, SessionStore};
use callboard_ports::store::Error;
use tokio::sync::Mutex;
use uuid::Uuid;

/// Sessions, on one connection that nothing else uses: a renewal never queues behind work. The connection
/// is opened by the first call, on the runtime of whoever makes it.
pub struct Sessions(Mutex<Line>);

impl Sessions {
    pub(super) fn new(line: Line) -> Self {
        Self(Mutex::new(line))
    }

    async fn run<W: Work>(&self, mut work: W) -> Result<W::Out, Error> {
        Ok(self.0.lock().await.run(&mut work).await?)
    }

    pub(super) async fn close(&self) {
        self.0.lock().await.close().await;
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

struct Renew(SessionId);

impl Work for Renew {
    type Out = Result<Vec<TaskId>, Error>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Self::Out, Fault> {
        let found: Vec<Option<Uuid>> =
            sqlx::query_scalar(RENEW).bind(rows::session_uuid(self.0)).fetch_all(&mut *tx.conn).await?;
        if found.is_empty() {
            return Ok(Err(Error::SessionEnded));
        }
        Ok(Ok(found.into_iter().flatten().map(TaskId::new).collect()))
    }
}

struct Live;

impl Work for Live {
    type Out = Vec<Session>;

    async fn run(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Session>, Fault> {
        sqlx::query(LIVE).fetch_all(&mut *tx.conn).await?.iter().map(session).collect()
    }
}

#[async_trait]
impl SessionStore for Sessions {
    async fn open_session(&self, session: NewSession) -> Result<(), Error> {
        self.run(Open(session)).await?
    }

    async fn renew_session(&self, id: SessionId) -> Result<Vec<TaskId>, Error> {
        self.run(Renew(id)).await?
    }

    async fn end_session(&self, id: SessionId, reason: &str) -> Result<EndedSession, Error> {
        recovery::end(&mut *self.0.lock().await, id, reason.to_owned()).await
    }

    async fn accuse(&self, accusation: Accusation) -> Result<Option<EndedSession>, Error> {
        recovery::accuse(&mut *self.0.lock().await, accusation).await
    }

    async fn recover_orphans(&self, limit: usize) -> Result<usize, Error> {
        recovery::orphans(&mut *self.0.lock().await, limit).await
    }

    async fn live_sessions(&self) -> Result<Vec<Session>, Error> {
        self.run(Live).await
    }
}
