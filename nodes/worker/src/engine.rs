use crate::claims::Claims;
use crate::cluster::Cluster;
use crate::notes::{Progresses, Starts};
use crate::pace::Pace;
use crate::stats::{Stats, StatsRead};
use callboard_domain::{SessionId, TaskId};
use callboard_ports::handoff::{Dry, Queues};
use callboard_ports::store::Error;
use callboard_ports::{Clock, Handoff, Store, Tracer};
use callboard_sdk::{ArtifactSink, Llm, Registry};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, RwLock, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long stopped handlers may take to be given back.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of its node.
    pub node: Arc<str>,
    /// How many handlers run at once.
    pub slots: usize,
    /// The queues it takes from.
    pub queues: Queues,
    /// How long a handler may go on after a cancel was asked for.
    pub cancel_grace: Duration,
    /// How often it compares what it runs with what the store says it holds.
    pub reconcile_every: Duration,
}

/// What a worker stands on.
pub struct Deps {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Where tasks come from.
    pub handoff: Arc<dyn Handoff>,
    /// The kinds it hosts.
    pub registry: Registry,
    /// What handlers call models with.
    pub llm: Arc<dyn Llm>,
    /// Where handlers put artifacts.
    pub artifacts: Arc<dyn ArtifactSink>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The node's session. `None` while there is none: nothing is claimed.
    pub session: watch::Receiver<Option<SessionId>>,
    /// Is told that the session has ended, so that another is opened.
    pub on_session_ended: Arc<dyn Fn(SessionId) + Send + Sync>,
    /// Random numbers in `0.0..1.0`.
    pub jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// Records each attempt in its task's trace.
    pub tracer: Tracer,
    /// What keeps track of the runners.
    pub tracker: TaskTracker,
}

/// How loaded a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// How many handlers can run at once.
    pub slots: usize,
    /// How many of those run.
    pub slots_used: usize,
    /// How many attempts are held, waiting and committing ones included.
    pub claimed: usize,
    /// How many results wait for a store that does not answer.
    pub waiting_results: usize,
    /// Whether it takes no more.
    pub draining: bool,
}

/// What a worker holds: outside its actor, so that it survives the actor's restart.
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) deps: Deps,
    pub(crate) cluster: Cluster,
    pub(crate) hosted: Arc<HashSet<String>>,
    pub(crate) claims: Claims,
    pub(crate) slots: Arc<Semaphore>,
    /// For tasks that may be what ends their nodes: one at a time.
    pub(crate) alone: Arc<Semaphore>,
    pub(crate) pace: Pace,
    pub(crate) stats: Stats,
    pub(crate) starts: Starts,
    pub(crate) progresses: Progresses,
    pub(crate) results: WaitingResults,
    /// Held, shared, while a claim is under way, so that what the store says is held can be read with none.
    pub(crate) claiming: Arc<RwLock<()>>,
    /// Whether nothing waits in the hand-off.
    pub(crate) dry: Arc<Dry>,
    /// Compare what runs with the store now.
    pub(crate) look: Notify,
    /// Whether the last call to the store failed.
    away: AtomicBool,
    /// Raised before attempts are given up: a claim that was under way then is given up with them.
    fences: AtomicU64,
    draining: AtomicBool,
    /// Set when running handlers are to be given back.
    pub(crate) stop: CancellationToken,
}

impl Engine {
    /// The worker of a node by itself. It does nothing yet: its actor starts the loops.
    #[must_use]
    pub fn new(options: Options, deps: Deps) -> Arc<Self> {
        Self::in_cluster(options, deps, Cluster::default())
    }

    /// The worker of a node in a cluster. It does nothing yet: its actor starts the loops.
    #[must_use]
    pub fn in_cluster(options: Options, deps: Deps, cluster: Cluster) -> Arc<Self> {
        let hosted: HashSet<String> = deps.registry.iter().map(|entry| entry.spec.name.clone()).collect();
        Arc::new(Self {
            stats: Stats::new(hosted.iter()),
            hosted: Arc::new(hosted),
            claims: Claims::default(),
            slots: Arc::new(Semaphore::new(options.slots)),
            alone: Arc::new(Semaphore::new(1)),
            pace: Pace::new(),
            starts: Starts::default(),
            progresses: Progresses::default(),
            results: WaitingResults::default(),
            claiming: Arc::default(),
            dry: Arc::default(),
            look: Notify::new(),
            away: AtomicBool::new(false),
            fences: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
            options,
            deps,
            cluster,
        })
    }

    /// How loaded it is.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            slots: self.options.slots,
            slots_used: self.options.slots - self.slots.available_permits(),
            claimed: self.claims.len(),
            waiting_results: self.results.count.load(Ordering::SeqCst),
            draining: self.is_draining(),
        }
    }

    /// What it has counted since it was made.
    #[must_use]
    pub fn stats(&self) -> StatsRead {
        self.stats.read()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        *self.deps.session.borrow()
    }

    /// The session, as soon as there is one. `None`: there will be none, for the node is gone.
    pub(crate) async fn session_soon(&self) -> Option<SessionId> {
        *self.deps.session.clone().wait_for(Option::is_some).await.ok()?
    }

    /// Passes cancel requests on to the handlers that run. Returns how many are held here.
    #[must_use]
    pub fn cancel(&self, ids: &[TaskId]) -> usize {
        ids.iter().filter(|id| self.claims.cancel(**id)).count()
    }

    /// The store answers others and not this node, so others will soon run what it runs: every handler is
    /// cancelled and its result dropped. Returns how many attempts were held.
    pub fn cut_off(&self) -> usize {
        self.give_up(None)
    }

    /// A session is over: every attempt claimed under it is cancelled and its result dropped, for the store
    /// would refuse it. Returns how many were held.
    pub fn session_over(&self, session: SessionId) -> usize {
        self.give_up(Some(session))
    }

    fn give_up(&self, session: Option<SessionId>) -> usize {
        self.fences.fetch_add(1, Ordering::SeqCst);
        let count = self.claims.lose(session);
        if count > 0 {
            tracing::warn!(count, "gave up attempts that are this node's no more");
        }
        count
    }

    /// How often attempts were given up.
    pub(crate) fn fences(&self) -> u64 {
        self.fences.load(Ordering::SeqCst)
    }

    /// The store has said that a session is over.
    pub(crate) fn session_ended(&self, session: SessionId) {
        self.session_over(session);
        (self.deps.on_session_ended)(session);
    }

    /// Takes note of how the store answered. Once it answers again, what it holds is compared with what runs.
    pub(crate) fn heard<T>(&self, answer: &Result<T, Error>) {
        match answer {
            Err(Error::Unavailable(_) | Error::Unknown(_)) => self.away.store(true, Ordering::SeqCst),
            Err(_) => {}
            Ok(_) if !self.away.load(Ordering::Relaxed) => {}
            Ok(_) if self.away.swap(false, Ordering::SeqCst) => self.look.notify_one(),
            Ok(_) => {}
        }
    }

    /// Takes nothing more, waits up to `grace` for what runs, gives back the rest. Returns how many ended
    /// by themselves and how many were given back.
    pub async fn drain(&self, grace: Duration) -> (usize, usize) {
        self.draining.store(true, Ordering::SeqCst);
        let before = self.claims.len();
        let waited = tokio::time::timeout(grace, self.claims.empty()).await.is_ok();
        let left = if waited { 0 } else { self.claims.len() };
        if left > 0 {
            self.stop.cancel();
            // A handler that blocks its thread cannot be stopped: its attempt is left to the session's end.
            let _ = tokio::time::timeout(STOP_WITHIN, self.claims.empty()).await;
        }
        (before.saturating_sub(left), left)
    }
}

/// Results that the store could not take yet: counted, so that they stay bounded.
#[derive(Default)]
pub(crate) struct WaitingResults {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// One such result, until it is dropped.
pub(crate) struct WaitingResult<'a> {
    all: &'a WaitingResults,
    bytes: usize,
}

impl WaitingResults {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    pub(crate) fn one(&self, bytes: usize) -> WaitingResult<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        WaitingResult { all: self, bytes }
    }
}

impl Drop for WaitingResult<'_> {
    fn drop(&mut self) {
        self.all.count.fetch_sub(1, Ordering::SeqCst);
        self.all.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}
