//! Hands tasks off between nodes through the store alone, until a broker does it.
//!
//! A node hands the tasks it admits to its own worker at once. A worker of another node finds them in the store
//! within [`LOOK_EVERY`]; which of them gets a task is decided by the claim. So nothing is lost when a node dies,
//! but a task waits up to a second where its own node has no free slot, and nodes look at the same tasks.
//!
//! The store's outbox is for a broker. Here the store itself answers for a QUEUED task, so its rows are
//! confirmed as they come.

use callboard_backends::handoff::embedded::Handoff;
use callboard_backends::store::postgres::Store;
use callboard_domain::TaskId;
use callboard_ports::Outbox;
use callboard_ports::outbox::Lease;
use callboard_ports::store::{Commit, CommitObserver, Store as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the store is looked at for tasks that other nodes have queued.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The most rows confirmed at once, and the most that wait for it. What does not fit is found by a lease.
const BATCH: usize = 1_000;
const WAITING: usize = 20_000;

/// Passes on the rows that a commit wrote.
struct Rows(mpsc::Sender<(TaskId, u64)>);

impl CommitObserver for Rows {
    fn committed(&self, commit: &Commit) {
        for ready in &commit.ready {
            // A full channel leaves the row to the next lease.
            let _ = self.0.try_send((ready.id, ready.handoff));
        }
    }
}

/// Starts to hand off. The token ends it.
pub(super) fn start(store: &Arc<Store>, handoff: &Arc<Handoff>, tracker: &TaskTracker) -> CancellationToken {
    let stop = CancellationToken::new();
    let (sender, rows) = mpsc::channel(WAITING);
    let observers: [Arc<dyn CommitObserver>; 2] = [handoff.clone(), Arc::new(Rows(sender))];
    observers.into_iter().for_each(|observer| store.observe(observer));
    let keep = |work: futures::future::BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tracker.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    };
    keep(Box::pin(confirm(store.clone(), rows)));
    keep(Box::pin(look(store.clone(), handoff.clone())));
    stop
}

async fn confirm(store: Arc<Store>, mut rows: mpsc::Receiver<(TaskId, u64)>) {
    let mut batch = Vec::new();
    while rows.recv_many(&mut batch, BATCH).await > 0 {
        if let Err(error) = store.confirm(std::mem::take(&mut batch)).await {
            tracing::warn!(%error, "cannot confirm hand-offs; a lease finds them");
        }
    }
}

async fn look(store: Arc<Store>, handoff: Arc<Handoff>) {
    loop {
        if let Err(error) = handoff.refill_all().await {
            tracing::warn!(%error, "cannot look for queued tasks");
        }
        // Rows of nodes that died before they confirmed them.
        let lease = Lease { except: Vec::new(), limit: BATCH, hide: Duration::from_secs(5) };
        match store.lease(lease).await {
            Ok(left) if !left.is_empty() => {
                let left = left.into_iter().map(|ready| (ready.id, ready.handoff)).collect();
                if let Err(error) = store.confirm(left).await {
                    tracing::warn!(%error, "cannot confirm hand-offs");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot look at the outbox"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
