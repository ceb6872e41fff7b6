//! What becomes of a delivery.

use super::stub::{Asked, Channel, Slow};
use callboard_domain::{Band, SessionId, TaskId};
use callboard_ports::SystemClock;
use callboard_ports::handoff::{Delivery, Queues, Ready};
use callboard_ports::store::{Claim, Error};
use callboard_runtime::actor;
use callboard_sdk::Registry;
use callboard_worker::{Deps, Engine, Options, Worker};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

const SESSION: SessionId = SessionId::from_bytes([7; 16]);
const SOON: Duration = Duration::from_secs(20);

/// A worker, and both of its ends.
struct Stage {
    deliver: mpsc::UnboundedSender<Delivery>,
    claims: mpsc::UnboundedReceiver<Asked>,
    _worker: actor::Address<Worker>,
    _system: actor::System,
}

impl Stage {
    fn new() -> Self {
        let (deliver, deliveries) = mpsc::unbounded_channel();
        let (asking, claims) = mpsc::unbounded_channel();
        let options = Options {
            node: "a".into(),
            slots: 4,
            queues: Queues::All,
            cancel_grace: Duration::from_secs(1),
            reconcile_every: Duration::from_secs(60),
        };
        let (handoff, tracker) = (Arc::new(Channel::new(deliveries)), TaskTracker::new());
        let deps = Deps {
            store: Arc::new(Slow(asking)),
            handoff: handoff.clone(),
            registry: Registry::new(),
            llm: handoff.clone(),
            artifacts: handoff,
            clock: Arc::new(SystemClock),
            session: watch::channel(Some(SESSION)).1,
            on_session_ended: Arc::new(|_| ()),
            jitter: Arc::new(|| 0.5),
            tracer: callboard_ports::Tracer::default(),
            tracker: tracker.clone(),
        };
        let engine = Engine::new(options, deps);
        let shell = actor::Options {
            mailbox: 16,
            backoff: Duration::from_millis(10),
            backoff_cap: Duration::from_secs(1),
            runtime: tokio::runtime::Handle::current(),
            tracker,
            on_restart: Arc::new(|restart| panic!("{restart:?}")),
        };
        let system = actor::System::start().unwrap();
        let arbiter = system.arbiter().unwrap();
        let worker = actor::start(&arbiter, shell, move || Worker::new(engine.clone()));
        Self { deliver, claims, _worker: worker, _system: system }
    }
}

/// A delivery of one task, and what becomes of it: whether it was acknowledged.
fn delivery(id: TaskId) -> (Delivery, oneshot::Receiver<bool>) {
    let queue = "default".into();
    let ready = Ready { id, handoff: 1, queue, band: Band::Middle, alone: false, not_before: None };
    let (settled, becomes) = oneshot::channel();
    let delivery = Delivery::new(vec![ready], move |_, acked| {
        let _ = settled.send(acked);
    });
    (delivery, becomes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_acknowledged_once_its_claim_has_committed_and_not_before() {
    let mut stage = Stage::new();
    let answers = [
        (Ok(vec![]), true),
        (Err(Error::Overloaded), false),
        (Err(Error::Unavailable("gone".into())), false),
        (Err(Error::Unknown("cut".into())), false),
        (Err(Error::SessionEnded), false),
    ];
    for (number, (answer, acknowledged)) in (1..).zip(answers) {
        let id = TaskId::from_bytes([number; 16]);
        let (delivery, mut becomes) = delivery(id);
        assert!(stage.deliver.send(delivery).is_ok());
        let Asked { take, answering } =
            tokio::time::timeout(SOON, stage.claims.recv()).await.expect("it claims").unwrap();
        assert_eq!(take, [id]);
        // The store holds the claim now.
        let early = becomes.try_recv();
        assert_eq!(early, Err(oneshot::error::TryRecvError::Empty), "settled before its claim has committed");
        let answer = answer.map(|_: Vec<Claim>| vec![Claim::Gone(id)]);
        let case = format!("{answer:?}");
        assert!(answering.send(answer).is_ok());
        let became = tokio::time::timeout(SOON, becomes).await.expect("it is settled");
        assert_eq!(became, Ok(acknowledged), "{case}");
    }
}
