//! The cluster: its totals, nodes, kinds and alerts.

use crate::call::Repeat;
use crate::client::{ANSWER_BYTES, Client};
use crate::error::Error;
use callboard_contracts::v1::{self, cluster_service_client::ClusterServiceClient};
use tonic::transport::Channel;

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
