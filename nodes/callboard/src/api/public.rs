//! Who answers on the public listener: gRPC, or beside it the endpoint that speaks OpenAI's API.
//!
//! The path alone decides, so that a call of gRPC costs one comparison more. gRPC is served over HTTP/2 only: a page in a
//! browser can make it send HTTP/1.1 to this machine, and must not run tasks with it.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, Version};
use axum::routing::future::RouteFuture;
use futures::future::{Either, Ready, ready};
use std::convert::Infallible;
use std::task::{Context, Poll};
use tower_service::Service;

/// What the paths of the endpoint begin with.
const ENDPOINT: &str = "/v1/";
const NEEDS_HTTP2: &str =
    "gRPC is served here, over HTTP/2; for HTTP/1.1 there is the OpenAI-compatible API below /v1/\n";

/// The services of the public listener.
#[derive(Clone, Debug)]
pub struct Public {
    /// Of gRPC.
    pub grpc: Router,
    /// The endpoint, if there is one.
    pub endpoint: Option<Router>,
}

impl<B> Service<Request<B>> for Public
where
    B: axum::body::HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<RouteFuture<Infallible>, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match &mut self.endpoint {
            Some(endpoint) if request.uri().path().starts_with(ENDPOINT) => {
                Either::Left(endpoint.call(request))
            }
            _ if request.version() < Version::HTTP_2 => {
                let mut refusal = Response::new(Body::from(NEEDS_HTTP2));
                *refusal.status_mut() = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
                Either::Right(ready(Ok(refusal)))
            }
            _ => Either::Left(self.grpc.call(request)),
        }
    }
}
