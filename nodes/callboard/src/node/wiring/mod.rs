//! Who is given what: the one place where ports meet their backends and actors their clients.

mod actors;
mod backends;
mod brokered;
mod cluster;
mod logs;
mod singletons;
mod telemetry;

pub use actors::Actors;
pub(super) use backends::{Backends, Embedded};
pub(super) use cluster::Cluster;
pub(super) use telemetry::Telemetry;

use super::metrics::{Metrics, Push, PushSettings, Sources, TaskEvents};
use super::{DataDir, Deps, Parts, StartError};
use crate::api::{self, Api, NodeInfo};
use crate::config::{Config, Role};
use crate::log::{self, Log};
use actors::{BrokerParts, Shells, child, expire_alerts, start_alert, start_broker, warm_cache};
use callboard_alert as alert;
use callboard_contracts::mesh::v1::{DrainNodeRequest, WorkerLoad};
use callboard_domain::{Code, Error, SessionId, TaskId};
use callboard_ports::handoff::Queues;
use callboard_ports::store::CommitObserver;
use callboard_runtime::actor;
use callboard_runtime::mesh::{self, BrokerClient, SupervisorClient, WorkerClient};
use callboard_runtime::peers::Peers;
use callboard_runtime::watch::Hub;
use callboard_supervisor as supervisor;
use callboard_worker as worker;
use cluster::Around;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a node by itself waits for its first session before it is said to have started.
const SESSION_WITHIN: Duration = Duration::from_secs(5);

/// How long the start waits to hear what was used of quotas and budgets.
const LEDGER_WITHIN: Duration = Duration::from_secs(2);

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The packages whose calls are served: by every node, and by one of a cluster.
const PUBLIC: &str = "callboard.v1";
const MESH: &str = "callboard.mesh.v1";

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

/// The listener that other nodes reach, bound and not yet served.
pub(super) type MeshListener = (TcpListener, SocketAddr);

/// Builds a node. In a cluster it serves its mesh listener and joins before this returns.
pub(super) async fn build(
    config: &Config,
    deps: &Deps,
    dir: &DataDir,
    mut info: NodeInfo,
    listener: Option<MeshListener>,
) -> Result<(Parts, Api), StartError> {
    let clock = Arc::clone(&deps.clock);
    let telemetry =
        Telemetry::open(&deps.env, &info.name, config.traces.slow).map_err(StartError::Telemetry)?;
    let push = PushSettings::read(&deps.env).map_err(StartError::Telemetry)?;
    logs::open(&deps.env, &deps.log, &info.name).map_err(StartError::Telemetry)?;
    let tracer = &telemetry.tracer;
    let packages: &[_] = if listener.is_some() { &[PUBLIC, MESH] } else { &[PUBLIC] };
    let rpc = mesh::RpcMetrics::new(callboard_contracts::DESCRIPTORS, packages);
    let http = api::HttpMetrics::default();
    let tracker = TaskTracker::new();
    let stopping = CancellationToken::new();
    let hosts = |role: Role| config.node.roles.contains(&role);
    let hub = Hub::new();
    let (backends, cluster) = match &listener {
        Some((_, at)) => {
            let around = Around { hub: &hub, tracker: &tracker, tracer };
            let opened = Cluster::open(config, deps, dir, &info.name, *at, around).await?;
            (opened.0, Some(Arc::new(opened.1)))
        }
        None => (Backends::embedded(deps, dir)?, None),
    };
    if let Some(cluster) = &cluster {
        info.addresses.insert(supervisor::MESH.to_owned(), cluster.advertised.clone());
    }
    let store = Arc::clone(&backends.store);
    let commits = Hub::new();
    let due = supervisor::DueHint::new();
    let (failures, failed) = alert::TaskFailures::new();
    // In a cluster the hub is told by what puts this node's events and the others' together.
    let first: Arc<dyn CommitObserver> =
        if cluster.is_some() { Arc::new(commits.clone()) } else { Arc::new(hub.clone()) };
    let events = Arc::<TaskEvents>::default();
    let observers: [Arc<dyn CommitObserver>; 4] =
        [first, Arc::new(due.clone()), Arc::new(failures), events.clone()];
    observers.into_iter().for_each(|observer| store.observe(observer));

    let system = actor::System::start()?;
    let shells = Shells::new(&tracker);
    let loops = Loops { tracker: tracker.clone(), ended: CancellationToken::new() };
    let peers = cluster.as_ref().map(|cluster| cluster.peers.clone());
    let alerts = start_alert(&system, &shells, &store, deps, cluster.as_ref(), hosts(Role::Alert))?;
    let (reporter, observations) = alert::Reporter::new();
    loops.spawn(alert::report_loop(observations, alerts.client.clone()));
    loops.spawn(alert::failures_loop(failed, store.clone(), reporter.clone()));
    let parts = BrokerParts {
        reporter: &reporter,
        tracer,
        ledger: Arc::clone(&backends.ledger),
        records: Arc::clone(&backends.records),
    };
    let (broker, providers) = start_broker(&system, &shells, config, deps, parts, cluster.as_deref())?;
    if let Some(providers) = &providers {
        // Before the first call it is known what was used already. Where that takes long, calls do not wait for it.
        if let Ok(Err(error)) = tokio::time::timeout(LEDGER_WITHIN, providers.exchange()).await {
            tracing::warn!(%error, "what was used of quotas and budgets before is not known yet");
        }
        // Nor is one made to a provider that is switched off.
        providers.recall().await;
        loops.spawn(Arc::clone(providers).keep());
        let providers = Arc::clone(providers);
        loops.spawn(async move { providers.keep_accounts().await });
    }
    let provided = providers.clone().map(callboard_provider_broker::Service::new);

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
    shells.report_to(&restarts);
    let ended: Arc<OnceLock<Arc<supervisor::Node>>> = Arc::default();
    let tell = Arc::clone(&ended);
    if let Some(cluster) = cluster.as_ref().filter(|_| hosts(Role::Worker) && config.worker.queues.is_empty())
    {
        cluster.brokered.find_queues(&tracker);
    }
    let engine = hosts(Role::Worker).then(|| {
        worker::Engine::in_cluster(
            worker::Options {
                node: info.name.as_str().into(),
                slots: config.worker.slots,
                queues: queues(config),
                cancel_grace: config.worker.cancel_grace,
                reconcile_every: Duration::from_secs(5),
            },
            worker::Deps {
                store: store.clone(),
                handoff: backends.handoff.clone(),
                registry: deps.registry.clone(),
                llm: Arc::new(worker::BrokerLlm::new(broker.client.clone(), tracer.clone())),
                artifacts: Arc::new(worker::PortArtifacts::new(backends.artifacts.clone())),
                clock: clock.clone(),
                session: session_now,
                on_session_ended: Arc::new(move |id| {
                    if let Some(node) = tell.get() {
                        node.session_ended(id);
                    }
                }),
                jitter: Arc::new(rand::random::<f64>),
                tracer: tracer.clone(),
                tracker: tracker.clone(),
            },
            match &cluster {
                Some(cluster) => worker::Cluster {
                    may_claim: cluster.may_claim.clone(),
                    on_run_time: cluster.brokered.on_run_time(),
                    ..Default::default()
                },
                None => worker::Cluster::default(),
            },
        )
    });
    if let Some(engine) = &engine {
        store.offer_to(worker::taker(engine));
    }
    let worker_address = match engine.clone() {
        Some(engine) => Some(shells.start(&system, move || worker::Worker::new(engine.clone()))?),
        None => None,
    };
    let children = [
        worker_address.as_ref().map(child),
        broker.address.as_ref().map(child),
        alerts.address.as_ref().map(child),
    ];
    let load = engine.clone();
    let status = supervisor::Sources {
        load: Arc::new(move || {
            let load = load.as_ref()?.load();
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            Some(WorkerLoad {
                slots: count(load.slots),
                slots_used: count(load.slots_used),
                claimed: count(load.claimed),
            })
        }),
        resident_bytes: Arc::new(super::memory::resident_bytes),
        suspects: match peers.clone() {
            Some(peers) => Arc::new(move || peers.suspects().into_iter().map(Into::into).collect()),
            None => Arc::new(Vec::new),
        },
        backends: match cluster.clone() {
            Some(cluster) => Arc::new(move || cluster.standing()),
            None => Arc::new(std::collections::BTreeMap::new),
        },
        singletons: match cluster.clone() {
            Some(cluster) => Arc::new(move || cluster.singletons.held()),
            None => Arc::new(std::collections::BTreeMap::new),
        },
    };
    let expires = alerts.address.clone().filter(|_| cluster.is_some()).map(expire_alerts);
    let warms = providers.clone().filter(|_| config.broker.cache.warm_top > 0).map(warm_cache);
    let state = supervisor::Node::with(
        supervisor::Options {
            name: info.name.clone(),
            version: VERSION.into(),
            roles: roles(config),
            addresses: info.addresses.clone(),
        },
        supervisor::Deps {
            store: store.clone(),
            clock: clock.clone(),
            new_session_id: Arc::new(|| SessionId::new(uuid::Uuid::now_v7())),
            due,
            restarts,
            children: children.into_iter().flatten().collect(),
            give_up,
        },
        session,
        supervisor::Setup {
            cluster: cluster.as_ref().map(|cluster| cluster.membership(engine.as_ref())),
            status,
            reconcilers: cluster
                .iter()
                .flat_map(|cluster| cluster.reconcilers())
                .chain(expires)
                .chain(warms)
                .collect(),
            runner: cluster.as_ref().map(|cluster| cluster.singletons.runner()),
        },
    );
    let _ = ended.set(state.clone());

    store.register_kinds(deps.registry.iter().map(|entry| (*entry.spec).clone()).collect()).await?;
    if cluster.is_none() {
        // The folder's lock proves that whoever held these sessions is dead. The actor opens one of its own.
        state.bury_predecessors().await?;
    }
    let (leave, left) = watch::channel(None);
    let supervisor_address = {
        let node = state.clone();
        shells.start(&system, move || supervisor::Supervisor::new(node.clone()))?
    };
    if cluster.is_none() {
        // What is said to have started can run tasks. Where that takes long it goes on, and says so.
        let mut standing = state.standing();
        let _ = tokio::time::timeout(SESSION_WITHIN, standing.wait_for(|now| now.session.is_some())).await;
    }
    let drain: supervisor::Drain = Arc::new(move |request: DrainNodeRequest| {
        let grace = request.grace_ms.map(Duration::from_millis);
        !leave.send_if_modified(|leave| leave.is_none() && leave.replace(Leave { grace }).is_none())
    });
    let supervisor_service = Arc::new(
        supervisor::Service::new(supervisor_address.clone())
            .with_drain(drain)
            .with_log(log_filter(&deps.log))
            .with_commits(commits),
    );
    let worker_service = worker_address.clone().map(|address| Arc::new(worker::Service::new(address)));
    let worker_client = worker_service.clone().map(|service| WorkerClient::local(service));
    let supervisor_client = SupervisorClient::local(supervisor_service.clone());
    let mesh_closed = CancellationToken::new();
    if let (Some(cluster), Some((listener, _))) = (&cluster, listener) {
        let services = mesh::Services {
            supervisor: Some(supervisor_service),
            worker: worker_service.map(|service| service as Arc<mesh::WorkerService>),
            broker: broker.service.clone(),
            alert: alerts.service.clone(),
        };
        let options = mesh::ServeOptions {
            identity: cluster.identity.clone(),
            tracer: tracer.clone(),
            metrics: rpc.clone(),
            ..Default::default()
        };
        let stop = mesh_closed.clone();
        tracker.spawn(async move {
            if let Err(error) = mesh::serve(listener, services, options, stop).await {
                tracing::error!(%error, "the mesh listener failed");
            }
        });
        let _ = cluster.state.set(state.clone());
        state.join(&cluster.proven()).await?;
    }
    if let Some(embedded) = &backends.embedded {
        embedded.handoff.refill_all().await?;
    }

    let name = info.name.clone();
    let own = state.clone();
    let (local_supervisor, local_worker) = (supervisor_client.clone(), worker_client.clone());
    let own_broker = broker.service.clone().map(BrokerClient::local);
    let own_broker = own_broker.map(|client| (info.name.clone(), client));
    let (supervisors, workers, brokers) = (peers.clone(), peers.clone(), peers);
    let is_own = move |id: SessionId| own.session() == Some(id);
    let own_worker = is_own.clone();
    let api = Api::new(api::Deps {
        store: store.clone(),
        artifacts: backends.artifacts.clone(),
        clock,
        new_task_id: Arc::new(|| TaskId::new(uuid::Uuid::now_v7())),
        tracer: tracer.clone(),
        hub,
        workers: Arc::new(move |id| match &workers {
            Some(peers) if !own_worker(id) => peers.worker(id),
            _ => local_worker.clone(),
        }),
        broker: broker.client,
        brokers: Arc::new(move || {
            let mut all = brokers.as_ref().map(Peers::named_brokers).unwrap_or_default();
            all.extend(own_broker.clone());
            all
        }),
        supervisors: Arc::new(move |id| match &supervisors {
            Some(peers) if !is_own(id) => peers.supervisor(id),
            _ => Some(local_supervisor.clone()),
        }),
        node: info,
        waiting_tasks: config.limits.waiting_tasks,
        keys: config.openai.keys.clone(),
        stopping: stopping.clone(),
        tracker: tracker.clone(),
    });
    let actors = Actors {
        supervisor: supervisor_address,
        worker: worker_address,
        broker: broker.address,
        alert: alerts.address,
    };
    let metrics = Metrics::new(Sources {
        version: VERSION,
        clock: Arc::clone(&deps.clock),
        store,
        embedded: backends.embedded.clone(),
        cluster: cluster.clone(),
        state: state.clone(),
        engine,
        broker: providers.clone(),
        actors: actors.clone(),
        rpc: rpc.clone(),
        http: http.clone(),
        events,
        otlp: telemetry.otlp.clone(),
    });
    let push = push.map(|settings| Push::new(settings, Arc::clone(&metrics), &name));
    if let Some(push) = push.transpose().map_err(StartError::Telemetry)? {
        tracker.spawn(push.run(loops.ended.clone()));
    }
    let parts = Parts {
        metrics,
        rpc,
        http,
        provided,
        broker: providers,
        backends,
        cluster,
        worker: worker_client,
        supervisor: supervisor_client,
        state,
        system,
        stopping,
        tracker,
        ended: loops.ended,
        mesh_closed,
        gave_up,
        left,
        actors,
        telemetry,
    };
    Ok((parts, api))
}

/// How a node was told to leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leave {
    /// How long what runs may go on; as configured if nobody said.
    pub(super) grace: Option<Duration>,
}

/// The names of the roles it hosts. Every node has a Supervisor.
/// What changes the process's log.
fn log_filter(log: &Log) -> supervisor::LogFilter {
    let log = log.clone();
    Arc::new(move |filter| match log.set(filter) {
        Err(log::Error::Filter(why)) => Err(Error::field(Code::InvalidArgument, "filter", why).into()),
        Err(why @ log::Error::Fixed) => Err(tonic::Status::unimplemented(why.to_string())),
        Ok(previous) => Ok(previous),
    })
}

fn roles(config: &Config) -> Vec<String> {
    let hosted = |role: &Role| *role == Role::Supervisor || config.node.roles.contains(role);
    Role::ALL.into_iter().filter(hosted).map(|role| role.name().to_owned()).collect()
}

/// The queues to take from: all, unless some are named.
fn queues(config: &Config) -> Queues {
    match config.worker.queues.as_slice() {
        [] => Queues::All,
        named => Queues::Only(named.iter().map(|q| q.as_str().into()).collect()),
    }
}
