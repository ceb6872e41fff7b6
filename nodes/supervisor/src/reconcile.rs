//! Reconcilers: activated by a hint and by a period, idempotent, without input.
//!
//! Due tasks are released by every node: the work is idempotent, and a nearer hint wakes the node that has it.
//! The others run on one node of a cluster at a time where a [`Runner`] sees to that; without one they run on
//! every node, which is only more work.

use crate::node::Node;
use callboard_domain::Timestamp;
use callboard_ports::epochs::Epoch;
use callboard_ports::store::{Commit, CommitObserver, Error, Released};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// No sleeper sleeps longer: hints only shorten it, and a node that died gives none.
const SLEEP: Duration = Duration::from_secs(1);
/// How long releasing due tasks may take in a cluster before it counts as failed.
const RELEASE_WITHIN: Duration = Duration::from_secs(10);
/// How often orphans are looked for.
const ORPHANS_EVERY: Duration = Duration::from_secs(10);
/// The most tasks moved in one transaction.
const BATCH: usize = 1_000;

/// What one run of a reconciler does. It gets the epoch to write under, if its runner has one, and its answer
/// may be [`Error::Fenced`]: another node has taken over.
pub type Run = Arc<dyn Fn(Option<Epoch>) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

/// Something that is looked at and repaired from time to time.
#[derive(Clone)]
pub struct Reconciler {
    /// Its name, also that of its lock and its epoch.
    pub name: &'static str,
    /// The time between two runs.
    pub period: Duration,
    /// What it does.
    pub run: Run,
}

/// Runs a reconciler for as long as it is polled, on one node of the cluster at a time. It returns only when
/// dropped.
pub type Runner = Arc<dyn Fn(Reconciler) -> BoxFuture<'static, ()> + Send + Sync>;

impl Reconciler {
    /// Runs it over and over, on this node, whatever others do.
    pub async fn forever(self) {
        loop {
            if let Err(error) = (self.run)(None).await {
                tracing::warn!(reconciler = self.name, %error, "cannot reconcile");
            }
            tokio::time::sleep(self.period).await;
        }
    }
}

/// Wakes the sleeper when a task is scheduled that is due before it would wake.
#[derive(Clone)]
pub struct DueHint {
    inner: Arc<Hint>,
}

struct Hint {
    wakes_at: AtomicI64,
    nearer: Notify,
}

impl DueHint {
    /// A hint that nothing is due.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: Arc::new(Hint { wakes_at: AtomicI64::new(i64::MAX), nearer: Notify::new() }) }
    }
}

impl Default for DueHint {
    fn default() -> Self {
        Self::new()
    }
}

impl CommitObserver for DueHint {
    fn committed(&self, commit: &Commit) {
        if let Some(due) = commit.next_due
            && due.micros() < self.inner.wakes_at.load(Ordering::SeqCst)
        {
            self.inner.nearer.notify_one();
        }
    }
}

/// Queues tasks whose time has come.
pub(crate) async fn due(node: Arc<Node>) {
    let hint = &node.deps.due.inner;
    loop {
        // Until the sleep is set, every hint counts.
        hint.wakes_at.store(i64::MAX, Ordering::SeqCst);
        let mut sleep = SLEEP;
        match release(&node).await {
            Ok(released) if released.count >= BATCH => continue,
            Ok(released) => {
                if let Some(next) = released.next_due {
                    sleep = sleep.min(next.since(node.deps.clock.now()));
                }
            }
            Err(error) => tracing::warn!(%error, "cannot queue due tasks"),
        }
        let now: Timestamp = node.deps.clock.now();
        hint.wakes_at.store(now.after(sleep).micros(), Ordering::SeqCst);
        // Waking at once is the worst a hint can do, and a missed one costs `SLEEP`.
        let _ = tokio::time::timeout(sleep.max(Duration::from_millis(1)), hint.nearer.notified()).await;
    }
}

/// Queues due tasks once. It is the one statement of the work path that every node makes each second: whether
/// that path works is seen by it.
async fn release(node: &Node) -> Result<Released, Error> {
    let release = node.deps.store.release_due(BATCH);
    if node.member.is_none() {
        return release.await;
    }
    let released = crate::keeper::within(RELEASE_WITHIN, release).await;
    match &released {
        Ok(_) => node.note_work(true),
        Err(Error::Unavailable(_) | Error::Unknown(_)) => node.note_work(false),
        // A store that has too much to do is no fault of this process.
        Err(_) => {}
    }
    released
}

/// Hands off again what ended or absent sessions left behind.
pub(crate) fn orphans(node: &Arc<Node>) -> Reconciler {
    let store = Arc::clone(&node.deps.store);
    let run = move |_| -> BoxFuture<'static, Result<(), Error>> {
        let store = Arc::clone(&store);
        Box::pin(async move {
            let count = store.recover_orphans(BATCH).await?;
            if count > 0 {
                tracing::warn!(count, "recovered orphaned tasks");
            }
            Ok(())
        })
    };
    Reconciler { name: "orphans", period: ORPHANS_EVERY, run: Arc::new(run) }
}
