//! The worker on the embedded backends, with a hand-off that panics where it hurts most: after a claim has
//! committed and before any of its tasks has a runner.

use callboard_backends::handoff::embedded;
use callboard_backends::store::sqlite;
use callboard_domain::task::Spec;
use callboard_domain::{NewTask, Priority, SessionId, State, TaskId};
use callboard_ports::handoff::{Consumer, Delivery, Error, Queues, Ready, Want};
use callboard_ports::sessions::{NewSession, SessionStore};
use callboard_ports::store::{Store as _, TaskReader, TaskStore};
use callboard_ports::{Handoff, SystemClock};
use callboard_runtime::actor;
use callboard_sdk::llm::{ImageRequest, ImageResponse, TextRequest, TextResponse};
use callboard_sdk::{ArtifactSink, Failure, Llm};
use callboard_worker::{Deps, Engine, Options, Worker};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// A hand-off whose n-th acknowledgement panics.
struct PanicsAtAck {
    inner: Arc<embedded::Handoff>,
    acks: Arc<AtomicUsize>,
    at: usize,
}

struct PanickingConsumer {
    inner: Box<dyn Consumer>,
    acks: Arc<AtomicUsize>,
    at: usize,
}

#[tonic::async_trait]
impl Handoff for PanicsAtAck {
    async fn publish(&self, batch: Vec<Ready>) -> Vec<Result<(), Error>> {
        self.inner.publish(batch).await
    }

    async fn consume(&self, queues: Queues) -> Result<Box<dyn Consumer>, Error> {
        let inner = self.inner.consume(queues).await?;
        Ok(Box::new(PanickingConsumer { inner, acks: Arc::clone(&self.acks), at: self.at }))
    }
}

#[tonic::async_trait]
impl Consumer for PanickingConsumer {
    async fn next(&mut self, want: Want) -> Result<Delivery, Error> {
        let delivery = self.inner.next(want).await?;
        let (acks, at) = (Arc::clone(&self.acks), self.at);
        let tasks = delivery.tasks().to_vec();
        Ok(Delivery::new(tasks, move |_, acked| {
            if !acked {
                return drop(delivery);
            }
            delivery.ack();
            if acks.fetch_add(1, Ordering::SeqCst) + 1 == at {
                panic!("planted: after the claim, before the runners");
            }
        }))
    }
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

fn task(input: &str) -> NewTask {
    let spec = Spec {
        id: TaskId::new(uuid::Uuid::now_v7()),
        namespace: "default".into(),
        kind: "echo".into(),
        queue: "default".into(),
        priority: Priority::DEFAULT,
        max_attempts: 5,
        timeout: Duration::from_secs(60),
        created_at: callboard_domain::Timestamp::default(),
        request_id: None,
        traceparent: None,
        retry_of: None,
    };
    NewTask { spec, run_at: None, input: input.to_owned().into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_between_claim_and_run_strands_no_task() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let options = sqlite::Options::new(folder.path().join("db"), clock.clone(), || 0.5);
    let store = sqlite::Store::open(options).unwrap();
    let embedded = embedded::Handoff::new(embedded::Options::new(store.clone(), clock.clone()));
    store.observe(embedded.clone());
    let session = SessionId::new(uuid::Uuid::now_v7());
    let opened = NewSession {
        id: session,
        node: "a".into(),
        version: "1".into(),
        roles: Vec::new(),
        addresses: BTreeMap::new(),
        revival: false,
    };
    store.open_session(opened).await.unwrap();
    let handoff = PanicsAtAck { inner: embedded, acks: Arc::default(), at: 2 };
    let (_keep, session_now) = watch::channel(Some(session));
    let tracker = TaskTracker::new();
    let engine = Engine::new(
        Options {
            node: "a".into(),
            slots: 8,
            queues: Queues::All,
            cancel_grace: Duration::from_secs(1),
            reconcile_every: Duration::from_secs(1),
        },
        Deps {
            store: store.clone(),
            handoff: Arc::new(handoff),
            registry: callboard_kinds::all().unwrap(),
            llm: Arc::new(NoTools),
            artifacts: Arc::new(NoTools),
            clock,
            session: session_now,
            on_session_ended: Arc::new(|_| panic!("the session lives")),
            jitter: Arc::new(|| 0.5),
            tracker: tracker.clone(),
        },
    );
    let system = actor::System::start().unwrap();
    let restarts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&restarts);
    let shell = actor::Options {
        mailbox: 16,
        backoff: Duration::from_millis(10),
        backoff_cap: Duration::from_secs(1),
        runtime: tokio::runtime::Handle::current(),
        tracker,
        on_restart: Arc::new(move |restart| {
            assert!(restart.reason.starts_with("planted"), "{restart:?}");
            counted.fetch_add(1, Ordering::SeqCst);
        }),
    };
    let of_worker = engine.clone();
    let _worker = actor::start(&system.arbiter().unwrap(), shell, move || Worker::new(of_worker.clone()));

    let admitted =
        store.admit((0..40).map(|n| task(&format!(r#"{{"n":{n},"sleep_ms":30}}"#))).collect()).await;
    let ids: Vec<_> = admitted.into_iter().map(|a| a.unwrap().task.spec.id).collect();
    let all_done = async {
        loop {
            let tasks = store.get(ids.clone()).await.unwrap();
            if tasks.iter().all(|t| t.life.state == State::Succeeded) {
                return tasks;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let tasks = tokio::time::timeout(Duration::from_secs(30), all_done).await.expect("a task is stranded");
    assert_eq!(restarts.load(Ordering::SeqCst), 1, "the planted panic happened");
    let again = tasks.iter().filter(|t| t.life.attempt == 2).count();
    assert!(again > 0, "the claim that lost its runners was given back");
    assert!(tasks.iter().all(|t| t.life.failures == 0 && t.life.lost == 0), "it counts against nobody");
    assert_eq!(engine.load().slots_used, 0, "a slot leaked");
    store.close().await;
}
