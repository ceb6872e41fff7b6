//! A node's mesh listener: the services of the roles it hosts.
//!
//! Limits: connections, time for a handshake, calls at once on a connection, bytes of a message and of
//! headers. A role that is not hosted answers `UNIMPLEMENTED` with the reason `ROLE_NOT_HOSTED`.

mod hosted;
mod incoming;
mod metered;
mod traced;

use super::client::{AlertService, BrokerService, SupervisorService, WorkerService};
use super::tls::Identity;
use callboard_contracts::mesh::v1::alert_service_server::AlertServiceServer;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerServiceServer;
use callboard_contracts::mesh::v1::supervisor_service_server::SupervisorServiceServer;
use callboard_contracts::mesh::v1::worker_service_server::WorkerServiceServer;
use callboard_ports::trace::Tracer;
use hosted::Hosted;
pub use metered::{MeteredLayer, MethodRead, RpcMetrics};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
pub use traced::{BeginsTrace, TracedLayer};

/// The largest request taken, in bytes: a prompt, or a batch of task ids.
const REQUEST_BYTES: usize = 8 << 20;
/// The largest call to a model: its text, and the images in it.
const PROMPT_BYTES: usize = callboard_domain::limits::PROMPT_IMAGE_BYTES + (4 << 20);
/// The most bytes of a request's headers.
const HEADER_BYTES: u32 = 16 << 10;
/// The most calls at once on one connection.
const STREAMS: u32 = 1_024;
/// How often a connection on which nothing happens is asked whether the other side is there, and how long
/// that may take to answer: so that connections of nodes that are gone do not pile up.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_WITHIN: Duration = Duration::from_secs(10);
/// Receive windows in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The services of the roles that a node hosts. What is `None` is answered with `ROLE_NOT_HOSTED`.
#[derive(Clone, Default)]
pub struct Services {
    /// The Supervisor: every node has one.
    pub supervisor: Option<Arc<SupervisorService>>,
    /// The Worker.
    pub worker: Option<Arc<WorkerService>>,
    /// The ProviderBroker.
    pub broker: Option<Arc<BrokerService>>,
    /// The Alert actor.
    pub alert: Option<Arc<AlertService>>,
}

/// How the mesh is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's certificates. `None`: nothing is encrypted, and everybody is let in.
    pub identity: Option<Arc<Identity>>,
    /// How long calls may go on once the node closes its listener. Then their connections are cut.
    pub close_within: Duration,
    /// The most connections at once. More wait to be accepted.
    pub connections: usize,
    /// How long a handshake may take.
    pub handshake_within: Duration,
    /// Records the calls that are served.
    pub tracer: Tracer,
    /// Counts the calls that are served.
    pub metrics: RpcMetrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            identity: None,
            close_within: Duration::from_secs(2),
            connections: 1_024,
            handshake_within: Duration::from_secs(5),
            tracer: Tracer::default(),
            metrics: RpcMetrics::default(),
        }
    }
}

/// Why the mesh is no longer served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener failed.
    #[error("the mesh listener failed")]
    Listener(#[from] tonic::transport::Error),
}

/// Serves the mesh on a listener until it is told to stop: then it takes no connection and no call any more
/// (who connects is refused), lets calls end within [`Options::close_within`], and cuts what is left.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Error> {
    // Ends every connection when this future ends, however that comes about.
    let cut = CancellationToken::new();
    let _cut = cut.clone().drop_guard();
    let tracker = TaskTracker::new();
    let incoming = incoming::accept(listener, &options, stop.child_token(), cut.clone(), &tracker);
    let supervisor = SupervisorServiceServer::new(Hosted::new("supervisor", services.supervisor));
    let worker = WorkerServiceServer::new(Hosted::new("worker", services.worker));
    let broker = ProviderBrokerServiceServer::new(Hosted::new("provider-broker", services.broker));
    let alert = AlertServiceServer::new(Hosted::new("alert", services.alert));
    let server = tonic::transport::Server::builder()
        .layer(MeteredLayer::new(options.metrics))
        .layer(TracedLayer::new(options.tracer))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_WITHIN))
        .add_service(supervisor.max_decoding_message_size(REQUEST_BYTES))
        .add_service(worker.max_decoding_message_size(REQUEST_BYTES))
        .add_service(broker.max_decoding_message_size(PROMPT_BYTES))
        .add_service(alert.max_decoding_message_size(REQUEST_BYTES))
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let over = async {
        stop.cancelled().await;
        tokio::time::sleep(options.close_within).await;
    };
    tokio::select! {
        served = server => served?,
        () = over => {}
    }
    Ok(())
}
