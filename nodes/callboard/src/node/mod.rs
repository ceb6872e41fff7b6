//! One node: everything wired together and served.
//!
//! [`start`] is what `callboard up` and the tests run: it takes the data folder, opens the store, binds the
//! listeners, starts the actors, and only then serves. [`Running::stop`] undoes it in the other order:
//! nothing is taken any more, what runs may end, the session is ended, the store closed.

mod admin;
mod data_dir;
pub mod memory;
mod metrics;
mod wiring;

use metrics::Metrics;

pub use data_dir::{DataDir, Error as DataDirError};
pub use metrics::{METRICS, Metric, MetricKind, MetricOn};
pub use wiring::{Actors, VERSION};

use wiring::{Backends, Cluster, Leave, Telemetry};

use crate::api::{self, Api, Endpoint, EndpointOptions, HttpMetrics, NodeInfo, Public};
use crate::config::{Backend, Config};
use callboard_backends::store::{postgres, sqlite};
use callboard_contracts::mesh::v1::{DrainRequest, DrainResponse};
use callboard_contracts::v1;
use callboard_ports::Clock;
use callboard_runtime::actor;
use callboard_runtime::mesh::{MeteredLayer, RpcMetrics, SupervisorClient, TracedLayer, WorkerClient};
use callboard_sdk::Registry;
use callboard_supervisor::Node as NodeState;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

/// How long connections may take to end once the node stops.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// The largest message taken: a batch at its limit, and some.
const MESSAGE_BYTES: usize = 8 << 20;
/// The largest call to a model: its text, and the images in it.
const PROMPT_BYTES: usize = callboard_domain::limits::PROMPT_IMAGE_BYTES + (4 << 20);
/// The most calls at once on one connection.
const STREAMS: u32 = 4_096;

/// Whose health is told. The empty name stands for the node as a whole.
const SERVICES: [&str; 6] = [
    "",
    "callboard.v1.TaskService",
    "callboard.v1.ClusterService",
    "callboard.v1.ProviderService",
    "callboard.v1.ArtifactService",
    "callboard.v1.ExperimentService",
];

/// What is injected into a node.
pub struct Deps {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Reads an environment variable.
    pub env: callboard_provider_broker::Env,
    /// Reads the configuration of providers again, when somebody asks for it. `None`: it cannot be.
    pub read_config: Option<callboard_provider_broker::ReadConfig>,
    /// The kinds it hosts.
    pub registry: Registry,
    /// What its process logs. By default nothing of it can be changed.
    pub log: crate::log::Log,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[from] sqlite::OpenError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] callboard_backends::ledger::sqlite::OpenError),
    /// The store of the cluster cannot be opened.
    #[error("cannot open the store of the cluster")]
    Postgres(#[from] postgres::OpenError),
    /// The node cannot join its cluster.
    #[error(transparent)]
    Join(#[from] callboard_supervisor::JoinError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] callboard_runtime::mesh::tls::Error),
    /// The address of RabbitMQ is none.
    #[error("rabbitmq.url: {0}")]
    RabbitMq(String),
    /// The address of Redis is none.
    #[error("redis.url: {0}")]
    Redis(String),
    /// The address towards the store is not known.
    #[error("mesh.advertise: cannot find this machine's address towards {host}: {source}")]
    Advertise {
        /// The store's host.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// The store does not answer.
    #[error("the store does not answer")]
    StoreUse(#[from] callboard_ports::store::Error),
    /// The environment asks for telemetry that cannot be had.
    #[error("telemetry: {0}")]
    Telemetry(String),
    /// The folder of artifacts cannot be used.
    #[error("cannot use the folder of artifacts: {0}")]
    Artifacts(String),
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} ({listener}): {source}; is another node running? give another address with {option}"
    )]
    Listen {
        /// Which listener.
        listener: &'static str,
        /// Where.
        address: SocketAddr,
        /// The option that changes it.
        option: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A provider's configuration is wrong.
    #[error(transparent)]
    Broker(#[from] callboard_provider_broker::config::Error),
    /// The actors cannot be started.
    #[error(transparent)]
    Actors(#[from] actor::SystemError),
    /// Reflection cannot be built.
    #[error("cannot build the reflection service: {0}")]
    Reflection(String),
}

/// The parts of a running node that its services need.
pub(crate) struct Parts {
    backends: Backends,
    cluster: Option<Arc<Cluster>>,
    pub(crate) worker: Option<WorkerClient>,
    pub(crate) supervisor: SupervisorClient,
    pub(crate) state: Arc<NodeState>,
    pub(crate) system: actor::System,
    pub(crate) stopping: CancellationToken,
    pub(crate) tracker: TaskTracker,
    /// Ends the loops that nothing else ends.
    pub(crate) ended: CancellationToken,
    /// Closes the mesh listener: after the session has ended.
    mesh_closed: CancellationToken,
    pub(crate) gave_up: watch::Receiver<Option<String>>,
    /// Set when somebody told the node to leave.
    left: watch::Receiver<Option<Leave>>,
    pub(crate) actors: Actors,
    metrics: Arc<Metrics>,
    /// What calls models, if it is hosted here.
    broker: Option<Arc<callboard_provider_broker::Broker>>,
    /// What calls are served.
    rpc: RpcMetrics,
    /// What requests the endpoint that speaks OpenAI's API serves.
    http: HttpMetrics,
    /// Its ProviderBroker; none if it does not call providers itself.
    provided: Option<callboard_provider_broker::Service>,
    telemetry: Telemetry,
}

/// A node that serves.
pub struct Running {
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where operators look.
    pub admin: Option<SocketAddr>,
    /// The folder that holds its data.
    pub data_dir: PathBuf,
    /// Its name.
    pub name: String,
    parts: Parts,
    api: Api,
    drain_grace: Duration,
    closed: CancellationToken,
    servers: TaskTracker,
    health: tonic_health::server::HealthReporter,
    _lock: DataDir,
}

/// Starts a node.
///
/// # Errors
/// [`StartError`]; then nothing runs.
pub async fn start(config: Config, deps: Deps) -> Result<Running, StartError> {
    let name = match config.node.name.as_str() {
        "" => host_name(),
        name => name.to_owned(),
    };
    let holder = format!("the node `{name}` (process {})", std::process::id());
    let clustered = config.store.backend == Backend::Postgres;
    // Nodes of a cluster on one machine differ in name only: each has a folder of its own below.
    let folder = config.node.data_dir.clone();
    let lock = DataDir::open(&if clustered { folder.join(&name) } else { folder }, &holder)?;
    let (public, public_at) = listen("public", config.listen.public, "--listen").await?;
    let admin = match config.listen.admin {
        Some(address) => Some(listen("admin", address, "--admin-listen").await?),
        None => None,
    };
    let mesh = match clustered {
        true => Some(listen("mesh", config.listen.mesh, "--mesh-listen").await?),
        false => None,
    };
    let admin_at = admin.as_ref().map(|(_, at)| *at);
    let addresses = [("public", Some(public_at)), ("admin", admin_at)];
    let addresses: std::collections::BTreeMap<_, _> =
        addresses.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at?.to_string()))).collect();
    let info = NodeInfo { name: name.clone(), version: VERSION, data_dir: lock.path().to_owned(), addresses };
    let (parts, api) = wiring::build(&config, &deps, &lock, info, mesh).await?;

    let closed = CancellationToken::new();
    let servers = TaskTracker::new();
    if let Some((listener, _)) = admin {
        let router = admin::Pages::new(&parts).router();
        let until = closed.clone();
        servers.spawn(async move {
            let serve = axum::serve(listener, router).with_graceful_shutdown(until.cancelled_owned());
            if let Err(error) = serve.await {
                tracing::error!(%error, "the admin listener failed");
            }
        });
    }
    let (health, grpc) = routes(&api, parts.rpc.clone()).await?;
    let endpoint = config.openai.enabled.then(|| {
        let options = EndpointOptions {
            config: &config.openai,
            loopback: public_at.ip().is_loopback(),
            here: parts.provided.clone(),
            metrics: parts.http.clone(),
        };
        Endpoint::new(&api, options).router()
    });
    let until = closed.clone();
    servers.spawn(async move {
        let serve = tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .accept_http1(endpoint.is_some())
            .serve_with_incoming_shutdown(
                Public { grpc, endpoint },
                TcpIncoming::from(public).with_nodelay(Some(true)),
                until.cancelled_owned(),
            );
        if let Err(error) = serve.await {
            tracing::error!(%error, "the public listener failed");
        }
    });
    Ok(Running {
        public: public_at,
        admin: admin_at,
        data_dir: lock.path().to_owned(),
        name,
        parts,
        api,
        drain_grace: config.node.drain_grace,
        closed,
        servers,
        health,
        _lock: lock,
    })
}

async fn listen(
    listener: &'static str,
    address: SocketAddr,
    option: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let wrong = |source| StartError::Listen { listener, address, option, source };
    let socket = TcpListener::bind(address).await.map_err(wrong)?;
    let bound = socket.local_addr().map_err(wrong)?;
    Ok((socket, bound))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().take(callboard_domain::limits::NAME_CHARS).collect();
    if name.is_empty() { "node-1".into() } else { name }
}

async fn routes(
    api: &Api,
    rpc: RpcMetrics,
) -> Result<(tonic_health::server::HealthReporter, axum::Router), StartError> {
    use v1::artifact_service_server::ArtifactServiceServer;
    use v1::cluster_service_server::ClusterServiceServer;
    use v1::experiment_service_server::ExperimentServiceServer;
    use v1::provider_service_server::ProviderServiceServer;
    use v1::task_service_server::TaskServiceServer;
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in SERVICES {
        reporter.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    let reflection = || {
        let all = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(callboard_contracts::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        SERVICES
            .into_iter()
            .filter(|name| !name.is_empty())
            .fold(all, |all, name| all.with_service_name(name))
    };
    let failed = |error: tonic_reflection::server::Error| StartError::Reflection(error.to_string());
    let tasks = TaskServiceServer::new(api.clone()).max_decoding_message_size(MESSAGE_BYTES);
    let routes = Routes::new(tasks)
        .add_service(ClusterServiceServer::new(api.clone()))
        .add_service(ProviderServiceServer::new(api.clone()).max_decoding_message_size(PROMPT_BYTES))
        .add_service(ArtifactServiceServer::new(api.clone()))
        .add_service(ExperimentServiceServer::new(api.clone()))
        .add_service(health)
        .add_service(reflection().build_v1().map_err(failed)?)
        .add_service(reflection().build_v1alpha().map_err(failed)?);
    let scoped = axum::middleware::from_fn_with_state(api.tracer().clone(), api::scoped);
    let traced = TracedLayer::new(api.tracer().clone());
    Ok((reporter, routes.into_axum_router().layer(scoped).layer(traced).layer(MeteredLayer::new(rpc))))
}

impl Running {
    /// The actors, for tests that make them panic.
    #[must_use]
    pub fn actors(&self) -> &Actors {
        &self.parts.actors
    }

    /// The services, in this process.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// What the store of a node by itself has done so far; `None` in a cluster.
    #[must_use]
    pub fn store_stats(&self) -> Option<sqlite::Stats> {
        self.parts.backends.embedded.as_ref().map(|embedded| embedded.store.stats())
    }

    /// Reads the configuration of providers again, if this node calls them. What came of it is in the log.
    pub async fn reload(&self) {
        match &self.parts.provided {
            Some(providers) => drop(providers.broker().reload().await),
            None => tracing::warn!("there is nothing to reload: other nodes call providers for this one"),
        }
    }

    /// Waits until somebody tells the node to leave.
    pub async fn left(&self) {
        let mut left = self.parts.left.clone();
        // The sender lives in the parts: without them there is nothing to wait for either.
        let _ = left.wait_for(Option::is_some).await;
    }

    /// Waits until the node can no longer go on, and says why.
    pub async fn gave_up(&self) -> String {
        let mut gave_up = self.parts.gave_up.clone();
        // The sender lives in the parts; should it be gone, so is the node.
        match gave_up.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the node's parts are gone".into(),
        }
    }

    /// Stops the node: takes nothing more, lets what runs end within the drain grace, hands the rest off
    /// again, ends the session, closes the store. Returns how many attempts ended by themselves and how many
    /// were handed off.
    pub async fn stop(self) -> (u32, u32) {
        let parts = self.parts;
        for service in SERVICES {
            self.health.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
        }
        let grace = parts.left.borrow().and_then(|leave| leave.grace).unwrap_or(self.drain_grace);
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let request = DrainRequest { context: None, grace_ms };
        let mut drained = DrainResponse::default();
        if let Some(worker) = &parts.worker {
            match worker.drain(request, grace + Duration::from_secs(5)).await {
                Ok(answer) => drained = answer,
                Err(error) => tracing::error!(%error, "the worker does not drain"),
            }
        }
        // Watches end now, saying where to go on.
        parts.stopping.cancel();
        if let Err(error) = parts.state.close().await {
            tracing::error!(%error, "cannot end the session; the next start will");
        }
        // Closed before, it would look dead behind a live session.
        parts.mesh_closed.cancel();
        self.closed.cancel();
        self.servers.close();
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.servers.wait()).await;
        drop(parts.system);
        (parts.backends.close_handoff)().await;
        if let Some(cluster) = parts.cluster {
            cluster.peers.set([]);
        }
        parts.ended.cancel();
        parts.tracker.close();
        let _ = tokio::time::timeout(CLOSE_WITHIN, parts.tracker.wait()).await;
        if let Some(broker) = parts.broker
            && let Err(error) = broker.exchange().await
        {
            tracing::warn!(%error, "the last of what was used of quotas and budgets is not written down");
        }
        (parts.backends.close_store)().await;
        if let Some(otlp) = parts.telemetry.otlp {
            // It waits for its thread, for a moment: a collector that is away holds nothing up.
            let _ = tokio::task::spawn_blocking(move || otlp.close()).await;
        }
        (drained.finished, drained.returned)
    }
}
