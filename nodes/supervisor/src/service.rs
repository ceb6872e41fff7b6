use crate::actor::{GetStatus, Supervisor};
use crate::events;
use callboard_contracts::mesh::v1;
use callboard_contracts::mesh::v1::supervisor_service_server::SupervisorService;
use callboard_runtime::actor::Address;
use callboard_runtime::mesh::EventStream;
use callboard_runtime::watch::Hub;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming};

const DEADLINE: Duration = Duration::from_secs(5);

/// Begins to drain the node, and says whether it was draining before.
pub type Drain = Arc<dyn Fn(v1::DrainNodeRequest) -> bool + Send + Sync>;

/// Changes what this process logs, if it is given a filter, and says what it logged before.
pub type LogFilter = Arc<dyn Fn(Option<&str>) -> Result<String, Status> + Send + Sync>;

/// The Supervisor as a service of the mesh.
pub struct Service {
    actor: Address<Supervisor>,
    drain: Option<Drain>,
    log: Option<LogFilter>,
    commits: Option<Hub>,
}

impl Service {
    /// A service in front of an actor. It cannot drain the node nor change its log, and tells no events.
    #[must_use]
    pub fn new(actor: Address<Supervisor>) -> Self {
        Self { actor, drain: None, log: None, commits: None }
    }

    /// The service, able to drain the node.
    #[must_use]
    pub fn with_drain(mut self, drain: Drain) -> Self {
        self.drain = Some(drain);
        self
    }

    /// The service, able to change what the node logs.
    #[must_use]
    pub fn with_log(mut self, log: LogFilter) -> Self {
        self.log = Some(log);
        self
    }

    /// The service, telling other nodes the events that this one commits. The hub must be told of this
    /// process's commits and of nothing else: one that also passes on what other nodes tell would echo.
    #[must_use]
    pub fn with_commits(mut self, commits: Hub) -> Self {
        self.commits = Some(commits);
        self
    }
}

#[tonic::async_trait]
impl SupervisorService for Service {
    type WatchEventsStream = EventStream;

    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Ok(Response::new(self.actor.call(GetStatus, DEADLINE).await?))
    }

    async fn drain(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let Some(drain) = &self.drain else {
            return Err(Status::unimplemented("this node cannot be drained over the mesh"));
        };
        let already_draining = drain(request.into_inner());
        Ok(Response::new(v1::DrainNodeResponse { already_draining }))
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::SetLogFilterResponse>, Status> {
        let Some(log) = &self.log else {
            return Err(Status::unimplemented("what this node logs cannot be changed over the mesh"));
        };
        let previous = log(request.into_inner().filter.as_deref())?;
        Ok(Response::new(v1::SetLogFilterResponse { previous }))
    }

    async fn watch_events(
        &self,
        request: Request<Streaming<v1::WatchEventsRequest>>,
    ) -> Result<Response<EventStream>, Status> {
        let Some(commits) = &self.commits else {
            return Err(Status::unimplemented("this node tells no events over the mesh"));
        };
        Ok(Response::new(events::serve(commits.clone(), request.into_inner())))
    }
}
