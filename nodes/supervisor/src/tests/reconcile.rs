//! Who runs the reconcilers.

use super::world::{TestNode, World};
use crate::reconcile::{self, Reconciler};
use callboard_ports::store::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_reconciler_goes_on_after_an_error() {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let reconciler = Reconciler {
        name: "test",
        period: Duration::from_secs(10),
        run: Arc::new(move |epoch| {
            assert_eq!(epoch, None);
            count.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Err(Error::Overloaded) })
        }),
    };
    let mut running = JoinSet::new();
    running.spawn(reconciler.forever());
    sleep(Duration::from_secs(45)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 5);
}

#[tokio::test(start_paused = true)]
async fn orphans_are_hunted_and_due_tasks_released_at_least_each_second() {
    let world = World::new();
    let mut node = TestNode::new(&world, "a");
    let mut running = JoinSet::new();
    running.spawn(reconcile::orphans(&node.node).forever());
    node.run_due();
    sleep(Duration::from_millis(30_500)).await;
    assert_eq!(node.work.orphan_hunts.load(Ordering::SeqCst), 4);
    let releases = node.work.releases.load(Ordering::SeqCst);
    assert!((30..=32).contains(&releases), "{releases}");
    let seen = node.node.work_seen();
    assert_eq!((seen.succeeded, seen.failed), (u64::try_from(releases).unwrap(), 0));
}
