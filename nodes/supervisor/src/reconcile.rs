//! Reconcilers: activated by a hint and by a period, idempotent, without input.

use crate::node::Node;
use callboard_domain::Timestamp;
use callboard_ports::store::{Commit, CommitObserver};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// No sleeper sleeps longer: hints only shorten it, and a node that died gives none.
const SLEEP: Duration = Duration::from_secs(1);
/// How often orphans are looked for.
const ORPHANS_EVERY: Duration = Duration::from_secs(10);
/// The most tasks moved in one transaction.
const BATCH: usize = 1_000;

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
        match node.deps.store.release_due(BATCH).await {
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

/// Hands off again what ended or absent sessions left behind.
pub(crate) async fn orphans(node: Arc<Node>) {
    loop {
        match node.deps.store.recover_orphans(BATCH).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "recovered orphaned tasks"),
            Err(error) => tracing::warn!(%error, "cannot recover orphans"),
        }
        tokio::time::sleep(ORPHANS_EVERY).await;
    }
}
