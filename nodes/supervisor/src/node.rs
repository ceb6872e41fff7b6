use crate::reconcile::DueHint;
use crate::restarts::Restarts;
use callboard_domain::SessionId;
use callboard_ports::sessions::NewSession;
use callboard_ports::store::Error;
use callboard_ports::{Clock, Store};
use callboard_runtime::actor::CallError;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The wait after the store could not be reached.
const PAUSE: Duration = Duration::from_millis(500);
/// How often actors are asked whether they work.
const WATCH_EVERY: Duration = Duration::from_secs(5);
/// How long an actor may take to answer that.
const WATCH_DEADLINE: Duration = Duration::from_secs(15);
/// How often an actor may fail to answer before the node is given up.
const WATCH_MISSES: u32 = 2;

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The roles it hosts.
    pub roles: Vec<String>,
    /// Where it can be reached, by listener.
    pub addresses: BTreeMap<String, String>,
}

/// An actor to watch.
pub struct Child {
    /// Its name.
    pub name: &'static str,
    /// Asks it whether it works through its mail.
    pub ping: Box<dyn Fn(Duration) -> BoxFuture<'static, Result<(), CallError>> + Send + Sync>,
}

/// What a supervisor stands on.
pub struct Deps {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes ids of sessions.
    pub new_session_id: Arc<dyn Fn() -> SessionId + Send + Sync>,
    /// Tells when a task becomes due sooner than expected.
    pub due: DueHint,
    /// The counts of restarts.
    pub restarts: Arc<Restarts>,
    /// The actors to watch.
    pub children: Vec<Child>,
    /// Called when the node cannot go on: it should drain and exit non-zero.
    pub give_up: Arc<dyn Fn(String) + Send + Sync>,
}

/// What a node knows of itself, outside its Supervisor actor.
pub struct Node {
    pub(crate) options: Options,
    pub(crate) deps: Deps,
    session: watch::Sender<Option<SessionId>>,
    ended: Notify,
    closing: AtomicBool,
}

impl Node {
    /// A node without a session yet.
    #[must_use]
    pub fn new(options: Options, deps: Deps, session: watch::Sender<Option<SessionId>>) -> Arc<Self> {
        Arc::new(Self { options, deps, session, ended: Notify::new(), closing: AtomicBool::new(false) })
    }

    /// The session it holds tasks under, if it has one.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        *self.session.borrow()
    }

    /// Somebody found that the session has ended: another is opened.
    pub fn session_ended(&self, id: SessionId) {
        let was_ours = self.session.send_if_modified(|session| {
            let ours = *session == Some(id);
            if ours {
                *session = None;
            }
            ours
        });
        if was_ours {
            tracing::warn!(session.id = %id, "the node's session was ended; it opens another");
            self.ended.notify_one();
        }
    }

    /// Ends the sessions of earlier lives of this node. The caller holds the proof that they are dead:
    /// the lock of the data folder. Returns how many tasks wait again.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn bury_predecessors(&self) -> Result<usize, Error> {
        let mut requeued = 0;
        for session in self.deps.store.live_sessions().await? {
            let ended = self.deps.store.end_session(session.opened.id, "its node was started again").await?;
            let (tasks, lost) = (ended.requeued.len(), ended.ended.len());
            tracing::info!(session.id = %session.opened.id, requeued = tasks, ended = lost, "ended an earlier session");
            requeued += tasks;
        }
        Ok(requeued)
    }

    /// Ends the session for good: nothing is claimed under it any more, and what it still holds is handed
    /// off again.
    ///
    /// # Errors
    /// The store cannot be reached: the next start of the node, or another node, ends it.
    pub async fn close(&self) -> Result<(), Error> {
        self.closing.store(true, Ordering::SeqCst);
        if let Some(id) = self.session.send_replace(None) {
            self.deps.store.end_session(id, "its node has drained").await?;
        }
        Ok(())
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Keeps a session open.
    pub(crate) async fn keep_session(&self) {
        while !self.is_closing() {
            if self.session().is_some() {
                self.ended.notified().await;
                continue;
            }
            let id = (self.deps.new_session_id)();
            let session = NewSession {
                id,
                node: self.options.name.clone(),
                version: self.options.version.clone(),
                roles: self.options.roles.clone(),
                addresses: self.options.addresses.clone(),
                revival: false,
            };
            match self.deps.store.open_session(session).await {
                Ok(()) => {
                    tracing::info!(session.id = %id, "opened a session");
                    self.session.send_replace(Some(id));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot open a session");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Asks each actor whether it works through its mail.
    pub(crate) async fn watch_children(&self) {
        let mut missed = vec![0; self.deps.children.len()];
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            let asks = self.deps.children.iter().map(|child| (child.ping)(WATCH_DEADLINE));
            let answers = futures::future::join_all(asks).await;
            for ((answer, missed), child) in answers.into_iter().zip(&mut missed).zip(&self.deps.children) {
                let Err(error) = answer else {
                    *missed = 0;
                    continue;
                };
                *missed += 1;
                tracing::error!(actor = child.name, %error, "an actor does not answer");
                if *missed >= WATCH_MISSES {
                    (self.deps.give_up)(format!("the actor {} does not answer: {error}", child.name));
                }
            }
        }
    }
}
