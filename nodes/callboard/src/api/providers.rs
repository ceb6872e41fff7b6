//! `ProviderService`: direct calls, passed on to the ProviderBroker.

use super::{Api, reads};
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::administer_request::Action;
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
fn deadline(timeout: Option<&prost_types::Duration>) -> Duration {
    let asked = timeout.and_then(duration_from_proto);
    asked.map_or(BACKSTOP, |t| t.saturating_add(Duration::from_secs(5)))
}

impl Api {
    /// Has the ProviderBroker do what an admin asks, if it is one who asks.
    pub(super) async fn administer<M>(
        &self,
        request: Request<M>,
        action: impl FnOnce(M) -> Action,
    ) -> Result<mesh::AdministerResponse, Status> {
        let author = self.admins.check(request.metadata())?;
        let action = Some(action(request.into_inner()));
        let request = mesh::AdministerRequest { context: None, author, action };
        let done = self.deps.broker.administer(request, BACKSTOP).await;
        done.map_err(callboard_runtime::mesh::Error::into_status)
    }
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
        let mesh::ListProvidersResponse { providers, budgets, policy, routes, .. } =
            answer.map_err(callboard_runtime::mesh::Error::into_status)?;
        Ok(Response::new(v1::ListProvidersResponse { providers, budgets, policy, routes }))
    }

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let request = request.into_inner();
        let deadline = deadline(request.timeout.as_ref());
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
        let deadline = deadline(request.timeout.as_ref());
        let request = mesh::GenerateStreamRequest { context: None, fence: None, request: Some(request) };
        let pieces = self.deps.broker.generate_stream(request, deadline).await;
        let pieces = pieces.map_err(callboard_runtime::mesh::Error::into_status)?;
        let stream = pieces.map(|piece| piece.map(|piece| piece.response.unwrap_or_default()));
        Ok(Response::new(stream.boxed()))
    }

    async fn embed(&self, request: Request<v1::EmbedRequest>) -> Result<Response<v1::EmbedResponse>, Status> {
        let v1::EmbedRequest { inputs, model, dimensions, provider, timeout, idempotency_key } =
            request.into_inner();
        let deadline = deadline(timeout.as_ref());
        let (context, fence) = (None, None);
        let call = mesh::EmbedRequest {
            context,
            fence,
            inputs,
            model,
            dimensions,
            provider,
            timeout,
            idempotency_key,
        };
        let answer = self.deps.broker.embed(call, deadline).await;
        let mesh::EmbedResponse { embeddings, summary } =
            answer.map_err(callboard_runtime::mesh::Error::into_status)?;
        let embeddings = embeddings.into_iter().map(|e| v1::Embedding { values: e.values }).collect();
        Ok(Response::new(v1::EmbedResponse { embeddings, summary }))
    }

    async fn generate_image(
        &self,
        request: Request<v1::GenerateImageRequest>,
    ) -> Result<Response<v1::GenerateImageResponse>, Status> {
        let v1::GenerateImageRequest { prompt, width, height, provider, idempotency_key } =
            request.into_inner();
        let (context, fence) = (None, None);
        let call =
            mesh::GenerateImageRequest { context, fence, prompt, width, height, provider, idempotency_key };
        let answer = self.deps.broker.generate_image(call, BACKSTOP).await;
        let mesh::GenerateImageResponse { data, media_type, summary } =
            answer.map_err(callboard_runtime::mesh::Error::into_status)?;
        Ok(Response::new(v1::GenerateImageResponse { data, media_type, summary }))
    }

    async fn switch_provider(
        &self,
        request: Request<v1::SwitchProviderRequest>,
    ) -> Result<Response<v1::SwitchProviderResponse>, Status> {
        let done = self.administer(request, Action::Switch).await?;
        Ok(Response::new(v1::SwitchProviderResponse { provider: done.provider }))
    }

    async fn set_primary_provider(
        &self,
        request: Request<v1::SetPrimaryProviderRequest>,
    ) -> Result<Response<v1::SetPrimaryProviderResponse>, Status> {
        let done = self.administer(request, Action::SetPrimary).await?;
        Ok(Response::new(v1::SetPrimaryProviderResponse { provider: done.provider }))
    }

    async fn set_provider_weight(
        &self,
        request: Request<v1::SetProviderWeightRequest>,
    ) -> Result<Response<v1::SetProviderWeightResponse>, Status> {
        let done = self.administer(request, Action::SetWeight).await?;
        Ok(Response::new(v1::SetProviderWeightResponse { provider: done.provider, used: done.weight_used }))
    }

    async fn reset_provider(
        &self,
        request: Request<v1::ResetProviderRequest>,
    ) -> Result<Response<v1::ResetProviderResponse>, Status> {
        let done = self.administer(request, Action::Reset).await?;
        Ok(Response::new(v1::ResetProviderResponse { provider: done.provider }))
    }

    async fn test_provider(
        &self,
        request: Request<v1::TestProviderRequest>,
    ) -> Result<Response<v1::TestProviderResponse>, Status> {
        let done = self.administer(request, Action::Test).await?;
        Ok(Response::new(v1::TestProviderResponse { attempt: done.attempt }))
    }

    async fn close_breakers(
        &self,
        request: Request<v1::CloseBreakersRequest>,
    ) -> Result<Response<v1::CloseBreakersResponse>, Status> {
        let done = self.administer(request, Action::CloseBreakers).await?;
        Ok(Response::new(v1::CloseBreakersResponse { provider: done.provider }))
    }

    async fn clear_cache(
        &self,
        request: Request<v1::ClearCacheRequest>,
    ) -> Result<Response<v1::ClearCacheResponse>, Status> {
        let done = self.administer(request, Action::ClearCache).await?;
        Ok(Response::new(v1::ClearCacheResponse { unsaved: done.unsaved }))
    }

    async fn get_cache_statistics(
        &self,
        _: Request<v1::GetCacheStatisticsRequest>,
    ) -> Result<Response<v1::GetCacheStatisticsResponse>, Status> {
        let nodes = self.cache_statistics().await;
        Ok(Response::new(v1::GetCacheStatisticsResponse { nodes }))
    }

    async fn reset_quota(
        &self,
        request: Request<v1::ResetQuotaRequest>,
    ) -> Result<Response<v1::ResetQuotaResponse>, Status> {
        self.administer(request, Action::ResetQuota).await?;
        Ok(Response::new(v1::ResetQuotaResponse {}))
    }

    async fn reload_providers(
        &self,
        request: Request<v1::ReloadProvidersRequest>,
    ) -> Result<Response<v1::ReloadProvidersResponse>, Status> {
        let author = self.admins.check(request.metadata())?;
        let nodes = self.reload_nodes(&request.into_inner().node, &author).await?;
        Ok(Response::new(v1::ReloadProvidersResponse { nodes }))
    }

    async fn get_provider_load(
        &self,
        request: Request<v1::GetProviderLoadRequest>,
    ) -> Result<Response<v1::GetProviderLoadResponse>, Status> {
        let nodes = self.load_of(&request.into_inner().name).await?;
        Ok(Response::new(v1::GetProviderLoadResponse { nodes }))
    }
}
