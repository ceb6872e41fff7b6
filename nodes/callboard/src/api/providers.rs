//! `ProviderService`: direct calls, passed on to the ProviderBroker.

use super::{Api, reads};
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::v1;
use callboard_contracts::v1::provider_service_server::ProviderService;
use callboard_domain::convert::duration_from_proto;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// The broker ends every call by its own timeouts; this is a backstop.
pub(super) const BACKSTOP: Duration = Duration::from_secs(600);

/// A call's own timeout, and a little for the broker to say that it has passed.
fn deadline(request: &v1::GenerateRequest) -> Duration {
    let asked = request.timeout.as_ref().and_then(duration_from_proto);
    asked.map_or(BACKSTOP, |t| t.saturating_add(Duration::from_secs(5)))
}

#[tonic::async_trait]
impl ProviderService for Api {
    type GenerateStreamStream = BoxStream<'static, Result<v1::GenerateStreamResponse, Status>>;

    async fn list_providers(
        &self,
        _: Request<v1::ListProvidersRequest>,
    ) -> Result<Response<v1::ListProvidersResponse>, Status> {
        let request = mesh::ListProvidersRequest { context: None };
        let answer = self.deps.broker.list_providers(request, Duration::from_secs(5)).await;
        let mesh::ListProvidersResponse { providers, budgets, policy, routes, experiments } =
            answer.map_err(callboard_runtime::mesh::Error::into_status)?;
        Ok(Response::new(v1::ListProvidersResponse { providers, budgets, policy, routes, experiments }))
    }

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let request = request.into_inner();
        let deadline = deadline(&request);
        let request = mesh::GenerateRequest { context: None, fence: None, request: Some(request) };
        let answer = self.deps.broker.generate(request, deadline).await;
        let response = answer.map_err(callboard_runtime::mesh::Error::into_status)?.response;
        Ok(Response::new(response.ok_or_else(|| reads::missing("response"))?))
    }

    async fn generate_stream(
        &self,
        request: Request<v1::GenerateStreamRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        let request = request.into_inner().request.ok_or_else(|| reads::missing("request"))?;
        let deadline = deadline(&request);
        let request = mesh::GenerateStreamRequest { context: None, fence: None, request: Some(request) };
        let pieces = self.deps.broker.generate_stream(request, deadline).await;
        let pieces = pieces.map_err(callboard_runtime::mesh::Error::into_status)?;
        let stream = pieces.map(|piece| piece.map(|piece| piece.response.unwrap_or_default()));
        Ok(Response::new(stream.boxed()))
    }
}
