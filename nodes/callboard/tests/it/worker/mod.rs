//! The worker on the embedded backends, with what stands around it under the test's control.

mod calls;
mod doubt;
mod panic;
mod store;
mod suspects;

use callboard_backends::handoff::embedded;
use callboard_backends::store::sqlite;
use callboard_domain::task::Spec;
use callboard_domain::{Attempt, NewTask, Priority, SessionId, State, Task, TaskId, Timestamp};
use callboard_ports::SystemClock;
use callboard_ports::sessions::{NewSession, SessionStore};
use callboard_ports::store::{Claim, ClaimRequest, Started, Store as _, TaskReader, TaskStore};
use callboard_runtime::actor::{self, Address, Restart};
use callboard_sdk::llm::{ImageRequest, ImageResponse, TextRequest, TextResponse};
use callboard_sdk::{ArtifactSink, Failure, Llm};
use callboard_worker::{Deps, Engine, Options, Worker};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// How long anything that should happen may take. Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(30);
/// A time that no test lives to see: what goes on by itself by then is not what is tested.
const NEVER: Duration = Duration::from_secs(3600);

/// The backends of a worker, and its session.
struct Stage {
    store: Arc<sqlite::Store>,
    handoff: Arc<embedded::Handoff>,
    session: SessionId,
    _folder: TempDir,
}

/// A worker that runs.
struct Running {
    engine: Arc<Engine>,
    _actor: Address<Worker>,
    _system: actor::System,
    _session: watch::Sender<Option<SessionId>>,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        // No random number, so no backoff.
        let options = sqlite::Options::new(folder.path().join("db"), clock.clone(), || 0.0);
        let store = sqlite::Store::open(options).unwrap();
        let handoff = embedded::Handoff::new(embedded::Options::new(store.clone(), clock));
        store.observe(handoff.clone());
        let session = open_session(&store).await;
        Self { store, handoff, session, _folder: folder }
    }

    /// Starts its worker, with what it stands on changed for the test.
    fn start(
        &self,
        reconcile_every: Duration,
        on_restart: impl Fn(Restart) + Send + Sync + 'static,
        change: impl FnOnce(&mut Deps),
    ) -> Running {
        let tracker = TaskTracker::new();
        let (keep, session) = watch::channel(Some(self.session));
        let options = Options {
            node: "a".into(),
            slots: 8,
            queues: callboard_ports::handoff::Queues::All,
            cancel_grace: Duration::from_secs(1),
            reconcile_every,
        };
        let mut deps = Deps {
            store: self.store.clone(),
            handoff: self.handoff.clone(),
            registry: callboard_kinds::all().unwrap(),
            llm: Arc::new(NoTools),
            artifacts: Arc::new(NoTools),
            clock: Arc::new(SystemClock),
            session,
            on_session_ended: Arc::new(|_| panic!("the session lives")),
            jitter: Arc::new(|| 0.0),
            tracer: callboard_ports::Tracer::default(),
            tracker: tracker.clone(),
        };
        change(&mut deps);
        let engine = Engine::new(options, deps);
        let shell = actor::Options {
            mailbox: 16,
            backoff: Duration::from_millis(10),
            backoff_cap: Duration::from_secs(1),
            runtime: tokio::runtime::Handle::current(),
            tracker,
            on_restart: Arc::new(on_restart),
        };
        let system = actor::System::start().unwrap();
        let of_worker = Arc::clone(&engine);
        let worker =
            actor::start(&system.arbiter().unwrap(), shell, move || Worker::new(Arc::clone(&of_worker)));
        Running { engine, _actor: worker, _system: system, _session: keep }
    }

    /// Admits tasks.
    async fn admit(&self, tasks: impl IntoIterator<Item = NewTask>) -> Vec<TaskId> {
        let admitted = self.store.admit(tasks.into_iter().collect()).await;
        admitted.into_iter().map(|a| a.unwrap().task.spec.id).collect()
    }

    /// Makes tasks suspect: they are running when a node dies, and again.
    async fn lose_twice(&self, ids: &[TaskId]) {
        for _ in 0..2 {
            let session = open_session(&self.store).await;
            let request = ClaimRequest {
                session,
                node: "b".into(),
                hosted: Arc::new(["echo".to_owned()].into()),
                take: ids.to_vec(),
                give_back: Vec::new(),
            };
            let claimed = self.store.claim(request).await.unwrap().into_iter().map(|claim| match claim {
                Claim::Claimed(claimed) => claimed.task,
                other => panic!("{other:?}"),
            });
            let start = |t: Task| Started {
                attempt: Attempt { task_id: t.spec.id, number: t.life.attempt },
                at: Timestamp::default(),
            };
            self.store.start(session, claimed.map(start).collect()).await.unwrap();
            self.store.end_session(session, "it died").await.unwrap();
        }
        let tasks = self.store.get(ids.to_vec()).await.unwrap();
        assert!(tasks.iter().all(|t| t.life.is_suspect() && t.life.state == State::Queued), "{tasks:?}");
    }

    /// Waits until all have succeeded. Nobody else here releases those whose time has come.
    async fn all_succeed(&self, ids: &[TaskId]) -> Vec<Task> {
        let all = async {
            loop {
                self.store.release_due(100).await.unwrap();
                let tasks = self.store.get(ids.to_vec()).await.unwrap();
                if tasks.iter().all(|t| t.life.state == State::Succeeded) {
                    return tasks;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, all).await.unwrap_or_else(|_| panic!("a task is stranded"))
    }
}

async fn open_session(store: &sqlite::Store) -> SessionId {
    let id = SessionId::new(uuid::Uuid::now_v7());
    let opened = NewSession {
        id,
        node: "a".into(),
        version: "1".into(),
        roles: Vec::new(),
        addresses: BTreeMap::new(),
        revival: false,
    };
    store.open_session(opened).await.unwrap();
    id
}

/// An `echo` task.
fn task(input: impl Into<String>) -> NewTask {
    let spec = Spec {
        id: TaskId::new(uuid::Uuid::now_v7()),
        namespace: "default".into(),
        kind: "echo".into(),
        queue: "default".into(),
        priority: Priority::DEFAULT,
        max_attempts: 5,
        timeout: Duration::from_secs(60),
        created_at: Timestamp::default(),
        request_id: None,
        traceparent: None,
        retry_of: None,
    };
    NewTask { spec, run_at: None, input: input.into().into() }
}

struct NoTools;

#[tonic::async_trait]
impl Llm for NoTools {
    async fn text(&self, _: TextRequest) -> Result<TextResponse, callboard_domain::llm::Error> {
        unreachable!("echo calls no model")
    }

    async fn image(&self, _: ImageRequest) -> Result<ImageResponse, callboard_domain::llm::Error> {
        unreachable!("echo calls no model")
    }
}

#[tonic::async_trait]
impl ArtifactSink for NoTools {
    async fn put(&self, _: bytes::Bytes, _: &str) -> Result<callboard_domain::ArtifactDigest, Failure> {
        unreachable!("echo keeps nothing")
    }
}
