use crate::accounts::{BudgetStatus, QuotaStatus};
use crate::breaker::{BreakerState, BreakerStatus};
use crate::broker::Broker;
use crate::health::ProviderStatus;
use crate::route::Piece;
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerService;
use callboard_contracts::v1;
use callboard_domain::llm::TextRequest;
use callboard_domain::{Code, Money, convert, error};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The broker as a service of the mesh.
#[derive(Clone, Debug)]
pub struct Service(Arc<Broker>);

impl Service {
    /// The service of a broker.
    #[must_use]
    pub fn new(broker: Arc<Broker>) -> Self {
        Self(broker)
    }
}

fn text_request(request: Option<v1::GenerateRequest>) -> Result<TextRequest, Status> {
    let request =
        request.ok_or_else(|| error::Error::field(Code::InvalidArgument, "request", "must be set"))?;
    Ok(convert::text_request_from_proto(request)?)
}

fn breaker_to_proto(status: BreakerStatus) -> v1::ProviderBreaker {
    let state = match status.state {
        BreakerState::Closed => v1::BreakerState::Closed,
        BreakerState::HalfOpen => v1::BreakerState::HalfOpen,
        BreakerState::Open => v1::BreakerState::Open,
    };
    v1::ProviderBreaker {
        model: status.model,
        state: state.into(),
        cause: status.cause.map(|kind| kind.reason().to_owned()).unwrap_or_default(),
        since: status.since.map(convert::time_to_proto),
        until: status.until.map(convert::time_to_proto),
        trips: status.trips,
    }
}

fn quota_to_proto(status: QuotaStatus) -> v1::ProviderQuota {
    v1::ProviderQuota {
        name: status.name(),
        used: status.used,
        limit: status.limit,
        resets_at: Some(convert::time_to_proto(status.resets)),
        spent_at: status.spent_at.map(convert::time_to_proto),
    }
}

fn budget_to_proto(status: BudgetStatus) -> v1::Budget {
    v1::Budget {
        namespace: status.namespace,
        spent_picodollars: status.spent.picodollars(),
        limit_picodollars: status.limit.picodollars(),
        resets_at: Some(convert::time_to_proto(status.resets)),
        spent_at: status.spent_at.map(convert::time_to_proto),
    }
}

fn provider_to_proto(status: ProviderStatus) -> v1::Provider {
    let (kind, at) = status.last_error.unzip();
    v1::Provider {
        name: status.name,
        adapter: status.description.adapter.as_str().into(),
        base_url: status.description.base_url,
        text_model: status.description.text_model,
        image_model: status.description.image_model,
        has_key: status.description.has_key,
        successes: status.successes,
        failures: status.failures,
        last_error: kind.map(|k| k.reason().to_owned()).unwrap_or_default(),
        last_error_at: at.map(convert::time_to_proto),
        breakers: status.breakers.into_iter().map(breaker_to_proto).collect(),
        quotas: status.quotas.into_iter().map(quota_to_proto).collect(),
        spent_today_picodollars: status.spent_today.map(Money::picodollars),
    }
}

fn piece_to_proto(piece: Piece) -> mesh::GenerateStreamResponse {
    let nothing = v1::GenerateStreamResponse::default();
    let response = match piece {
        Piece::Begin(summary) => {
            v1::GenerateStreamResponse { beginning: Some(convert::summary_to_proto(&summary)), ..nothing }
        }
        Piece::Delta(delta) => v1::GenerateStreamResponse { delta, ..nothing },
        Piece::End(summary) => {
            v1::GenerateStreamResponse { summary: Some(convert::summary_to_proto(&summary)), ..nothing }
        }
    };
    mesh::GenerateStreamResponse { response: Some(response) }
}

#[tonic::async_trait]
impl ProviderBrokerService for Service {
    type GenerateStreamStream = BoxStream<'static, Result<mesh::GenerateStreamResponse, Status>>;

    async fn generate(
        &self,
        request: Request<mesh::GenerateRequest>,
    ) -> Result<Response<mesh::GenerateResponse>, Status> {
        let request = text_request(request.into_inner().request)?;
        let answer = self.0.text(&request).await.map_err(|e| convert::error_to_status(&e))?;
        let summary = Some(convert::summary_to_proto(&answer.summary));
        let response = v1::GenerateResponse { text: answer.text, summary };
        Ok(Response::new(mesh::GenerateResponse { response: Some(response) }))
    }

    async fn generate_stream(
        &self,
        request: Request<mesh::GenerateStreamRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        let request = text_request(request.into_inner().request)?;
        let pieces = self.0.text_stream(&request).await.map_err(|e| convert::error_to_status(&e))?;
        let stream = pieces.map(|piece| piece.map(piece_to_proto).map_err(|e| convert::error_to_status(&e)));
        Ok(Response::new(stream.boxed()))
    }

    async fn generate_image(
        &self,
        request: Request<mesh::GenerateImageRequest>,
    ) -> Result<Response<mesh::GenerateImageResponse>, Status> {
        let request = convert::image_request_from_proto(request.into_inner())?;
        let image = self.0.image(&request).await.map_err(|e| convert::error_to_status(&e))?;
        let summary = Some(convert::summary_to_proto(&image.summary));
        Ok(Response::new(mesh::GenerateImageResponse {
            data: image.data,
            media_type: image.media_type,
            summary,
        }))
    }

    async fn list_providers(
        &self,
        _request: Request<mesh::ListProvidersRequest>,
    ) -> Result<Response<mesh::ListProvidersResponse>, Status> {
        let providers = self.0.providers().into_iter().map(provider_to_proto).collect();
        let budgets = self.0.budgets().into_iter().map(budget_to_proto).collect();
        Ok(Response::new(mesh::ListProvidersResponse { providers, budgets }))
    }
}
