//! A store that does a claim and answers it with an error.

use callboard_backends::store::sqlite;
use callboard_domain::alert::Alert;
use callboard_domain::{Attempt, Event, KindSpec, NewTask, SessionId, Task, TaskId};
use callboard_ports::alerts::AlertStore;
use callboard_ports::handoff::Ready;
use callboard_ports::sessions::{Accusation, EndedSession, NewSession, Session, SessionStore};
use callboard_ports::store::{
    Admitted, Cancelled, Claim, ClaimRequest, CommitObserver, Error, Fenced, Filter, Finish, FullTask,
    ProgressReport, QueueDepth, Released, Started, Store, TaskReader, TaskStore,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Tampering {
    inner: Arc<sqlite::Store>,
    error: Error,
    /// How many claims were answered so.
    pub(crate) tampered: AtomicUsize,
}

impl Tampering {
    /// The first claim is done, and its answer is this error.
    pub(crate) fn first_claim(inner: Arc<sqlite::Store>, error: Error) -> Self {
        Self { inner, error, tampered: AtomicUsize::new(0) }
    }
}

/// Methods that pass their arguments on, and one that does not.
macro_rules! passed_on {
    ($port:ident { $($own:tt)* } $($method:ident($($name:ident: $of:ty),*) -> $answer:ty;)*) => {
        #[tonic::async_trait]
        impl $port for Tampering {
            $(async fn $method(&self $(, $name: $of)*) -> $answer {
                self.inner.$method($($name),*).await
            })*
            $($own)*
        }
    };
}

passed_on! { TaskStore {
    async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claim>, Error> {
        let answer = self.inner.claim(request).await;
        let first = self.tampered.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if first { Err(self.error.clone()) } else { answer }
    }
}
    admit(batch: Vec<NewTask>) -> Vec<Result<Admitted, Error>>;
    start(session: SessionId, batch: Vec<Started>) -> Result<Vec<Fenced>, Error>;
    progress(session: SessionId, batch: Vec<ProgressReport>) -> Result<Vec<Fenced>, Error>;
    finish(session: SessionId, batch: Vec<Finish>) -> Result<Vec<Fenced>, Error>;
    give_back(session: SessionId, batch: Vec<Attempt>) -> Result<Vec<Fenced>, Error>;
    cancel(id: TaskId) -> Result<Cancelled, Error>;
    release_due(limit: usize) -> Result<Released, Error>;
    register_kinds(kinds: Vec<KindSpec>) -> Result<(), Error>;
}

passed_on! { TaskReader {}
    get(ids: Vec<TaskId>) -> Result<Vec<Task>, Error>;
    get_full(id: TaskId) -> Result<FullTask, Error>;
    find(suffix: &str) -> Result<TaskId, Error>;
    list(filter: Filter, before: Option<TaskId>, limit: usize) -> Result<Vec<Task>, Error>;
    events(id: TaskId, after_seq: u64, limit: usize) -> Result<Vec<Event>, Error>;
    counts() -> Result<[u64; 6], Error>;
    queue_depths() -> Result<Vec<QueueDepth>, Error>;
    queued(queues: &[Arc<str>], limit: usize) -> Result<Vec<Ready>, Error>;
    held_by(session: SessionId) -> Result<Vec<Attempt>, Error>;
    kinds() -> Result<Vec<KindSpec>, Error>;
}

passed_on! { SessionStore {}
    open_session(session: NewSession) -> Result<(), Error>;
    renew_session(id: SessionId) -> Result<Vec<TaskId>, Error>;
    end_session(id: SessionId, reason: &str) -> Result<EndedSession, Error>;
    accuse(accusation: Accusation) -> Result<Option<EndedSession>, Error>;
    recover_orphans(limit: usize) -> Result<usize, Error>;
    live_sessions() -> Result<Vec<Session>, Error>;
}

passed_on! { AlertStore {}
    save_alerts(alerts: Vec<Alert>) -> Result<(), Error>;
    open_alerts() -> Result<Vec<Alert>, Error>;
    list_alerts(open: bool, subject: Option<String>, limit: usize) -> Result<Vec<Alert>, Error>;
}

impl Store for Tampering {
    fn observe(&self, observer: Arc<dyn CommitObserver>) {
        self.inner.observe(observer);
    }
}
