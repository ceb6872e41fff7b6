//! A role's service behind the mesh: the actor's, or the answer that the node does not host the role.

use crate::mesh::client::{
    AlertService, BrokerService, EventStream, GenerateStream, SupervisorService, WorkerService,
};
use crate::mesh::context::{Context, Contextual};
use crate::mesh::error;
use callboard_contracts::mesh::v1;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

/// A role, hosted or not.
pub(super) struct Hosted<S: ?Sized> {
    role: &'static str,
    service: Option<Arc<S>>,
}

impl<S: ?Sized> Hosted<S> {
    pub(super) fn new(role: &'static str, service: Option<Arc<S>>) -> Self {
        Self { role, service }
    }

    fn service(&self) -> Result<&S, Status> {
        self.service.as_deref().ok_or_else(|| error::not_hosted(self.role))
    }
}

/// Serves a call as part of the one that caused it.
async fn as_caused<M: Contextual, T>(
    method: &'static str,
    request: Request<M>,
    call: impl AsyncFnOnce(Request<M>) -> Result<Response<T>, Status>,
) -> Result<Response<T>, Status> {
    let mut context = Context::from_metadata(request.metadata()).with_call(request.get_ref().context());
    context.fence = request.get_ref().fence().cloned();
    let caller = request.get_ref().context().map(|c| c.caller.as_str()).unwrap_or_default();
    // Its ids are the context's, which whoever writes a line looks up.
    let span = tracing::debug_span!("mesh", method, caller);
    context.scope(call(request).instrument(span)).await
}

macro_rules! hosted {
    ($object:ty, $service:path, $({ $($types:item)* })? $($method:ident($request:ty) -> $response:ty;)*) => {
        #[tonic::async_trait]
        impl $service for Hosted<$object> {
            $($($types)*)?

            $(
                async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                    let service = self.service()?;
                    let call = async |request| service.$method(request).await;
                    as_caused(stringify!($method), request, call).await
                }
            )*
        }
    };
}

hosted! {
    WorkerService, v1::worker_service_server::WorkerService,
    cancel_tasks(v1::CancelTasksRequest) -> v1::CancelTasksResponse;
    drain(v1::DrainRequest) -> v1::DrainResponse;
    get_load(v1::GetLoadRequest) -> v1::GetLoadResponse;
}

hosted! {
    AlertService, v1::alert_service_server::AlertService,
    report(v1::ReportRequest) -> v1::ReportResponse;
}

hosted! {
    BrokerService, v1::provider_broker_service_server::ProviderBrokerService,
    { type GenerateStreamStream = GenerateStream; }
    generate(v1::GenerateRequest) -> v1::GenerateResponse;
    generate_stream(v1::GenerateStreamRequest) -> GenerateStream;
    generate_image(v1::GenerateImageRequest) -> v1::GenerateImageResponse;
    embed(v1::EmbedRequest) -> v1::EmbedResponse;
    list_providers(v1::ListProvidersRequest) -> v1::ListProvidersResponse;
    get_cache_statistics(v1::GetCacheStatisticsRequest) -> v1::GetCacheStatisticsResponse;
    administer(v1::AdministerRequest) -> v1::AdministerResponse;
    tell_records(v1::TellRecordsRequest) -> v1::TellRecordsResponse;
    list_experiments(v1::ListExperimentsRequest) -> v1::ListExperimentsResponse;
    score_answer(v1::ScoreAnswerRequest) -> v1::ScoreAnswerResponse;
}

#[tonic::async_trait]
impl v1::supervisor_service_server::SupervisorService for Hosted<SupervisorService> {
    type WatchEventsStream = EventStream;

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let service = self.service()?;
        as_caused("get_status", request, async |request| service.get_status(request).await).await
    }

    async fn drain(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let service = self.service()?;
        as_caused("drain", request, async |request| service.drain(request).await).await
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::SetLogFilterResponse>, Status> {
        let service = self.service()?;
        as_caused("set_log_filter", request, async |request| service.set_log_filter(request).await).await
    }

    /// Its caller is named by the first message, which the service reads.
    async fn watch_events(
        &self,
        request: Request<Streaming<v1::WatchEventsRequest>>,
    ) -> Result<Response<EventStream>, Status> {
        let context = Context::from_metadata(request.metadata());
        context.scope(self.service()?.watch_events(request)).await
    }
}
