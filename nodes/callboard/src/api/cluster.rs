//! `ClusterService`.

use super::{Api, errors, page};
use crate::node::memory;
use callboard_contracts::mesh;
use callboard_contracts::v1;
use callboard_contracts::v1::cluster_service_server::ClusterService;
use callboard_domain::convert::{alert_to_proto, duration_to_proto, kind_to_proto, time_to_proto};
use std::time::Duration;
use tonic::{Request, Response, Status};

const ALERTS: u32 = 50;
const DEADLINE: Duration = Duration::from_secs(2);

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
        let load = self.deps.worker.get_load(mesh::v1::GetLoadRequest::default(), DEADLINE).await;
        let load = load.unwrap_or_default();
        let status = self.deps.supervisor.get_status(mesh::v1::GetStatusRequest::default(), DEADLINE).await;
        let status = status.unwrap_or_default();
        let info = &self.deps.node;
        let nodes = sessions
            .into_iter()
            .map(|session| v1::Node {
                name: session.opened.node,
                session_id: session.opened.id.to_string(),
                version: session.opened.version,
                roles: session.opened.roles,
                started_at: Some(time_to_proto(session.started_at)),
                draining: load.draining,
                slots: load.slots,
                slots_used: load.slots_used,
                actor_restarts: status.actor_restarts.clone(),
                memory_bytes: memory::resident_bytes().unwrap_or(0),
                addresses: info.addresses.clone().into_iter().collect(),
                data_dir: info.data_dir.display().to_string(),
            })
            .collect();
        Ok(Response::new(v1::ListNodesResponse { nodes }))
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
