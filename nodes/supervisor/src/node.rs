use crate::cluster::{Cluster, Member};
use crate::reconcile::{DueHint, Reconciler, Runner};
use crate::restarts::Restarts;
use crate::status::Sources;
use callboard_domain::{SessionId, Timestamp};
use callboard_ports::sessions::{NewSession, Session};
use callboard_ports::store::Error;
use callboard_ports::{Clock, Store};
use callboard_runtime::actor::CallError;
use callboard_runtime::membership::{Standing, WorkSeen};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
/// How long the end of a session may take in all.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

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

/// What a supervisor may have beside its [`Deps`]. The default is a node by itself.
#[derive(Default)]
pub struct Setup {
    /// What it needs to be one of several.
    pub cluster: Option<Cluster>,
    /// What it repairs beside due tasks and orphans.
    pub reconcilers: Vec<Reconciler>,
    /// Runs a reconciler on one node of the cluster at a time. `None`: every node runs them.
    pub runner: Option<Runner>,
    /// What it tells of the node beside what it knows.
    pub status: Sources,
}

/// What a node knows of itself, outside its Supervisor actor.
///
/// # Stopping
/// In this order: the worker drains; [`close`](Self::close) ends the session; only then is the mesh listener
/// closed. A listener closed before would let others find a refused connection behind a live session.
pub struct Node {
    pub(crate) options: Options,
    pub(crate) deps: Deps,
    pub(crate) reconcilers: Vec<Reconciler>,
    pub(crate) runner: Option<Runner>,
    pub(crate) status: Sources,
    pub(crate) member: Option<Arc<Member>>,
    pub(crate) started_at: Timestamp,
    session: watch::Sender<Option<SessionId>>,
    standing: watch::Sender<Standing>,
    ended: Notify,
    closing: AtomicBool,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl Node {
    /// A node by itself, without a session yet.
    #[must_use]
    pub fn new(options: Options, deps: Deps, session: watch::Sender<Option<SessionId>>) -> Arc<Self> {
        Self::with(options, deps, session, Setup::default())
    }

    /// A node without a session yet. In a cluster, [`join`](Self::join) comes before its actor is started.
    #[must_use]
    pub fn with(
        options: Options,
        deps: Deps,
        session: watch::Sender<Option<SessionId>>,
        setup: Setup,
    ) -> Arc<Self> {
        Arc::new(Self {
            started_at: deps.clock.now(),
            options,
            deps,
            reconcilers: setup.reconcilers,
            runner: setup.runner,
            status: setup.status,
            member: setup.cluster.map(|cluster| Arc::new(Member::new(cluster))),
            session,
            standing: watch::Sender::new(Standing::default()),
            ended: Notify::new(),
            closing: AtomicBool::new(false),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// The session it holds tasks under, if it has one.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        *self.session.borrow()
    }

    /// How often each actor was restarted, of those that were.
    #[must_use]
    pub fn restarts(&self) -> BTreeMap<&'static str, u64> {
        self.deps.restarts.counts()
    }

    /// How long ago its session was last renewed, if it has one that is.
    #[must_use]
    pub fn renewed_ago(&self) -> Option<Duration> {
        self.member.as_ref()?.lease().silence(tokio::time::Instant::now())
    }

    /// How it stands, from now on.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Which life of this name it is: when its process started, in microseconds since 1970.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        u64::try_from(self.started_at.micros()).unwrap_or(0)
    }

    /// The live sessions of the cluster as last seen, this node's included. Empty for a node by itself.
    #[must_use]
    pub fn live(&self) -> Arc<[Session]> {
        self.member.as_ref().map_or_else(|| Arc::new([]) as Arc<[Session]>, |m| m.live.borrow().clone())
    }

    /// Another node may be dead: a connection to it broke, or a call failed. It is probed at once. Cheap, and
    /// may be called as often as that happens.
    pub fn suspect(&self, session: SessionId) {
        if let Some(member) = &self.member {
            member.suspect(session);
        }
    }

    /// A statement of the work path has succeeded, or failed for want of the store. When they fail for long
    /// while renewals succeed, the node gives up.
    pub fn note_work(&self, succeeded: bool) {
        let counter = if succeeded { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn work_seen(&self) -> WorkSeen {
        WorkSeen {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// Somebody found that the session has ended: another is opened.
    pub fn session_ended(&self, id: SessionId) {
        if self.drop_session(id) {
            tracing::warn!(session.id = %id, "the node's session was ended; it opens another");
            self.ended.notify_one();
            if let Some(member) = &self.member {
                member.renew.notify_one();
            }
        }
    }

    /// Has no session any more, if it was this one.
    pub(crate) fn drop_session(&self, id: SessionId) -> bool {
        let was_ours = self.session.send_if_modified(|session| {
            let ours = *session == Some(id);
            if ours {
                *session = None;
            }
            ours
        });
        self.publish();
        was_ours
    }

    pub(crate) fn take_session(&self, id: SessionId) {
        self.session.send_replace(Some(id));
        self.publish();
    }

    /// Tells how the node stands, if that has changed.
    pub(crate) fn publish(&self) {
        let session = self.session();
        let (may_renew, cut_off) = match &self.member {
            None => (true, false),
            Some(member) => {
                let lease = member.lease();
                (lease.may_claim(), lease.is_cut_off())
            }
        };
        let now = Standing { session, may_claim: session.is_some() && may_renew, cut_off };
        let change = |standing: &mut Standing| std::mem::replace(standing, now) != now;
        self.standing.send_if_modified(change);
        if let Some(member) = &self.member {
            let may = &member.cluster.may_claim;
            may.send_if_modified(|may| std::mem::replace(may, now.may_claim) != now.may_claim);
        }
    }

    /// Ends the sessions of earlier lives of a node by itself. The caller holds the proof that they are dead:
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
    /// off again. Called after the worker has drained and before the mesh listener is closed.
    ///
    /// # Errors
    /// The store cannot be reached: the next start of the node, or another node, ends it.
    pub async fn close(&self) -> Result<(), Error> {
        self.closing.store(true, Ordering::SeqCst);
        let Some(member) = &self.member else {
            let held = self.session.send_replace(None);
            self.publish();
            if let Some(id) = held {
                self.deps.store.end_session(id, "its node has drained").await?;
            }
            return Ok(());
        };
        // The thread of the renewals ends the session: it has the connection for it.
        member.closing.cancel();
        let mut closed = member.closed.subscribe();
        let end = async { closed.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()) };
        let end = tokio::time::timeout(CLOSE_WITHIN, end).await.ok().flatten();
        end.unwrap_or_else(|| Err(Error::Unavailable("the renewals do not stop".into())))
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(crate) fn new_session(&self, revival: bool) -> NewSession {
        NewSession {
            id: (self.deps.new_session_id)(),
            node: self.options.name.clone(),
            version: self.options.version.clone(),
            roles: self.options.roles.clone(),
            addresses: self.options.addresses.clone(),
            revival,
        }
    }

    /// Keeps a session open on a node by itself: nobody looks at renewals, so none is written.
    pub(crate) async fn keep_session(&self) {
        while !self.is_closing() {
            if self.session().is_some() {
                self.ended.notified().await;
                continue;
            }
            let session = self.new_session(false);
            let id = session.id;
            match self.deps.store.open_session(session).await {
                Ok(()) => {
                    tracing::info!(session.id = %id, "opened a session");
                    self.take_session(id);
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
