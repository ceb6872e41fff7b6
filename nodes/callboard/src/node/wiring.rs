//! Who is given what: the one place where ports meet their backends and actors their clients.

use super::{DataDir, Deps, Parts, StartError};
use crate::api::{self, Api, NodeInfo};
use crate::config::Config;
use callboard_alert as alert;
use callboard_backends::artifacts::folder;
use callboard_backends::handoff::embedded;
use callboard_backends::store::sqlite;
use callboard_domain::{SessionId, TaskId};
use callboard_ports::handoff::Queues;
use callboard_ports::store::{CommitObserver, TaskStore as _};
use callboard_ports::{Artifacts, Store};
use callboard_provider_broker as broker;
use callboard_runtime::actor::{self, Address, Behaviour};
use callboard_runtime::mesh::{AlertClient, BrokerClient, SupervisorClient, WorkerClient};
use callboard_runtime::watch::Hub;
use callboard_supervisor as supervisor;
use callboard_worker as worker;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The most messages that wait for one actor.
const MAILBOX: usize = 1_024;

/// The addresses of a node's actors.
pub struct Actors {
    /// The Supervisor.
    pub supervisor: Address<supervisor::Supervisor>,
    /// The Worker.
    pub worker: Address<worker::Worker>,
    /// The ProviderBroker.
    pub broker: Address<broker::ProviderBroker>,
    /// The Alert actor.
    pub alert: Address<alert::Alert>,
}

fn jitter() -> Arc<dyn Fn() -> f64 + Send + Sync> {
    Arc::new(rand::random::<f64>)
}

/// How actors are run, and where their restarts are told. The counter is set once it exists: it reports to
/// an actor.
struct Shells {
    options: actor::Options,
    restarts: Arc<OnceLock<Arc<supervisor::Restarts>>>,
}

impl Shells {
    fn new(tracker: &TaskTracker) -> Self {
        let restarts: Arc<OnceLock<Arc<supervisor::Restarts>>> = Arc::default();
        let told = Arc::clone(&restarts);
        let options = actor::Options {
            mailbox: MAILBOX,
            backoff: Duration::from_millis(50),
            backoff_cap: Duration::from_secs(5),
            runtime: tokio::runtime::Handle::current(),
            tracker: tracker.clone(),
            on_restart: Arc::new(move |restart| {
                if let Some(restarts) = told.get() {
                    restarts.note(&restart);
                }
            }),
        };
        Self { options, restarts }
    }

    fn start<B: Behaviour>(
        &self,
        system: &actor::System,
        make: impl Fn() -> B + Send + 'static,
    ) -> Result<Address<B>, StartError> {
        Ok(actor::start(&system.arbiter()?, self.options.clone(), make))
    }
}

/// Runs what goes on until the node has ended: whoever feeds it lives as long as the node's parts.
struct Loops {
    tracker: TaskTracker,
    ended: CancellationToken,
}

impl Loops {
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tracker.spawn(async move {
            ended.run_until_cancelled(work).await;
        });
    }
}

fn child<B: Behaviour>(address: &Address<B>) -> supervisor::Child {
    let address = address.clone();
    supervisor::Child {
        name: B::NAME,
        ping: Box::new(move |deadline| {
            let address = address.clone();
            Box::pin(async move { address.ping(deadline).await })
        }),
    }
}

/// Builds a node on the embedded backends.
pub(super) async fn build(
    config: &Config,
    deps: &Deps,
    dir: &DataDir,
    info: NodeInfo,
) -> Result<(Parts, Api), StartError> {
    let clock = Arc::clone(&deps.clock);
    let tracker = TaskTracker::new();
    let stopping = CancellationToken::new();
    let random = jitter();
    let store = sqlite::Store::open(sqlite::Options::new(dir.store(), clock.clone(), rand::random::<f64>))?;
    let artifacts: Arc<dyn Artifacts> =
        Arc::new(folder::Artifacts::open(dir.artifacts()).map_err(|e| StartError::Artifacts(e.to_string()))?);
    let handoff = embedded::Handoff::new(embedded::Options::new(store.clone(), clock.clone()));
    let hub = Hub::new();
    let due = supervisor::DueHint::new();
    let (failures, failed) = alert::TaskFailures::new();
    let observers: [Arc<dyn CommitObserver>; 4] =
        [handoff.clone(), Arc::new(hub.clone()), Arc::new(due.clone()), Arc::new(failures)];
    observers.into_iter().for_each(|observer| store.observe(observer));

    let system = actor::System::start()?;
    let shells = Shells::new(&tracker);
    let loops = Loops { tracker: tracker.clone(), ended: CancellationToken::new() };
    let (reporter, alert_address) = start_alert(&system, &shells, &store, deps, &loops)?;
    loops.spawn(alert::failures_loop(failed, store.clone(), reporter.clone()));
    let observe = reporter.clone();
    let broker_deps = broker::Deps {
        clock: clock.clone(),
        observe: Arc::new(move |seen| observe.report(seen)),
        env: deps.env.clone(),
    };
    let service = broker::Service::new(broker::Broker::new(&config.broker, &broker_deps)?);
    let broker_address = shells.start(&system, move || broker::ProviderBroker::new(service.clone()))?;
    let broker_client = BrokerClient::local(Arc::new(broker::ActorService::new(broker_address.clone())));

    // The supervisor's state comes first: the worker tells it when its session has ended.
    let (session, session_now) = watch::channel(None);
    let (give_up, gave_up) = watch::channel(None);
    let give_up: Arc<dyn Fn(String) + Send + Sync> = Arc::new(move |why| {
        tracing::error!(why, "the node gives up");
        give_up.send_replace(Some(why));
    });
    let report = reporter.clone();
    let report: Arc<dyn Fn(callboard_domain::alert::Observation) + Send + Sync> =
        Arc::new(move |seen| report.report(seen));
    let restarts = Arc::new(supervisor::Restarts::new(clock.clone(), report, give_up.clone()));
    let _ = shells.restarts.set(restarts.clone());
    let ended: Arc<OnceLock<Arc<supervisor::Node>>> = Arc::default();
    let tell = Arc::clone(&ended);
    let engine = worker::Engine::new(
        worker::Options {
            node: info.name.as_str().into(),
            slots: config.worker.slots,
            queues: queues(&config.worker.queues),
            cancel_grace: config.worker.cancel_grace,
            reconcile_every: Duration::from_secs(5),
        },
        worker::Deps {
            store: store.clone(),
            handoff: handoff.clone(),
            registry: deps.registry.clone(),
            llm: Arc::new(worker::BrokerLlm::new(broker_client.clone())),
            artifacts: Arc::new(worker::PortArtifacts::new(artifacts.clone())),
            clock: clock.clone(),
            session: session_now,
            on_session_ended: Arc::new(move |id| {
                if let Some(node) = tell.get() {
                    node.session_ended(id);
                }
            }),
            jitter: random,
            tracker: tracker.clone(),
        },
    );
    let worker_address = shells.start(&system, move || worker::Worker::new(engine.clone()))?;
    let state = supervisor::Node::new(
        supervisor::Options {
            name: info.name.clone(),
            version: VERSION.into(),
            roles: ["supervisor", "worker", "provider-broker", "alert"].map(String::from).into(),
            addresses: info.addresses.clone(),
        },
        supervisor::Deps {
            store: store.clone(),
            clock: clock.clone(),
            new_session_id: Arc::new(|| SessionId::new(uuid::Uuid::now_v7())),
            due,
            restarts,
            children: vec![child(&worker_address), child(&broker_address), child(&alert_address)],
            give_up,
        },
        session,
    );
    let _ = ended.set(state.clone());

    store.register_kinds(deps.registry.iter().map(|entry| (*entry.spec).clone()).collect()).await?;
    // The folder's lock proves that whoever held these sessions is dead.
    state.bury_predecessors().await?;
    handoff.refill_all().await?;
    let node = state.clone();
    let supervisor_address = shells.start(&system, move || supervisor::Supervisor::new(node.clone()))?;

    let worker_client = WorkerClient::local(Arc::new(worker::Service::new(worker_address.clone())));
    let supervisor_client =
        SupervisorClient::local(Arc::new(supervisor::Service::new(supervisor_address.clone())));
    let api = Api::new(api::Deps {
        store: store.clone(),
        artifacts,
        clock,
        new_task_id: Arc::new(|| TaskId::new(uuid::Uuid::now_v7())),
        hub,
        worker: worker_client.clone(),
        broker: broker_client,
        supervisors: {
            let local = supervisor_client.clone();
            Arc::new(move |_| Some(local.clone()))
        },
        node: info,
        waiting_tasks: config.limits.waiting_tasks,
        stopping: stopping.clone(),
        tracker: tracker.clone(),
    });
    let actors = Actors {
        supervisor: supervisor_address,
        worker: worker_address,
        broker: broker_address,
        alert: alert_address,
    };
    let parts = Parts {
        store,
        handoff,
        worker: worker_client,
        supervisor: supervisor_client,
        state,
        system,
        stopping,
        tracker,
        ended: loops.ended,
        gave_up,
        actors,
    };
    Ok((parts, api))
}

fn queues(names: &[String]) -> Queues {
    if names.is_empty() {
        Queues::All
    } else {
        Queues::Only(names.iter().map(|q| q.as_str().into()).collect())
    }
}

fn start_alert(
    system: &actor::System,
    shells: &Shells,
    store: &Arc<sqlite::Store>,
    deps: &Deps,
    loops: &Loops,
) -> Result<(alert::Reporter, Address<alert::Alert>), StartError> {
    let store: Arc<dyn Store> = store.clone();
    let alert_deps = alert::Deps {
        store,
        clock: Arc::clone(&deps.clock),
        new_id: Arc::new(|| uuid::Uuid::now_v7().to_string()),
    };
    let address = shells.start(system, move || alert::Alert::new(alert_deps.clone()))?;
    let client = AlertClient::local(Arc::new(alert::Service::new(address.clone())));
    let (reporter, observations) = alert::Reporter::new();
    loops.spawn(alert::report_loop(observations, client));
    Ok((reporter, address))
}
