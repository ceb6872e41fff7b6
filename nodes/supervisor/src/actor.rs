use crate::node::Node;
use crate::reconcile;
use callboard_contracts::mesh::v1;
use callboard_contracts::mesh::v1::supervisor_service_server::SupervisorService;
use callboard_runtime::actor::{Address, Behaviour, Handle, Handling, Request, Scope};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Response, Status};

const DEADLINE: Duration = Duration::from_secs(5);

/// The Supervisor's state: which node it keeps.
pub struct Supervisor {
    node: Arc<Node>,
    life: CancellationToken,
    /// Ends this life's loops when a restart replaces it.
    _ends: DropGuard,
}

impl Supervisor {
    /// The supervisor of a node.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let life = CancellationToken::new();
        Self { node, _ends: life.clone().drop_guard(), life }
    }

    fn keep(&self, scope: &Scope, work: impl Future<Output = ()> + Send + 'static) {
        let life = self.life.clone();
        scope.spawn(async move {
            life.run_until_cancelled(work).await;
        });
    }
}

impl Behaviour for Supervisor {
    const NAME: &'static str = "supervisor";

    fn started(&mut self, scope: &Scope) {
        let node = Arc::clone(&self.node);
        self.keep(scope, async move { node.keep_session().await });
        let node = Arc::clone(&self.node);
        self.keep(scope, async move { node.watch_children().await });
        self.keep(scope, reconcile::due(Arc::clone(&self.node)));
        self.keep(scope, reconcile::orphans(Arc::clone(&self.node)));
    }
}

struct GetStatus;

impl Request for GetStatus {
    type Reply = v1::GetStatusResponse;
}

impl Handle<GetStatus> for Supervisor {
    fn handle(&mut self, _: GetStatus) -> Handling<v1::GetStatusResponse> {
        let node = &self.node;
        let restarts = node.deps.restarts.counts();
        Handling::Now(v1::GetStatusResponse {
            node: node.options.name.clone(),
            session_id: node.session().map(|id| id.to_string()).unwrap_or_default(),
            actor_restarts: restarts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            draining: node.is_closing(),
            ..v1::GetStatusResponse::default()
        })
    }
}

/// The Supervisor as a service of the mesh.
pub struct Service {
    actor: Address<Supervisor>,
}

impl Service {
    /// A service in front of an actor.
    #[must_use]
    pub fn new(actor: Address<Supervisor>) -> Self {
        Self { actor }
    }
}

#[tonic::async_trait]
impl SupervisorService for Service {
    type WatchEventsStream = callboard_runtime::mesh::EventStream;

    async fn get_status(
        &self,
        _: tonic::Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Ok(Response::new(self.actor.call(GetStatus, DEADLINE).await?))
    }

    async fn drain(
        &self,
        _: tonic::Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        Err(Status::unimplemented("this node cannot be drained over the mesh"))
    }

    async fn watch_events(
        &self,
        _: tonic::Request<tonic::Streaming<v1::WatchEventsRequest>>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Err(Status::unimplemented("this node tells no events over the mesh"))
    }
}
