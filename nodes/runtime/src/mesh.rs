//! Calls from actor to actor: one client type per actor, local or remote.
//!
//! A caller cannot tell which: locally, a client calls the service object of the actor in this process;
//! remotely, the same service over a channel. Every call has a deadline, and its error says whether it
//! may have run.

use callboard_contracts::mesh::v1;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;

/// The largest answer taken: an image as a provider may send it.
const MESSAGE_BYTES: usize = 32 << 20;

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It certainly did not run: it can be made again, also elsewhere.
    #[error("the call did not run: {}", .0.message())]
    DidNotRun(Status),
    /// It may have run.
    #[error("the call may have run: {}", .0.message())]
    MayHaveRun(Status),
    /// It ran, and this is its answer.
    #[error("{}", .0.message())]
    Answered(Status),
}

impl Error {
    /// The status, as it came.
    #[must_use]
    pub fn into_status(self) -> Status {
        match self {
            Self::DidNotRun(status) | Self::MayHaveRun(status) | Self::Answered(status) => status,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        use callboard_domain::Code;
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
        match reason.as_deref() {
            Some(r) if r == Code::ActorUnavailable.reason() || r == Code::Draining.reason() => {
                Self::DidNotRun(status)
            }
            Some(r) if r == Code::MayHaveRun.reason() || r == Code::DeadlineExceeded.reason() => {
                Self::MayHaveRun(status)
            }
            Some(_) => Self::Answered(status),
            // No reason of ours: the transport speaks. What it did not send did not run; it does not say.
            None => match status.code() {
                tonic::Code::InvalidArgument | tonic::Code::NotFound | tonic::Code::Unimplemented => {
                    Self::Answered(status)
                }
                _ => Self::MayHaveRun(status),
            },
        }
    }
}

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

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Error::MayHaveRun(
            callboard_domain::Error::new(callboard_domain::Code::DeadlineExceeded, "the call's time was up")
                .into(),
        )),
    }
}

macro_rules! client {
    (
        $(#[$doc:meta])* $name:ident, $object:ty, $remote:ty,
        $($(#[$method_doc:meta])* $method:ident($request:ty) -> $response:ty;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Side<$object, $remote>);

        impl $name {
            /// Calls the actor in this process.
            #[must_use]
            pub fn local(service: Arc<$object>) -> Self {
                Self(Side::Local(service))
            }

            /// Calls the actor on another node.
            #[must_use]
            pub fn remote(channel: Channel) -> Self {
                Self(Side::Remote(<$remote>::new(channel).max_decoding_message_size(MESSAGE_BYTES)))
            }

            $(
                $(#[$method_doc])*
                ///
                /// # Errors
                /// [`Error`] says whether the call may have run.
                pub async fn $method(&self, request: $request, deadline: Duration) -> Result<$response, Error> {
                    let mut request = Request::new(request);
                    request.set_timeout(deadline);
                    match &self.0 {
                        Side::Local(service) => within(deadline, service.$method(request)).await,
                        Side::Remote(client) => within(deadline, client.clone().$method(request)).await,
                    }
                }
            )*
        }
    };
}

enum Side<S: ?Sized, R> {
    Local(Arc<S>),
    Remote(R),
}

impl<S: ?Sized, R: Clone> Clone for Side<S, R> {
    fn clone(&self) -> Self {
        match self {
            Self::Local(service) => Self::Local(Arc::clone(service)),
            Self::Remote(client) => Self::Remote(client.clone()),
        }
    }
}

client! {
    /// Calls a Worker.
    WorkerClient,
    dyn v1::worker_service_server::WorkerService,
    v1::worker_service_client::WorkerServiceClient<Channel>,
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
    v1::supervisor_service_client::SupervisorServiceClient<Channel>,
    /// Tells how the node is.
    get_status(v1::GetStatusRequest) -> v1::GetStatusResponse;
    /// Drains its node: it stops taking tasks, lets those that run finish or hands them back, and leaves.
    drain(v1::DrainNodeRequest) -> v1::DrainNodeResponse;
}

client! {
    /// Calls an Alert actor.
    AlertClient,
    dyn v1::alert_service_server::AlertService,
    v1::alert_service_client::AlertServiceClient<Channel>,
    /// Reports what was seen.
    report(v1::ReportRequest) -> v1::ReportResponse;
}

client! {
    /// Calls a ProviderBroker.
    BrokerClient,
    BrokerService,
    v1::provider_broker_service_client::ProviderBrokerServiceClient<Channel>,
    /// Generates a text.
    generate(v1::GenerateRequest) -> v1::GenerateResponse;
    /// Generates an image.
    generate_image(v1::GenerateImageRequest) -> v1::GenerateImageResponse;
    /// Lists the providers.
    list_providers(v1::ListProvidersRequest) -> v1::ListProvidersResponse;
}

impl BrokerClient {
    /// Generates a text as a stream. The deadline is for its beginning.
    ///
    /// # Errors
    /// [`Error`] says whether the call may have run.
    pub async fn generate_stream(
        &self,
        request: v1::GenerateStreamRequest,
        deadline: Duration,
    ) -> Result<GenerateStream, Error> {
        match &self.0 {
            Side::Local(service) => within(deadline, service.generate_stream(Request::new(request))).await,
            Side::Remote(client) => {
                let stream =
                    within(deadline, async { client.clone().generate_stream(request).await }).await?;
                Ok(Box::pin(stream))
            }
        }
    }
}
