//! Nodes' sessions: the leases under which they hold tasks.

use crate::store::Error;
use async_trait::async_trait;
use callboard_domain::{SessionId, TaskId, Timestamp};
use std::collections::BTreeMap;

/// A session to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// The node's name.
    pub node: String,
    /// The node's version.
    pub version: String,
    /// The roles it hosts.
    pub roles: Vec<String>,
    /// Where it can be reached, by listener ("public", "mesh", "admin").
    pub addresses: BTreeMap<String, String>,
    /// Whether its node lived on after an earlier session was ended: refused connections alone never end
    /// such a one, only silence or a successor.
    pub revival: bool,
}

/// A node's claim that another is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accusation {
    /// The accuser's own session: locked in the same transaction, and it must be live.
    pub accuser: SessionId,
    /// The session to end.
    pub accused: SessionId,
    /// The renewal counter the accuser has seen: a session that has been renewed since is left alone.
    /// `None`: whatever it is, for the accused is proven dead.
    pub counter: Option<u64>,
    /// Why, for a person.
    pub reason: String,
}

/// A session as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What it was opened with.
    pub opened: NewSession,
    /// When, on the store's clock.
    pub started_at: Timestamp,
    /// Raised by every renewal.
    pub counter: u64,
    /// When and why it ended, if it did.
    pub ended: Option<(Timestamp, String)>,
}

/// What ending a session did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedSession {
    /// The tasks it held that wait again.
    pub requeued: Vec<TaskId>,
    /// The tasks it held that have ended: lost too often, or a cancel was asked for.
    pub ended: Vec<TaskId>,
}

/// The sessions of the cluster.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// Opens a session.
    async fn open_session(&self, session: NewSession) -> Result<(), Error>;

    /// Renews a session and returns the tasks it holds for which a cancel was asked.
    ///
    /// # Errors
    /// [`Error::SessionEnded`].
    async fn renew_session(&self, id: SessionId) -> Result<Vec<TaskId>, Error>;

    /// Ends a session and hands its tasks off again. In one transaction of two steps: no claim
    /// under that session can commit after it, and none that committed before is missed.
    /// Ending an ended session changes nothing.
    async fn end_session(&self, id: SessionId, reason: &str) -> Result<EndedSession, Error>;

    /// Ends another node's session, as [`end_session`](Self::end_session) does, if the accuser's own is live
    /// and the accused has not been renewed since. `None`: it has, or had ended before.
    ///
    /// # Errors
    /// [`Error::SessionEnded`]: the accuser's own has.
    async fn accuse(&self, accusation: Accusation) -> Result<Option<EndedSession>, Error>;

    /// Hands off again up to `limit` tasks whose session has ended or is absent. Returns how many.
    async fn recover_orphans(&self, limit: usize) -> Result<usize, Error>;

    /// The sessions that have not ended.
    async fn live_sessions(&self) -> Result<Vec<Session>, Error>;
}
