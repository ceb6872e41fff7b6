//! What a node has only in a cluster: renewals of its own, eyes on the others, and what is done about either.

use crate::observe::Observer;
use async_trait::async_trait;
use callboard_domain::{SessionId, TaskId};
use callboard_ports::sessions::{Session, SessionStore};
use callboard_ports::store::Error;
use callboard_runtime::membership::{Lease, Probe, Timing};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The name of the listener that other nodes reach, among a session's addresses.
pub const MESH: &str = "mesh";

/// How many suspicions may wait. More are dropped: whoever is dead is found by its counter too.
const HINTS: usize = 1_024;
/// How long one probe may take, whatever the prober thinks.
const PROBE: Duration = Duration::from_secs(1);

/// Asks other nodes how they are.
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    /// Who is at an address, over a connection made for it. Bounded in time: at most a second counts.
    async fn probe(&self, address: &str) -> Probe;

    /// Whether the store answers a peer, as that says itself. `None`: it says nothing in time.
    async fn store_reachable(&self, peer: &Session) -> Option<bool>;
}

/// Is told of the live sessions of the others.
pub type OnMembers = Arc<dyn Fn(&[Session]) + Send + Sync>;

/// What is told to the rest of the node. None of these may block.
#[derive(Clone)]
pub struct Hooks {
    /// A session was opened: written down, it proves to the next start that its holder is dead.
    pub on_opened: Arc<dyn Fn(SessionId) + Send + Sync>,
    /// The store wants these running tasks cancelled. Told with every renewal until they are gone.
    pub on_cancels: Arc<dyn Fn(Vec<TaskId>) + Send + Sync>,
    /// The session is over: whatever runs under it is to be cancelled, and its results are refused.
    pub on_session_over: Arc<dyn Fn(SessionId) + Send + Sync>,
    /// The store answers others and not this node: its handlers are to be cancelled, for others will soon
    /// run their tasks.
    pub on_cut_off: Arc<dyn Fn(SessionId) + Send + Sync>,
    /// The live sessions of the others have changed.
    pub on_members: OnMembers,
    /// Ends the process at once, non-zero: the runtime that should drain it does nothing any more.
    pub exit: Arc<dyn Fn() + Send + Sync>,
}

impl Default for Hooks {
    /// Nobody is told.
    fn default() -> Self {
        Self {
            on_opened: Arc::new(|_| ()),
            on_cancels: Arc::new(|_| ()),
            on_session_over: Arc::new(|_| ()),
            on_cut_off: Arc::new(|_| ()),
            on_members: Arc::new(|_| ()),
            exit: Arc::new(|| ()),
        }
    }
}

/// What a node needs to be one of several.
pub struct Cluster {
    /// The spans, from the session timeout.
    pub timing: Timing,
    /// The sessions, over a connection that nothing else uses: renewals never queue behind work. Used on the
    /// thread of the renewals only, so it must not have connected on another runtime before.
    pub renewals: Arc<dyn SessionStore>,
    /// The sessions, for looking at others and ending theirs. May be the work path's.
    pub sessions: Arc<dyn SessionStore>,
    /// Asks other nodes.
    pub prober: Arc<dyn Prober>,
    /// What is told to the rest of the node.
    pub hooks: Hooks,
    /// Is set to whether the node may claim: `false` as soon as it cannot renew.
    pub may_claim: watch::Sender<bool>,
    /// Stops the renewals without ending the session, as if the process had died.
    pub ended: CancellationToken,
}

/// A node as one of several: the state its loops share.
pub(crate) struct Member {
    pub(crate) cluster: Cluster,
    lease: Mutex<Lease>,
    observer: Mutex<Observer>,
    pub(crate) live: watch::Sender<Arc<[Session]>>,
    hint: mpsc::Sender<SessionId>,
    pub(crate) hints: tokio::sync::Mutex<mpsc::Receiver<SessionId>>,
    /// Look at the others now.
    pub(crate) look: Notify,
    /// Renew now, or find that the session is over.
    pub(crate) renew: Notify,
    pub(crate) closing: CancellationToken,
    /// How the end of the session went, once the renewals have stopped.
    pub(crate) closed: watch::Sender<Option<Result<(), Error>>>,
    /// Moved by the Supervisor through the runtime.
    pub(crate) beat: AtomicU64,
}

impl Member {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let (hint, hints) = mpsc::channel(HINTS);
        cluster.may_claim.send_replace(false);
        Self {
            lease: Mutex::new(Lease::new(cluster.timing)),
            observer: Mutex::new(Observer::new(cluster.timing)),
            live: watch::Sender::new(Arc::new([])),
            hint,
            hints: tokio::sync::Mutex::new(hints),
            look: Notify::new(),
            renew: Notify::new(),
            closing: CancellationToken::new(),
            closed: watch::Sender::new(None),
            beat: AtomicU64::new(0),
            cluster,
        }
    }

    pub(crate) fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn observer(&self) -> MutexGuard<'_, Observer> {
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn suspect(&self, session: SessionId) {
        // Full or not: the counter of a dead node stands still, and that is seen too.
        let _ = self.hint.try_send(session);
    }

    pub(crate) fn move_beat(&self) {
        self.beat.fetch_add(1, Ordering::Relaxed);
    }

    /// Who is at an address. Never takes longer than a probe may.
    pub(crate) async fn probe(&self, address: &str) -> Probe {
        let probe = self.cluster.prober.probe(address);
        tokio::time::timeout(PROBE, probe).await.unwrap_or(Probe::TimedOut)
    }
}
