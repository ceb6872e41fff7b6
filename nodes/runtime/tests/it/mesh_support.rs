//! A node of the mesh for tests: real listener, real certificates, services that write down what they do.

use callboard_contracts::mesh::v1;
use callboard_runtime::mesh::tls::{Files, Identity, NODE};
use callboard_runtime::mesh::{
    Error, EventStream, GenerateStream, Link, LinkOptions, Observer, ServeOptions, Services, Timing,
    Unobserved, WorkerClient, serve,
};
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

/// Long enough for anything that is to happen; nothing waits this long if all is well.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What a node does, and what it was asked.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) session: Mutex<String>,
    /// The contexts and trace parents of the calls that reached its services.
    pub(crate) calls: Mutex<Vec<(v1::CallContext, Option<String>)>>,
    /// Calls that were begun and not finished are counted here when they are dropped.
    pub(crate) dropped: Arc<Mutex<u32>>,
    /// `get_load` waits for this if it is set.
    pub(crate) gate: Option<Arc<Notify>>,
    /// What `generate` answers instead of a text.
    pub(crate) refusal: Mutex<Option<Status>>,
    /// Whom `cancel_tasks` passes on to.
    pub(crate) next: Option<WorkerClient>,
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            session: Mutex::default(),
            calls: Mutex::default(),
            dropped: Arc::default(),
            gate: None,
            refusal: Mutex::default(),
            next: None,
        }
    }

    fn note<T>(&self, request: &Request<T>, context: Option<v1::CallContext>) {
        let parent = request.metadata().get("traceparent").map(|v| v.to_str().unwrap().to_owned());
        self.calls.lock().unwrap().push((context.unwrap_or_default(), parent));
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

struct Dropped(Arc<Mutex<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

/// The services of a node.
pub(crate) struct Service(pub Arc<Node>);

#[tonic::async_trait]
impl v1::worker_service_server::WorkerService for Service {
    async fn cancel_tasks(
        &self,
        request: Request<v1::CancelTasksRequest>,
    ) -> Result<Response<v1::CancelTasksResponse>, Status> {
        self.0.note(&request, request.get_ref().context.clone());
        if let Some(next) = &self.0.next {
            let request = v1::CancelTasksRequest::default();
            next.cancel_tasks(request, SOON).await.map_err(Error::into_status)?;
        }
        Ok(Response::new(v1::CancelTasksResponse { signalled: 1 }))
    }

    async fn drain(&self, _: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        Err(callboard_domain::Error::new(callboard_domain::Code::Draining, "it drains").into())
    }

    async fn get_load(
        &self,
        request: Request<v1::GetLoadRequest>,
    ) -> Result<Response<v1::GetLoadResponse>, Status> {
        self.0.note(&request, request.get_ref().context.clone());
        if let Some(gate) = &self.0.gate {
            let _dropped = Dropped(Arc::clone(&self.0.dropped));
            gate.notified().await;
        }
        Ok(Response::new(v1::GetLoadResponse { slots: 7, ..v1::GetLoadResponse::default() }))
    }
}

#[tonic::async_trait]
impl v1::supervisor_service_server::SupervisorService for Service {
    type WatchEventsStream = EventStream;

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        self.0.note(&request, request.get_ref().context.clone());
        Ok(Response::new(v1::GetStatusResponse {
            node: self.0.name.clone(),
            session_id: self.0.session.lock().unwrap().clone(),
            incarnation: 5,
            ..v1::GetStatusResponse::default()
        }))
    }

    async fn drain(
        &self,
        _: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        Ok(Response::new(v1::DrainNodeResponse { already_draining: true }))
    }

    async fn set_log_filter(
        &self,
        _: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::SetLogFilterResponse>, Status> {
        Ok(Response::new(v1::SetLogFilterResponse { previous: "info".into() }))
    }

    /// Confirms each request with the number of ids it added.
    async fn watch_events(
        &self,
        request: Request<Streaming<v1::WatchEventsRequest>>,
    ) -> Result<Response<EventStream>, Status> {
        let node = Arc::clone(&self.0);
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            let added = u64::try_from(request.add_task_ids.len()).unwrap();
            if let Some(context) = request.context {
                node.calls.lock().unwrap().push((context, None));
            }
            Ok(v1::WatchEventsResponse { applied: added, ..v1::WatchEventsResponse::default() })
        });
        Ok(Response::new(answers.boxed()))
    }
}

#[tonic::async_trait]
impl v1::provider_broker_service_server::ProviderBrokerService for Service {
    type GenerateStreamStream = GenerateStream;

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        self.0.note(&request, request.get_ref().context.clone());
        if let Some(refusal) = self.0.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        let text = self.0.name.clone();
        let response = callboard_contracts::v1::GenerateResponse { text, ..Default::default() };
        Ok(Response::new(v1::GenerateResponse { response: Some(response) }))
    }

    async fn generate_stream(
        &self,
        _: Request<v1::GenerateStreamRequest>,
    ) -> Result<Response<GenerateStream>, Status> {
        let pieces = (0..3).map(|_| Ok(v1::GenerateStreamResponse::default()));
        Ok(Response::new(futures::stream::iter(pieces).boxed()))
    }

    async fn generate_image(
        &self,
        _: Request<v1::GenerateImageRequest>,
    ) -> Result<Response<v1::GenerateImageResponse>, Status> {
        let data = vec![1; 12 << 20].into();
        Ok(Response::new(v1::GenerateImageResponse { data, ..v1::GenerateImageResponse::default() }))
    }

    async fn embed(&self, _: Request<v1::EmbedRequest>) -> Result<Response<v1::EmbedResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn list_providers(
        &self,
        _: Request<v1::ListProvidersRequest>,
    ) -> Result<Response<v1::ListProvidersResponse>, Status> {
        Ok(Response::new(v1::ListProvidersResponse::default()))
    }

    async fn get_cache_statistics(
        &self,
        _: Request<v1::GetCacheStatisticsRequest>,
    ) -> Result<Response<v1::GetCacheStatisticsResponse>, Status> {
        Ok(Response::new(v1::GetCacheStatisticsResponse::default()))
    }

    async fn list_experiments(
        &self,
        _: Request<v1::ListExperimentsRequest>,
    ) -> Result<Response<v1::ListExperimentsResponse>, Status> {
        Ok(Response::new(v1::ListExperimentsResponse::default()))
    }

    async fn score_answer(
        &self,
        _: Request<v1::ScoreAnswerRequest>,
    ) -> Result<Response<v1::ScoreAnswerResponse>, Status> {
        Ok(Response::new(v1::ScoreAnswerResponse::default()))
    }

    async fn administer(
        &self,
        _: Request<v1::AdministerRequest>,
    ) -> Result<Response<v1::AdministerResponse>, Status> {
        Ok(Response::new(v1::AdministerResponse::default()))
    }

    async fn tell_records(
        &self,
        _: Request<v1::TellRecordsRequest>,
    ) -> Result<Response<v1::TellRecordsResponse>, Status> {
        Ok(Response::new(v1::TellRecordsResponse::default()))
    }
}

/// A node that is served; it stops when dropped.
pub(crate) struct Served {
    pub(crate) at: SocketAddr,
    pub(crate) node: Arc<Node>,
    stop: CancellationToken,
    over: TaskTracker,
    _stops: DropGuard,
}

impl Served {
    /// Closes the listener and cuts every connection, as a process that is killed does.
    pub(crate) async fn kill(&self) {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.over.wait()).await.unwrap();
    }

    pub(crate) fn address(&self) -> String {
        self.at.to_string()
    }
}

/// All the roles of a node.
pub(crate) fn services(node: &Arc<Node>) -> Services {
    let service = Arc::new(Service(Arc::clone(node)));
    Services {
        supervisor: Some(service.clone()),
        worker: Some(service.clone()),
        broker: Some(service),
        alert: None,
    }
}

/// Serves a node on a listener.
pub(crate) fn serve_on(listener: TcpListener, node: Node, identity: Option<Arc<Identity>>) -> Served {
    let at = listener.local_addr().unwrap();
    let node = Arc::new(node);
    let stop = CancellationToken::new();
    let options = ServeOptions { identity, close_within: Duration::ZERO, ..ServeOptions::default() };
    let over = TaskTracker::new();
    let serving = serve(listener, services(&node), options, stop.clone());
    over.spawn(async move { serving.await.unwrap() });
    over.close();
    Served { at, node, over, _stops: stop.clone().drop_guard(), stop }
}

/// Serves a node on a port of its own.
pub(crate) async fn served(node: Node, identity: Option<Arc<Identity>>) -> Served {
    serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), node, identity)
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// A link to an address.
pub(crate) fn link(address: &str, identity: Option<Arc<Identity>>) -> Link {
    link_with(address, identity, Timing::default(), Arc::new(Unobserved))
}

/// A link that is timed and observed.
pub(crate) fn link_with(
    address: &str,
    identity: Option<Arc<Identity>>,
    timing: Timing,
    observer: Arc<dyn Observer>,
) -> Link {
    Link::new(LinkOptions {
        peer: "the other node".into(),
        address: address.into(),
        identity,
        timing,
        observer,
        tracker: TaskTracker::new(),
    })
}

/// Asks a worker how loaded it is.
pub(crate) async fn load(link: &Link, deadline: Duration) -> Result<u32, Error> {
    let client = WorkerClient::remote(link.clone()).called_by("a");
    Ok(client.get_load(v1::GetLoadRequest::default(), deadline).await?.slots)
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "it does not come about: {what}");
}

/// A cluster's CA.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name, and its key, in PEM form.
    pub(crate) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// The identity of a node of this CA.
    pub(crate) fn node(&self) -> Arc<Identity> {
        let folder = tempfile::tempdir().unwrap();
        Arc::new(Identity::load(&self.files(folder.path(), NODE)).unwrap())
    }

    /// The files of a certificate for a name.
    pub(crate) fn files(&self, folder: &Path, name: &str) -> Files {
        let (cert, key) = self.issue(name, |_| ());
        files(folder, &self.pem(), &cert, &key)
    }
}

/// Lets a certificate expire long ago.
pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
}

/// Writes an identity's files.
pub(crate) fn files(folder: &Path, ca: &str, cert: &str, key: &str) -> Files {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    Files { ca: write("ca.pem", ca), cert: write("cert.pem", cert), key: write("key.pem", key) }
}
