use crate::claims::Claims;
use crate::notes::{Progresses, Starts};
use crate::pace::Pace;
use callboard_domain::{SessionId, TaskId};
use callboard_ports::handoff::Queues;
use callboard_ports::{Clock, Handoff, Store};
use callboard_sdk::{ArtifactSink, Llm, Registry};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
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
    /// Whether it takes no more.
    pub draining: bool,
}

/// What a worker holds: outside its actor, so that it survives the actor's restart.
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) deps: Deps,
    pub(crate) hosted: Arc<HashSet<String>>,
    pub(crate) claims: Claims,
    pub(crate) slots: Arc<Semaphore>,
    /// For tasks that may be what ends their nodes: one at a time.
    pub(crate) alone: Arc<Semaphore>,
    pub(crate) pace: Pace,
    pub(crate) starts: Starts,
    pub(crate) progresses: Progresses,
    draining: AtomicBool,
    /// Set when running handlers are to be given back.
    pub(crate) stop: CancellationToken,
}

impl Engine {
    /// A worker that does nothing yet: its actor starts the loops.
    #[must_use]
    pub fn new(options: Options, deps: Deps) -> Arc<Self> {
        let hosted = deps.registry.iter().map(|entry| entry.spec.name.clone()).collect();
        Arc::new(Self {
            hosted: Arc::new(hosted),
            claims: Claims::default(),
            slots: Arc::new(Semaphore::new(options.slots)),
            alone: Arc::new(Semaphore::new(1)),
            pace: Pace::new(),
            starts: Starts::default(),
            progresses: Progresses::default(),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
            options,
            deps,
        })
    }

    /// How loaded it is.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            slots: self.options.slots,
            slots_used: self.options.slots - self.slots.available_permits(),
            claimed: self.claims.len(),
            draining: self.is_draining(),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        *self.deps.session.borrow()
    }

    /// Passes cancel requests on to the handlers that run. Returns how many are held here.
    #[must_use]
    pub fn cancel(&self, ids: &[TaskId]) -> usize {
        ids.iter().filter(|id| self.claims.cancel(**id)).count()
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
