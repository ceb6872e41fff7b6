//! Group commit, its bounds, and who is told.

use super::{Place, task};
use callboard_backends::store::sqlite::{Options, Store};
use callboard_ports::store::{Commit, CommitObserver, Error, Store as _, TaskReader, TaskStore};
use futures::future::join_all;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// Holds the writer after its first commit until it is let go.
struct Holding(Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>);

impl CommitObserver for Holding {
    fn committed(&self, _: &Commit) {
        if let Some((reached, go_on)) = self.0.lock().unwrap().take() {
            reached.send(()).unwrap();
            go_on.recv().unwrap();
        }
    }
}

/// Commits one task and holds the writer there. Sending (or dropping the sender) lets it go.
async fn hold(store: &Store) -> mpsc::Sender<()> {
    let ((reached, is_reached), (go_on, may_go)) = (mpsc::channel(), mpsc::channel());
    store.observe(Arc::new(Holding(Mutex::new(Some((reached, may_go))))));
    store.admit(vec![task(0)]).await.remove(0).unwrap();
    is_reached.recv().unwrap();
    go_on
}

#[tokio::test]
async fn what_waits_is_committed_together() {
    let place = Place::new();
    let go_on = hold(&place.store).await;
    let mut waiting = join_all((1..=1_000).map(|n| place.store.admit(vec![task(n)])));
    assert!(futures::poll!(&mut waiting).is_pending());
    assert_eq!(place.store.stats().commits, 1);
    go_on.send(()).unwrap();
    assert!(waiting.await.iter().flatten().all(Result::is_ok));
    let stats = place.store.stats();
    assert_eq!((stats.commits, stats.calls), (2, 1_001));
    assert_eq!(place.store.counts().await.unwrap()[1], 1_001);
}

#[tokio::test]
async fn one_commit_is_bounded_in_rows_and_bytes() {
    let place = Place::new();
    let go_on = hold(&place.store).await;
    let large = |n| super::NewTask { input: vec![b' '; 1 << 20].into(), ..task(n) };
    let mut rows =
        join_all((0..5).map(|n| place.store.admit((n * 1_000 + 1..=n * 1_000 + 1_000).map(task).collect())));
    let mut bytes = join_all((10_000..10_016).map(|n| place.store.admit(vec![large(n)])));
    assert!(futures::poll!(&mut rows).is_pending());
    assert!(futures::poll!(&mut bytes).is_pending());
    go_on.send(()).unwrap();
    assert!(rows.await.iter().chain(&bytes.await).flatten().all(Result::is_ok));
    let commits = place.store.stats().commits;
    // 5,000 rows are 3 commits, 16 MiB are 3 more; the border between them may be shared.
    assert!((6..=7).contains(&commits), "{commits} commits");
}

#[tokio::test]
async fn past_its_bound_the_queue_refuses_at_once_and_new_tasks_first() {
    let place = Place::new();
    let folder = tempfile::tempdir().unwrap();
    let options = Options { queue_rows: 100, ..place.options() };
    let store = Store::open(Options { path: folder.path().join("small.db"), ..options }).unwrap();
    let go_on = hold(&store).await;
    let mut waiting = join_all((1..=100).map(|n| store.admit(vec![task(n)])));
    assert!(futures::poll!(&mut waiting).is_pending());
    let refused = store.admit((101..103).map(task).collect()).await;
    assert!(refused.iter().all(|r| matches!(r, Err(Error::Overloaded))), "{refused:?}");
    let mut cancel = store.cancel(task(0).spec.id);
    assert!(futures::poll!(&mut cancel).is_pending(), "what ends tasks is still let in");
    drop(go_on);
    assert!(waiting.await.iter().flatten().all(Result::is_ok));
    assert!(cancel.await.unwrap().changed);
    assert_eq!(store.counts().await.unwrap(), [0, 100, 0, 0, 0, 1]);
}

#[tokio::test]
async fn a_caller_that_goes_away_changes_nothing_for_the_others() {
    let place = Place::new();
    let go_on = hold(&place.store).await;
    let (mut leaves, mut stays) = (place.store.admit(vec![task(1)]), place.store.admit(vec![task(2)]));
    assert!(futures::poll!(&mut leaves).is_pending());
    assert!(futures::poll!(&mut stays).is_pending());
    drop(leaves);
    drop(go_on);
    assert!(stays.await.remove(0).is_ok());
    assert_eq!(place.store.counts().await.unwrap()[1], 3, "what was queued is done");
}

#[tokio::test]
async fn closing_commits_what_was_queued() {
    let place = Place::new();
    let go_on = hold(&place.store).await;
    let mut waiting = join_all((1..=10).map(|n| place.store.admit(vec![task(n)])));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(go_on);
    place.store.close().await;
    assert!(waiting.await.iter().flatten().all(Result::is_ok));
}

/// Counts what it is told, and panics every time.
#[derive(Default)]
struct Panics(AtomicUsize);

impl CommitObserver for Panics {
    fn committed(&self, commit: &Commit) {
        self.0.fetch_add(commit.events.len(), Ordering::SeqCst);
        panic!("an observer's fault");
    }
}

#[tokio::test]
async fn an_observer_that_panics_stops_nothing() {
    let place = Place::new();
    let (panics, after) = (Arc::new(Panics::default()), Arc::new(Panics::default()));
    place.store.observe(panics.clone());
    place.store.observe(after.clone());
    place.admit(0..3).await;
    place.admit(3..6).await;
    place.store.close().await;
    assert_eq!((panics.0.load(Ordering::SeqCst), after.0.load(Ordering::SeqCst)), (6, 6));
}
