//! The actor: a mailbox in front of the [`Service`]. Calls run on the runtime's pool, not in the
//! actor, and end when their caller gives up: nobody pays for what nobody waits for.

use crate::service::Service;
use callboard_contracts::mesh::v1;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerService;
use callboard_runtime::actor::{Address, Behaviour, Handle, Handling, Request};
use futures::FutureExt;
use futures::stream::BoxStream;
use std::time::Duration;
use tonic::{Response, Status};

/// Every call ends by its own timeouts; this is a backstop.
const BACKSTOP: Duration = Duration::from_secs(24 * 3600);

/// The ProviderBroker's state: the service it guards.
pub struct ProviderBroker {
    service: Service,
}

impl ProviderBroker {
    /// An actor in front of a service.
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self { service }
    }
}

impl Behaviour for ProviderBroker {
    const NAME: &'static str = "provider-broker";
}

/// A call, by the type of its message.
struct Call<M>(tonic::Request<M>);

type Stream = BoxStream<'static, Result<v1::GenerateStreamResponse, Status>>;

macro_rules! calls {
    ($($method:ident($request:ty) -> $reply:ty;)*) => {
        $(
            impl Request for Call<$request> {
                type Reply = Result<Response<$reply>, Status>;
            }

            impl Handle<Call<$request>> for ProviderBroker {
                fn handle(&mut self, Call(request): Call<$request>) -> Handling<Result<Response<$reply>, Status>> {
                    let service = self.service.clone();
                    Handling::WhileAwaited(async move { service.$method(request).await }.boxed())
                }
            }
        )*

        #[tonic::async_trait]
        impl ProviderBrokerService for ActorService {
            type GenerateStreamStream = Stream;

            $(
                async fn $method(&self, request: tonic::Request<$request>) -> Result<Response<$reply>, Status> {
                    self.actor.call(Call(request), BACKSTOP).await?
                }
            )*
        }
    };
}

/// The actor as a service of the mesh.
pub struct ActorService {
    actor: Address<ProviderBroker>,
}

impl ActorService {
    /// A service in front of an actor.
    #[must_use]
    pub fn new(actor: Address<ProviderBroker>) -> Self {
        Self { actor }
    }
}

calls! {
    generate(v1::GenerateRequest) -> v1::GenerateResponse;
    generate_stream(v1::GenerateStreamRequest) -> Stream;
    generate_image(v1::GenerateImageRequest) -> v1::GenerateImageResponse;
    embed(v1::EmbedRequest) -> v1::EmbedResponse;
    list_providers(v1::ListProvidersRequest) -> v1::ListProvidersResponse;
    get_cache_statistics(v1::GetCacheStatisticsRequest) -> v1::GetCacheStatisticsResponse;
    administer(v1::AdministerRequest) -> v1::AdministerResponse;
    tell_records(v1::TellRecordsRequest) -> v1::TellRecordsResponse;
    list_experiments(v1::ListExperimentsRequest) -> v1::ListExperimentsResponse;
    score_answer(v1::ScoreAnswerRequest) -> v1::ScoreAnswerResponse;
}
