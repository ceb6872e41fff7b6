//! Observers.

use super::Fixture;
use super::kit::{Kit, failure, success};
use crate::contract::soon;
use crate::store::{Commit, CommitObserver, Store};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Looks for what it is told, as another node, before it lets the store go on.
struct Doubter {
    other: Arc<dyn Store>,
    runtime: Handle,
    told: AtomicUsize,
    missing: Mutex<Vec<String>>,
}

impl CommitObserver for Doubter {
    fn committed(&self, commit: &Commit) {
        let logs = commit.events.iter().map(|e| (e.task_id, e.seq - 1)).collect();
        // An observer must not block. This one does, so that nothing happens between the telling and the look.
        let found =
            tokio::task::block_in_place(|| self.runtime.block_on(self.other.events_after(logs, 10_000)));
        let found = found.unwrap_or_default();
        let missing = commit.events.iter().filter(|event| !found.contains(event)).map(|e| format!("{e:?}"));
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).extend(missing);
        self.told.fetch_add(commit.events.len(), Ordering::SeqCst);
    }
}

/// What an observer is told has been committed: who looks at that moment finds it. Else a task is handed off that
/// never was, when the commit fails.
pub async fn what_is_told_is_committed(fixture: impl Fixture) {
    let kit = Kit::new(fixture);
    let doubter = Arc::new(Doubter {
        other: kit.other.clone(),
        runtime: Handle::current(),
        told: AtomicUsize::new(0),
        missing: Mutex::default(),
    });
    kit.store.observe(doubter.clone());
    let session = kit.session("a").await;
    let ids = kit.admit(vec![kit.task(), kit.task(), kit.task(), kit.later(Duration::from_secs(60))]).await;
    let ids: Vec<_> = ids.into_iter().map(|task| task.spec.id).collect();
    kit.let_time_pass().await;
    let first = kit.run_one(session, ids[0]).await;
    kit.finish_one(session, success(first, "1")).await;
    let second = kit.run_one(session, ids[1]).await;
    kit.finish_one(session, failure(second, true)).await;
    kit.store.cancel(ids[2]).await.expect("a waiting task is cancelled");
    kit.run_one(session, ids[3]).await;
    kit.store.end_session(session, "killed").await.expect("a session ends");
    let mut events = 0;
    for id in ids {
        events += kit.store.events(id, 0, 100).await.expect("events are read").len();
    }
    soon("the observer is told of every event", async {
        while doubter.told.load(Ordering::SeqCst) < events {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let missing = doubter.missing.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(
        missing.first(),
        None,
        "told of {} of {events} events before they were committed",
        missing.len()
    );
    kit.audit().await;
}
