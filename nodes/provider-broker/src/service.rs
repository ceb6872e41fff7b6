use crate::accounts::{BudgetStatus, QuotaStatus};
use crate::admin::Said;
use crate::breaker::{BreakerState, BreakerStatus};
use crate::broker::Broker;
use crate::experiment::{experiment_to_proto, scored_from_proto};
use crate::health::{KeyStatus, ProviderStatus};
use crate::route::{Piece, RouteStatus, SwitchState, Switched, TargetStatus, WeightStatus};
use crate::shared::{from_wire, heard_waits};
use crate::stages::{CacheCounts, Cleared};
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerService;
use callboard_contracts::v1;
use callboard_domain::llm::{ErrorKind, TextRequest};
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

impl Service {
    /// The broker.
    #[must_use]
    pub const fn broker(&self) -> &Arc<Broker> {
        &self.0
    }
}

fn text_request(request: Option<v1::GenerateRequest>) -> Result<TextRequest, Status> {
    let request =
        request.ok_or_else(|| error::Error::field(Code::InvalidArgument, "request", "must be set"))?;
    Ok(convert::text_request_from_proto(request)?)
}

const fn state_to_proto(state: BreakerState) -> v1::BreakerState {
    match state {
        BreakerState::Closed => v1::BreakerState::Closed,
        BreakerState::HalfOpen => v1::BreakerState::HalfOpen,
        BreakerState::Open => v1::BreakerState::Open,
    }
}

fn cause_to_proto(cause: Option<ErrorKind>) -> String {
    cause.map(|kind| kind.reason().to_owned()).unwrap_or_default()
}

fn breaker_to_proto(status: BreakerStatus) -> v1::ProviderBreaker {
    v1::ProviderBreaker {
        model: status.model,
        key: status.key,
        state: state_to_proto(status.state).into(),
        cause: cause_to_proto(status.cause),
        since: status.since.map(convert::time_to_proto),
        until: status.until.map(convert::time_to_proto),
        trips: status.trips,
    }
}

fn key_to_proto(status: KeyStatus) -> v1::ProviderKey {
    let spent = status.spent.into_iter();
    v1::ProviderKey {
        id: status.id,
        weight: status.weight,
        in_flight: status.in_flight,
        max_in_flight: status.max_in_flight.unwrap_or_default(),
        state: state_to_proto(status.state).into(),
        cause: cause_to_proto(status.cause),
        spent: spent.map(|(model, until)| (model, convert::time_to_proto(until))).collect(),
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
        embedding_model: status.description.embedding_model,
        has_key: status.description.has_key,
        successes: status.successes,
        failures: status.failures,
        last_error: kind.map(|k| k.reason().to_owned()).unwrap_or_default(),
        last_error_at: at.map(convert::time_to_proto),
        breakers: status.breakers.into_iter().map(breaker_to_proto).collect(),
        keys: status.keys.into_iter().map(key_to_proto).collect(),
        switch: status.switch.map(switch_to_proto),
        primary: status.primary.map(switch_to_proto),
        weights: status.weights.into_iter().map(weight_to_proto).collect(),
        place: u32::try_from(status.place).unwrap_or(u32::MAX),
        in_flight: status.in_flight,
        quotas: status.quotas.into_iter().map(quota_to_proto).collect(),
        spent_today_picodollars: status.spent_today.map(Money::picodollars),
    }
}

fn route_to_proto(status: RouteStatus) -> v1::ProviderRoute {
    let target =
        |TargetStatus { provider, model, weight }| v1::ProviderRouteTarget { provider, model, weight };
    v1::ProviderRoute {
        name: status.name,
        policy: status.policy.as_str().into(),
        targets: status.targets.into_iter().map(target).collect(),
    }
}

fn switch_to_proto(switched: Switched) -> v1::ProviderSwitch {
    let state = match switched.state {
        SwitchState::Enabled => v1::ProviderSwitchState::Enabled,
        SwitchState::Disabled => v1::ProviderSwitchState::Disabled,
        SwitchState::Draining => v1::ProviderSwitchState::Draining,
    };
    v1::ProviderSwitch {
        state: state.into(),
        reason: switched.reason,
        author: switched.author,
        at: Some(convert::time_to_proto(switched.at)),
    }
}

fn weight_to_proto(status: WeightStatus) -> v1::ProviderWeight {
    let WeightStatus { key, weight, configured, by } = status;
    let Switched { reason, author, at, .. } = by;
    let at = Some(convert::time_to_proto(at));
    v1::ProviderWeight { key, weight, configured, reason, author, at }
}

fn cache_to_proto(counts: CacheCounts) -> v1::CacheStatistics {
    let others = counts.of.is_none();
    let (namespace, kind) = counts.of.unwrap_or_default();
    v1::CacheStatistics {
        namespace,
        kind,
        others,
        hits_memory: counts.hits,
        hits_shared: counts.hits_shared,
        misses: counts.misses,
        joined: counts.shared,
        replayed: counts.replayed,
        similar: counts.made_do,
        entries: counts.entries,
        bytes: counts.bytes,
    }
}

fn state_from_proto(state: v1::ProviderSwitchState) -> Result<SwitchState, error::Error> {
    match state {
        v1::ProviderSwitchState::Enabled => Ok(SwitchState::Enabled),
        v1::ProviderSwitchState::Disabled => Ok(SwitchState::Disabled),
        v1::ProviderSwitchState::Draining => Ok(SwitchState::Draining),
        v1::ProviderSwitchState::Unspecified => {
            Err(error::Error::field(Code::InvalidArgument, "state", "must be enabled, disabled or draining"))
        }
    }
}

/// A name that may be left out.
fn named(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn piece_to_proto(piece: Piece) -> mesh::GenerateStreamResponse {
    let nothing = v1::GenerateStreamResponse::default();
    let response = match piece {
        Piece::Begin(summary) => {
            v1::GenerateStreamResponse { beginning: Some(convert::summary_to_proto(&summary)), ..nothing }
        }
        Piece::Delta(delta) => v1::GenerateStreamResponse { delta, ..nothing },
        Piece::ToolCall(piece) => {
            let tool_call = Some(convert::tool_call_delta_to_proto(piece));
            v1::GenerateStreamResponse { tool_call, ..nothing }
        }
        Piece::End(summary) => {
            v1::GenerateStreamResponse { summary: Some(convert::summary_to_proto(&summary)), ..nothing }
        }
    };
    mesh::GenerateStreamResponse { response: Some(response) }
}

/// The pieces of a streamed answer, as they go over the wire.
type Pieces = BoxStream<'static, Result<mesh::GenerateStreamResponse, Status>>;

/// The calls themselves, for whoever is in the same process: no mailbox is between, and no boxed future.
impl Service {
    /// Generates a text.
    ///
    /// # Errors
    /// The request is wrong, or no provider answered.
    pub async fn text(&self, request: mesh::GenerateRequest) -> Result<mesh::GenerateResponse, Status> {
        let request = text_request(request.request)?;
        let answer = self.0.text(&request).await.map_err(|e| convert::error_to_status(&e))?;
        let summary = Some(convert::summary_to_proto(&answer.summary));
        let tool_calls = answer.tool_calls.into_iter().map(convert::tool_call_to_proto).collect();
        let response = v1::GenerateResponse { text: answer.text, summary, tool_calls };
        Ok(mesh::GenerateResponse { response: Some(response) })
    }

    /// Generates a text as a stream.
    ///
    /// # Errors
    /// The request is wrong, or no provider began to answer.
    pub async fn text_stream(&self, request: mesh::GenerateStreamRequest) -> Result<Pieces, Status> {
        let request = text_request(request.request)?;
        let pieces = self.0.text_stream(&request).await.map_err(|e| convert::error_to_status(&e))?;
        let stream = pieces.map(|piece| piece.map(piece_to_proto).map_err(|e| convert::error_to_status(&e)));
        Ok(stream.boxed())
    }

    /// Generates an image.
    ///
    /// # Errors
    /// The request is wrong, or no provider made it.
    pub async fn image(
        &self,
        request: mesh::GenerateImageRequest,
    ) -> Result<mesh::GenerateImageResponse, Status> {
        let request = convert::image_request_from_proto(request)?;
        let image = self.0.image(&request).await.map_err(|e| convert::error_to_status(&e))?;
        let summary = Some(convert::summary_to_proto(&image.summary));
        Ok(mesh::GenerateImageResponse { data: image.data, media_type: image.media_type, summary })
    }

    /// Turns texts into vectors.
    ///
    /// # Errors
    /// The request is wrong, or no provider made them.
    pub async fn embeddings(&self, request: mesh::EmbedRequest) -> Result<mesh::EmbedResponse, Status> {
        let request = convert::embedding_request_from_proto(request)?;
        let answer = self.0.embed(&request).await.map_err(|e| convert::error_to_status(&e))?;
        Ok(convert::embeddings_to_proto(answer))
    }

    /// The providers, in the order they are tried.
    #[must_use]
    pub fn list(&self) -> mesh::ListProvidersResponse {
        let providers = self.0.providers().into_iter().map(provider_to_proto).collect();
        let budgets = self.0.budgets().into_iter().map(budget_to_proto).collect();
        let experiments = self.0.experiments().into_iter().map(experiment_to_proto).collect();
        let (policy, routes) = self.0.routes();
        let routes = routes.into_iter().map(route_to_proto).collect();
        mesh::ListProvidersResponse {
            providers,
            budgets,
            policy: policy.as_str().into(),
            routes,
            experiments,
        }
    }
}

#[tonic::async_trait]
impl ProviderBrokerService for Service {
    type GenerateStreamStream = Pieces;

    async fn generate(
        &self,
        request: Request<mesh::GenerateRequest>,
    ) -> Result<Response<mesh::GenerateResponse>, Status> {
        self.text(request.into_inner()).await.map(Response::new)
    }

    async fn generate_stream(
        &self,
        request: Request<mesh::GenerateStreamRequest>,
    ) -> Result<Response<Self::GenerateStreamStream>, Status> {
        self.text_stream(request.into_inner()).await.map(Response::new)
    }

    async fn generate_image(
        &self,
        request: Request<mesh::GenerateImageRequest>,
    ) -> Result<Response<mesh::GenerateImageResponse>, Status> {
        self.image(request.into_inner()).await.map(Response::new)
    }

    async fn embed(
        &self,
        request: Request<mesh::EmbedRequest>,
    ) -> Result<Response<mesh::EmbedResponse>, Status> {
        self.embeddings(request.into_inner()).await.map(Response::new)
    }

    async fn list_providers(
        &self,
        _request: Request<mesh::ListProvidersRequest>,
    ) -> Result<Response<mesh::ListProvidersResponse>, Status> {
        Ok(Response::new(self.list()))
    }

    async fn get_cache_statistics(
        &self,
        _request: Request<mesh::GetCacheStatisticsRequest>,
    ) -> Result<Response<mesh::GetCacheStatisticsResponse>, Status> {
        let broker = Arc::clone(&self.0);
        // It looks at every answer that is kept.
        let counts = tokio::task::spawn_blocking(move || broker.cache_counts()).await;
        let counts = counts.map_err(|e| {
            error::Error::new(Code::Internal, format!("what the caches did was not summed up: {e}"))
        })?;
        let rows = counts.into_iter().map(cache_to_proto).collect();
        Ok(Response::new(mesh::GetCacheStatisticsResponse { rows }))
    }

    async fn administer(
        &self,
        request: Request<mesh::AdministerRequest>,
    ) -> Result<Response<mesh::AdministerResponse>, Status> {
        use mesh::administer_request::Action;
        let mesh::AdministerRequest { author, action, .. } = request.into_inner();
        let action =
            action.ok_or_else(|| error::Error::field(Code::InvalidArgument, "action", "must be set"))?;
        let (broker, author) = (&self.0, author.as_str());
        let mut answer = mesh::AdministerResponse::default();
        let provider = match action {
            Action::Switch(asked) => {
                let state = state_from_proto(asked.state())?;
                Some(broker.switch(&asked.name, state, Said { author, reason: &asked.reason }).await?)
            }
            Action::SetPrimary(asked) => {
                Some(broker.set_primary(&asked.name, Said { author, reason: &asked.reason }).await?)
            }
            Action::SetWeight(asked) => {
                let said = Said { author, reason: &asked.reason };
                let (status, used) = broker.set_weight(&asked.name, &asked.key, asked.weight, said).await?;
                answer.weight_used = used;
                Some(status)
            }
            Action::Reset(asked) => Some(broker.reset(&asked.name, Said { author, reason: "" }).await?),
            Action::CloseBreakers(asked) => Some(broker.close_breakers(&asked.name)?),
            Action::Test(asked) => {
                let attempt = broker.test(&asked.name, named(asked.model)).await?;
                answer.attempt = Some(convert::attempt_to_proto(&attempt));
                None
            }
            Action::ResetQuota(asked) => {
                broker.forget_quota(&asked.name)?;
                None
            }
            Action::Reload(_) => {
                let done = broker.reload().await?;
                answer.providers = done.providers;
                answer.changed = done.changed;
                answer.after_restart = done.after_restart.into_iter().map(str::to_owned).collect();
                None
            }
            Action::SetExperimentShare(asked) => {
                let said = Said { author, reason: &asked.reason };
                let arm = named(asked.arm);
                answer.experiment = Some(experiment_to_proto(
                    broker.set_share(&asked.name, arm.as_deref(), asked.share, said).await?,
                ));
                None
            }
            Action::RollBackExperiment(asked) => {
                let said = Said { author, reason: &asked.reason };
                answer.experiment = Some(experiment_to_proto(broker.roll_back(&asked.name, said).await?));
                None
            }
            Action::ResetExperiment(asked) => {
                let said = Said { author, reason: "" };
                answer.experiment = Some(experiment_to_proto(broker.reset_shares(&asked.name, said).await?));
                None
            }
            Action::ClearCache(asked) => {
                let cleared = Cleared { namespace: named(asked.namespace), kind: named(asked.kind) };
                answer.unsaved = !broker.clear_caches(&cleared, Said { author, reason: "" }).await?;
                None
            }
        };
        answer.provider = provider.map(provider_to_proto);
        Ok(Response::new(answer))
    }

    async fn tell_records(
        &self,
        request: Request<mesh::TellRecordsRequest>,
    ) -> Result<Response<mesh::TellRecordsResponse>, Status> {
        let mesh::TellRecordsRequest { records, waits, .. } = request.into_inner();
        self.0.hear(records.into_iter().filter_map(from_wire).collect());
        heard_waits(waits).for_each(|wait| self.0.hear_wait(&wait));
        Ok(Response::new(mesh::TellRecordsResponse {}))
    }

    async fn list_experiments(
        &self,
        _request: Request<mesh::ListExperimentsRequest>,
    ) -> Result<Response<mesh::ListExperimentsResponse>, Status> {
        let (list, whole) = self.0.experiments_of_all().await;
        let experiments = list.into_iter().map(experiment_to_proto).collect();
        let response = Some(v1::ListExperimentsResponse { experiments, partial: !whole });
        Ok(Response::new(mesh::ListExperimentsResponse { response }))
    }

    async fn score_answer(
        &self,
        request: Request<mesh::ScoreAnswerRequest>,
    ) -> Result<Response<mesh::ScoreAnswerResponse>, Status> {
        let asked = request.into_inner().request.unwrap_or_default();
        let scored = scored_from_proto(asked.answer.as_ref())?;
        let arm = self.0.score(&asked.experiment, scored, asked.score)?;
        let response = Some(v1::ScoreAnswerResponse { arm });
        Ok(Response::new(mesh::ScoreAnswerResponse { response }))
    }
}
