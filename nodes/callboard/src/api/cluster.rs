//! `ClusterService`.

use super::{Api, errors, page};
use callboard_contracts::mesh;
use callboard_contracts::v1;
use callboard_contracts::v1::cluster_service_server::ClusterService;
use callboard_domain::convert::{
    alert_to_proto, duration_from_proto, duration_to_proto, kind_to_proto, time_to_proto,
};
use callboard_domain::{Code, Error, SessionId};
use callboard_ports::sessions::Session;
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status};

const ALERTS: u32 = 50;
const DEADLINE: Duration = Duration::from_secs(2);
/// How often the session of a draining node is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Api {
    /// A node as it says it is; where it does not answer, as its session says.
    async fn node(&self, session: Session) -> v1::Node {
        let opened = session.opened;
        let status = match (self.deps.supervisors)(opened.id) {
            Some(node) => node.get_status(mesh::v1::GetStatusRequest::default(), DEADLINE).await,
            None => Err(Status::unavailable("no connection to it").into()),
        };
        let (status, unreachable) = match status {
            Ok(status) => (status, String::new()),
            Err(error) => (mesh::v1::GetStatusResponse::default(), error.to_string()),
        };
        let here = opened.node == self.deps.node.name;
        let load = status.load.unwrap_or_default();
        let suspects = status.suspects.into_iter();
        v1::Node {
            name: opened.node,
            session_id: opened.id.to_string(),
            version: opened.version,
            roles: opened.roles,
            started_at: Some(time_to_proto(session.started_at)),
            draining: status.draining,
            slots: load.slots,
            slots_used: load.slots_used,
            actor_restarts: status.actor_restarts,
            memory_bytes: status.memory.unwrap_or_default().resident_bytes,
            addresses: opened.addresses.into_iter().collect(),
            data_dir: if here { self.deps.node.data_dir.display().to_string() } else { String::new() },
            suspects: suspects
                .map(|s| v1::Suspicion { node: s.node, reason: s.reason, since: s.since })
                .collect(),
            backends: status.backends,
            unreachable,
        }
    }

    /// Changes what a node logs, or asks it.
    async fn log_filter(&self, session: Session, filter: Option<String>) -> v1::NodeLogFilter {
        let request = mesh::v1::SetLogFilterRequest { context: None, filter };
        let answer = match (self.deps.supervisors)(session.opened.id) {
            Some(node) => node.set_log_filter(request, DEADLINE).await,
            None => Err(Status::unavailable("no connection to it").into()),
        };
        let (previous, error) = match answer {
            Ok(answer) => (answer.previous, String::new()),
            Err(error) => (String::new(), error.to_string()),
        };
        v1::NodeLogFilter { node: session.opened.node, previous, error }
    }

    /// The live session of the node with this name.
    async fn session_of(&self, name: &str) -> Result<SessionId, Status> {
        let sessions = self.deps.store.live_sessions().await.map_err(errors::of_store)?;
        if let Some(session) = sessions.iter().find(|session| session.opened.node == name) {
            return Ok(session.opened.id);
        }
        let names: Vec<_> = sessions.iter().map(|session| session.opened.node.as_str()).collect();
        let text = format!("there is no node `{name}`; there are: {}", names.join(", "));
        Err(Error::field(Code::InvalidArgument, "name", text).into())
    }

    async fn is_live(&self, id: SessionId) -> Result<bool, Status> {
        let sessions = self.deps.store.live_sessions().await.map_err(errors::of_store)?;
        Ok(sessions.iter().any(|session| session.opened.id == id))
    }
}

#[tonic::async_trait]
impl ClusterService for Api {
    async fn get_cluster(
        &self,
        _: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        let store = &self.deps.store;
        let [scheduled, queued, running, succeeded, failed, cancelled] =
            store.counts().await.map_err(errors::of_store)?;
        let now = self.deps.clock.now();
        let queues = store.queue_depths().await.map_err(errors::of_store)?;
        let queues = queues
            .into_iter()
            .map(|depth| {
                let [low, middle, high] = depth.bands;
                v1::QueueStatus {
                    queue: depth.queue.to_string(),
                    low,
                    middle,
                    high,
                    oldest_wait: depth.oldest.map(|(_, since)| duration_to_proto(now.since(since))),
                    oldest_task_id: depth.oldest.map(|(id, _)| id.to_string()).unwrap_or_default(),
                }
            })
            .collect();
        Ok(Response::new(v1::GetClusterResponse {
            version: self.deps.node.version.into(),
            tasks: Some(v1::TaskCounts { scheduled, queued, running, succeeded, failed, cancelled }),
            queues,
            node: self.deps.node.name.clone(),
            time: Some(time_to_proto(now)),
        }))
    }

    async fn list_nodes(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let sessions = self.deps.store.live_sessions().await.map_err(errors::of_store)?;
        let nodes = sessions.into_iter().map(|session| self.node(session));
        Ok(Response::new(v1::ListNodesResponse { nodes: futures::future::join_all(nodes).await }))
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let request = request.into_inner();
        let began = Instant::now();
        let grace = match request.grace.as_ref().map(duration_from_proto) {
            Some(None) => {
                return Err(Error::field(Code::InvalidArgument, "grace", "must be no less than zero").into());
            }
            grace => grace.flatten(),
        };
        let session = self.session_of(&request.name).await?;
        let supervisor = (self.deps.supervisors)(session).ok_or_else(|| {
            let text = format!("the node `{}` cannot be reached: ask it by its own address", request.name);
            Error::new(Code::ActorUnavailable, text)
        })?;
        let grace_ms = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        let drain = mesh::v1::DrainNodeRequest { context: None, grace_ms, reason: "it was asked to".into() };
        supervisor.drain(drain, DEADLINE).await.map_err(callboard_runtime::mesh::Error::into_status)?;
        // The call's own deadline ends this; the node goes on draining.
        while self.is_live(session).await? {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(Response::new(v1::DrainNodeResponse { took: Some(duration_to_proto(began.elapsed())) }))
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::SetLogFilterResponse>, Status> {
        let v1::SetLogFilterRequest { name, filter } = request.into_inner();
        // Before anybody is asked, so that no node has changed when it is refused.
        if let Some(filter) = &filter {
            crate::log::parse(filter).map_err(|why| Error::field(Code::InvalidArgument, "filter", why))?;
        }
        let mut sessions = self.deps.store.live_sessions().await.map_err(errors::of_store)?;
        if !name.is_empty() {
            let id = self.session_of(&name).await?;
            sessions.retain(|session| session.opened.id == id);
        }
        let nodes = sessions.into_iter().map(|session| self.log_filter(session, filter.clone()));
        let mut nodes = futures::future::join_all(nodes).await;
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(Response::new(v1::SetLogFilterResponse { nodes }))
    }

    async fn list_kinds(
        &self,
        _: Request<v1::ListKindsRequest>,
    ) -> Result<Response<v1::ListKindsResponse>, Status> {
        let kinds = self.deps.store.kinds().await.map_err(errors::of_store)?;
        Ok(Response::new(v1::ListKindsResponse { kinds: kinds.iter().map(kind_to_proto).collect() }))
    }

    async fn list_alerts(
        &self,
        request: Request<v1::ListAlertsRequest>,
    ) -> Result<Response<v1::ListAlertsResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size, ALERTS)?;
        let before = page::position::<String>(&request.active_only, &request.page_token)?;
        let alerts = self.deps.store.list_alerts(request.active_only, before, size + 1).await;
        let mut alerts = alerts.map_err(errors::of_store)?;
        let more = alerts.len() > size;
        alerts.truncate(size);
        let next = alerts.last().filter(|_| more).map(|a| page::token(&request.active_only, &a.id));
        Ok(Response::new(v1::ListAlertsResponse {
            alerts: alerts.iter().map(alert_to_proto).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }
}
