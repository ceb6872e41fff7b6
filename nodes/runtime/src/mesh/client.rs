//! One client type per actor: in this process, on another node, or on whichever node can answer.

use super::context::{Caller, Contextual};
use super::error::{self, Error};
use super::link::{Flight, Link};
use callboard_contracts::mesh::v1;
use futures::stream::{BoxStream, Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

/// The largest answer taken, in bytes: an image as a provider may send it.
const ANSWER_BYTES: usize = 32 << 20;

/// The stream type of [`BrokerService`].
pub type GenerateStream = BoxStream<'static, Result<v1::GenerateStreamResponse, Status>>;

/// The ProviderBroker's service as an object.
pub type BrokerService =
    dyn v1::provider_broker_service_server::ProviderBrokerService<GenerateStreamStream = GenerateStream>;

/// The stream type of [`SupervisorService`].
pub type EventStream = BoxStream<'static, Result<v1::WatchEventsResponse, Status>>;

/// The Supervisor's service as an object.
pub type SupervisorService =
    dyn v1::supervisor_service_server::SupervisorService<WatchEventsStream = EventStream>;

/// The Worker's service as an object.
pub type WorkerService = dyn v1::worker_service_server::WorkerService;

/// The Alert actor's service as an object.
pub type AlertService = dyn v1::alert_service_server::AlertService;

/// Finds nodes for calls that any node with a role can answer.
pub trait Route<C>: Send + Sync {
    /// The role.
    fn role(&self) -> &str;

    /// Clients of the nodes that host it, the best first. A call that did not run goes on to the next.
    fn candidates(&self) -> Vec<C>;
}

enum Side<S: ?Sized, R, C> {
    Local(Arc<S>),
    Remote(R),
    Routed(Arc<dyn Route<C>>),
}

impl<S: ?Sized, R: Clone, C> Clone for Side<S, R, C> {
    fn clone(&self) -> Self {
        match self {
            Self::Local(service) => Self::Local(Arc::clone(service)),
            Self::Remote(client) => Self::Remote(client.clone()),
            Self::Routed(route) => Self::Routed(Arc::clone(route)),
        }
    }
}

/// A signed request with its deadline, and the means to learn later whether it was sent.
fn prepare<M: Contextual>(message: M, caller: &Caller, deadline: Duration) -> (Request<M>, Flight) {
    let mut request = Request::new(message);
    caller.sign(&mut request);
    let flight = set_out(&mut request, deadline);
    (request, flight)
}

fn set_out<T>(request: &mut Request<T>, deadline: Duration) -> Flight {
    request.set_timeout(deadline);
    let flight = Flight::default();
    request.extensions_mut().insert(flight.clone());
    flight
}

/// A call to an actor of this process: it has the message as soon as it is called.
async fn here<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(error::too_late().into()),
    }
}

/// A call to another node.
async fn there<T>(
    deadline: Duration,
    flight: Flight,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) if flight.expire() => Err(error::too_late().into()),
        Err(_) => Err(error::not_sent("the node", "it could not be connected to in the call's time").into()),
    }
}

/// A call to whichever node can answer: past those where it did not run, within one deadline.
async fn somewhere<C, T, F>(
    route: &dyn Route<C>,
    deadline: Duration,
    call: impl Fn(C, Duration) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let until = Instant::now() + deadline;
    let mut last = None;
    for client in route.candidates() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match call(client, left).await {
            Err(Error::DidNotRun(status)) => last = Some(status),
            result => return result,
        }
    }
    Err(Error::DidNotRun(last.unwrap_or_else(|| error::no_node(route.role()))))
}

macro_rules! client {
    (
        $(#[$doc:meta])* $name:ident, $object:ty, $remote:ty,
        $($(#[$method_doc:meta])* $method:ident($request:ty) -> $response:ty;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            side: Side<$object, $remote, $name>,
            caller: Caller,
        }

        impl $name {
            /// Calls the actor in this process.
            #[must_use]
            pub fn local(service: Arc<$object>) -> Self {
                Self { side: Side::Local(service), caller: Caller::default() }
            }

            /// Calls the actor on another node.
            #[must_use]
            pub fn remote(link: Link) -> Self {
                let client = <$remote>::new(link).max_decoding_message_size(ANSWER_BYTES);
                Self { side: Side::Remote(client), caller: Caller::default() }
            }

            /// Calls the actor on whichever node can answer.
            #[must_use]
            pub fn routed(route: Arc<dyn Route<Self>>) -> Self {
                Self { side: Side::Routed(route), caller: Caller::default() }
            }

            /// The same client, whose calls say that this node makes them.
            #[must_use]
            pub fn called_by(mut self, node: &str) -> Self {
                self.caller = Caller::new(node);
                self
            }

            $(
                $(#[$method_doc])*
                ///
                /// # Errors
                /// [`Error`] says whether the call may have run.
                pub async fn $method(&self, message: $request, deadline: Duration) -> Result<$response, Error> {
                    match &self.side {
                        Side::Local(service) => {
                            let (request, _) = prepare(message, &self.caller, deadline);
                            here(deadline, service.$method(request)).await
                        }
                        Side::Remote(client) => {
                            let (request, flight) = prepare(message, &self.caller, deadline);
                            there(deadline, flight, client.clone().$method(request)).await
                        }
                        Side::Routed(route) => {
                            let call = |client: Self, left| {
                                let message = message.clone();
                                // A route leads to clients of its own kind: boxed, the type has an end.
                                Box::pin(async move { client.$method(message, left).await })
                            };
                            somewhere(route.as_ref(), deadline, call).await
                        }
                    }
                }
            )*
        }
    };
}

client! {
    /// Calls a Worker.
    WorkerClient,
    WorkerService,
    v1::worker_service_client::WorkerServiceClient<Link>,
    /// Passes cancel requests on to the handlers that run.
    cancel_tasks(v1::CancelTasksRequest) -> v1::CancelTasksResponse;
    /// Stops taking tasks, waits for those that run, and gives back the rest.
    drain(v1::DrainRequest) -> v1::DrainResponse;
    /// Tells how loaded the worker is.
    get_load(v1::GetLoadRequest) -> v1::GetLoadResponse;
}

client! {
    /// Calls a Supervisor.
    SupervisorClient,
    SupervisorService,
    v1::supervisor_service_client::SupervisorServiceClient<Link>,
    /// Tells how the node is.
    get_status(v1::GetStatusRequest) -> v1::GetStatusResponse;
    /// Drains its node: it stops taking tasks, lets those that run finish or hands them back, and leaves.
    drain(v1::DrainNodeRequest) -> v1::DrainNodeResponse;
    /// Changes what its node logs, or tells what that is.
    set_log_filter(v1::SetLogFilterRequest) -> v1::SetLogFilterResponse;
}

client! {
    /// Calls an Alert actor.
    AlertClient,
    AlertService,
    v1::alert_service_client::AlertServiceClient<Link>,
    /// Reports what was seen.
    report(v1::ReportRequest) -> v1::ReportResponse;
}

client! {
    /// Calls a ProviderBroker.
    BrokerClient,
    BrokerService,
    v1::provider_broker_service_client::ProviderBrokerServiceClient<Link>,
    /// Generates a text.
    generate(v1::GenerateRequest) -> v1::GenerateResponse;
    /// Generates an image.
    generate_image(v1::GenerateImageRequest) -> v1::GenerateImageResponse;
    /// Turns texts into vectors.
    embed(v1::EmbedRequest) -> v1::EmbedResponse;
    /// Lists the providers.
    list_providers(v1::ListProvidersRequest) -> v1::ListProvidersResponse;
    /// Tells what the caches of its node did.
    get_cache_statistics(v1::GetCacheStatisticsRequest) -> v1::GetCacheStatisticsResponse;
    /// Does what an admin asks.
    administer(v1::AdministerRequest) -> v1::AdministerResponse;
    /// Tells what this node has learned of providers.
    tell_records(v1::TellRecordsRequest) -> v1::TellRecordsResponse;
    /// Lists the experiments.
    list_experiments(v1::ListExperimentsRequest) -> v1::ListExperimentsResponse;
    /// Says how good an answer of an experiment was.
    score_answer(v1::ScoreAnswerRequest) -> v1::ScoreAnswerResponse;
}

impl BrokerClient {
    /// Generates a text as a stream. The deadline is for its beginning.
    ///
    /// # Errors
    /// [`Error`] says whether the call may have run.
    pub async fn generate_stream(
        &self,
        message: v1::GenerateStreamRequest,
        deadline: Duration,
    ) -> Result<GenerateStream, Error> {
        match &self.side {
            Side::Local(service) => {
                let (request, _) = prepare(message, &self.caller, deadline);
                here(deadline, service.generate_stream(request)).await
            }
            Side::Remote(client) => {
                let (request, flight) = prepare(message, &self.caller, deadline);
                let mut client = client.clone();
                Ok(there(deadline, flight, client.generate_stream(request)).await?.boxed())
            }
            Side::Routed(route) => {
                let call = |client: Self, left| {
                    let message = message.clone();
                    Box::pin(async move { client.generate_stream(message, left).await })
                };
                somewhere(route.as_ref(), deadline, call).await
            }
        }
    }
}

impl SupervisorClient {
    /// Follows the events of tasks on its node: which ones is said by the requests, at any time. The deadline
    /// is for the beginning of the stream.
    ///
    /// # Errors
    /// [`Error`] says whether the call may have run. A routed client cannot follow: the events are one node's.
    pub async fn watch_events(
        &self,
        requests: impl Stream<Item = v1::WatchEventsRequest> + Send + 'static,
        deadline: Duration,
    ) -> Result<EventStream, Error> {
        // The first message says who calls; metadata and context come from here and now.
        let mut first = Request::new(v1::WatchEventsRequest::default());
        self.caller.sign(&mut first);
        let (metadata, extensions, first) = first.into_parts();
        let mut context = first.context;
        let requests = requests.map(move |mut request| {
            if let Some(context) = context.take() {
                request.context.get_or_insert(context);
            }
            request
        });
        let requests = Requests(requests.boxed());
        match &self.side {
            Side::Local(service) => {
                let streaming = stream_in_process(requests);
                let mut request = Request::from_parts(metadata, extensions, streaming);
                set_out(&mut request, deadline);
                here(deadline, service.watch_events(request)).await
            }
            Side::Remote(client) => {
                let mut request = Request::from_parts(metadata, extensions, requests);
                let flight = set_out(&mut request, deadline);
                let mut client = client.clone();
                Ok(there(deadline, flight, client.watch_events(request)).await?.boxed())
            }
            Side::Routed(route) => Err(Error::DidNotRun(error::no_node(route.role()))),
        }
    }
}

/// Requests of a stream, as a type with a name and without lifetimes: the compiler can prove of no other that
/// a future which holds it may move between threads.
struct Requests(BoxStream<'static, v1::WatchEventsRequest>);

impl Stream for Requests {
    type Item = v1::WatchEventsRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// What a service in this process takes for a stream of requests. tonic makes one from bytes alone.
fn stream_in_process(requests: Requests) -> Streaming<v1::WatchEventsRequest> {
    use tonic::codec::Codec as _;
    let mut codec = tonic_prost::ProstCodec::<v1::WatchEventsRequest, v1::WatchEventsRequest>::default();
    let body = tonic::codec::EncodeBody::new_client(codec.encoder(), requests.map(Ok), None, None);
    Streaming::new_request(codec.decoder(), tonic::body::Body::new(body), None, None)
}
