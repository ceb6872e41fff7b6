//! The cluster: its totals, nodes, kinds and alerts.

use crate::call::Repeat;
use crate::client::{ANSWER_BYTES, Client};
use crate::error::Error;
use callboard_contracts::v1::{self, cluster_service_client::ClusterServiceClient};
use std::time::Duration;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn service(channel: Channel) -> ClusterServiceClient<Channel> {
    ClusterServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES)
}

impl Client {
    /// The cluster's totals and the depth of its queues.
    ///
    /// # Errors
    /// That the server could not be reached in time.
    pub async fn cluster(&self) -> Result<v1::GetClusterResponse, Error> {
        let message = v1::GetClusterRequest {};
        self.call(Repeat::Safe, message, async |channel, request| service(channel).get_cluster(request).await)
            .await
    }

    /// The nodes.
    ///
    /// # Errors
    /// That the server could not be reached in time.
    pub async fn nodes(&self) -> Result<Vec<v1::Node>, Error> {
        let message = v1::ListNodesRequest {};
        let response = self
            .call(Repeat::Safe, message, async |channel, request| service(channel).list_nodes(request).await)
            .await?;
        Ok(response.nodes)
    }

    /// Whether the node that answers serves: it does not while it drains.
    ///
    /// # Errors
    /// No node could be reached in time.
    pub async fn serves(&self) -> Result<bool, Error> {
        let message = HealthCheckRequest { service: String::new() };
        let answer = self
            .call(Repeat::Safe, message, async |channel, request| {
                HealthClient::new(channel).check(request).await
            })
            .await?;
        Ok(answer.status() == ServingStatus::Serving)
    }

    /// Makes a node leave, and waits until it has: what runs there may go on for `grace` (`None`: as the node
    /// is configured), the rest is handed off again.
    ///
    /// # Errors
    /// There is no such node, it cannot be reached, or it takes longer than this client's timeout: it goes on
    /// draining then.
    pub async fn drain_node(
        &self,
        name: &str,
        grace: Option<Duration>,
    ) -> Result<v1::DrainNodeResponse, Error> {
        let grace = grace.and_then(|grace| grace.try_into().ok());
        let message = v1::DrainNodeRequest { name: name.to_owned(), grace };
        // Draining twice is draining once.
        self.call(Repeat::Safe, message, async |channel, request| service(channel).drain_node(request).await)
            .await
    }

    /// Changes what a node logs (`None`: every node), until it stops or it is changed again. Without a filter nothing
    /// is changed, and each tells what it logs.
    ///
    /// # Errors
    /// The filter is none, or there is no such node. What a node alone answers is in its line.
    pub async fn set_log_filter(
        &self,
        name: Option<&str>,
        filter: Option<&str>,
    ) -> Result<Vec<v1::NodeLogFilter>, Error> {
        let message = v1::SetLogFilterRequest {
            name: name.unwrap_or_default().to_owned(),
            filter: filter.map(str::to_owned),
        };
        // Once more, it is as it was; only what was before is not told any more.
        let answer = self
            .call(Repeat::Safe, message, async |channel, request| {
                service(channel).set_log_filter(request).await
            })
            .await?;
        Ok(answer.nodes)
    }

    /// The task kinds with their schemas, by name.
    ///
    /// # Errors
    /// That the server could not be reached in time.
    pub async fn kinds(&self) -> Result<Vec<v1::Kind>, Error> {
        let message = v1::ListKindsRequest {};
        let response = self
            .call(Repeat::Safe, message, async |channel, request| service(channel).list_kinds(request).await)
            .await?;
        Ok(response.kinds)
    }

    /// One page of alerts, newest first.
    ///
    /// # Errors
    /// The server's refusals, or that it could not be reached in time.
    pub async fn alerts(&self, request: v1::ListAlertsRequest) -> Result<v1::ListAlertsResponse, Error> {
        self.call(Repeat::Safe, request, async |channel, request| service(channel).list_alerts(request).await)
            .await
    }
}
