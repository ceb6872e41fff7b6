//! A work path of which only one statement is real: the release of due tasks.

use async_trait::async_trait;
use callboard_domain::alert::Alert;
use callboard_domain::{Attempt, Event, KindSpec, NewTask, SessionId, Task, TaskId};
use callboard_ports::alerts::AlertStore;
use callboard_ports::handoff::Ready;
use callboard_ports::sessions::{Accusation, EndedSession, NewSession, Session, SessionStore};
use callboard_ports::store::{
    Admitted, Cancelled, Claim, ClaimRequest, CommitObserver, Error, Fenced, Filter, Finish, FullTask,
    ProgressReport, QueueDepth, Released, Started, Store, TaskReader, TaskStore,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The work path of a test's node.
#[derive(Default)]
pub(crate) struct Work {
    /// How releasing due tasks goes wrong, if it does.
    pub(crate) fails: Mutex<Option<Error>>,
    pub(crate) releases: AtomicUsize,
    pub(crate) orphan_hunts: AtomicUsize,
}

fn none<T>() -> Result<T, Error> {
    Err(Error::Unavailable("not in this test".into()))
}

#[async_trait]
impl TaskStore for Work {
    async fn admit(&self, batch: Vec<NewTask>) -> Vec<Result<Admitted, Error>> {
        batch.iter().map(|_| none()).collect()
    }

    async fn claim(&self, _: ClaimRequest) -> Result<Vec<Claim>, Error> {
        none()
    }

    async fn start(&self, _: SessionId, _: Vec<Started>) -> Result<Vec<Fenced>, Error> {
        none()
    }

    async fn progress(&self, _: SessionId, _: Vec<ProgressReport>) -> Result<Vec<Fenced>, Error> {
        none()
    }

    async fn finish(&self, _: SessionId, _: Vec<Finish>) -> Result<Vec<Fenced>, Error> {
        none()
    }

    async fn give_back(&self, _: SessionId, _: Vec<Attempt>) -> Result<Vec<Fenced>, Error> {
        none()
    }

    async fn cancel(&self, _: TaskId) -> Result<Cancelled, Error> {
        none()
    }

    async fn release_due(&self, _: usize) -> Result<Released, Error> {
        self.releases.fetch_add(1, Ordering::SeqCst);
        self.fails.lock().unwrap().clone().map_or(Ok(Released::default()), Err)
    }

    async fn register_kinds(&self, _: Vec<KindSpec>) -> Result<(), Error> {
        none()
    }
}

#[async_trait]
impl TaskReader for Work {
    async fn get(&self, _: Vec<TaskId>) -> Result<Vec<Task>, Error> {
        none()
    }

    async fn get_full(&self, _: TaskId) -> Result<FullTask, Error> {
        none()
    }

    async fn find(&self, _: &str) -> Result<TaskId, Error> {
        none()
    }

    async fn list(&self, _: Filter, _: Option<TaskId>, _: usize) -> Result<Vec<Task>, Error> {
        none()
    }

    async fn events(&self, _: TaskId, _: u64, _: usize) -> Result<Vec<Event>, Error> {
        none()
    }

    async fn counts(&self) -> Result<[u64; 6], Error> {
        none()
    }

    async fn queue_depths(&self) -> Result<Vec<QueueDepth>, Error> {
        none()
    }

    async fn queued(&self, _: &[Arc<str>], _: usize) -> Result<Vec<Ready>, Error> {
        none()
    }

    async fn held_by(&self, _: SessionId) -> Result<Vec<Attempt>, Error> {
        none()
    }

    async fn kinds(&self) -> Result<Vec<KindSpec>, Error> {
        none()
    }
}

#[async_trait]
impl SessionStore for Work {
    async fn open_session(&self, _: NewSession) -> Result<(), Error> {
        Ok(())
    }

    async fn renew_session(&self, _: SessionId) -> Result<Vec<TaskId>, Error> {
        none()
    }

    async fn end_session(&self, _: SessionId, _: &str) -> Result<EndedSession, Error> {
        Ok(EndedSession::default())
    }

    async fn accuse(&self, _: Accusation) -> Result<Option<EndedSession>, Error> {
        none()
    }

    async fn recover_orphans(&self, _: usize) -> Result<usize, Error> {
        self.orphan_hunts.fetch_add(1, Ordering::SeqCst);
        Ok(0)
    }

    async fn live_sessions(&self) -> Result<Vec<Session>, Error> {
        none()
    }
}

#[async_trait]
impl AlertStore for Work {
    async fn save_alerts(&self, _: Vec<Alert>) -> Result<(), Error> {
        none()
    }

    async fn open_alerts(&self) -> Result<Vec<Alert>, Error> {
        none()
    }

    async fn list_alerts(&self, _: bool, _: Option<String>, _: usize) -> Result<Vec<Alert>, Error> {
        none()
    }
}

impl Store for Work {
    fn observe(&self, _: Arc<dyn CommitObserver>) {}
}
