//! A span around every call that is served.

use callboard_domain::TraceContext;
use callboard_ports::trace::{Kind, Span, Tracer};
use futures::future::{BoxFuture, FutureExt as _};
use http::{HeaderValue, Request, Response};
use std::task::{Context, Poll};
use tonic::Code;
use tower_layer::Layer;
use tower_service::Service;

const TRACEPARENT: &str = "traceparent";
/// Services whose calls are not worth a span: probes, and tools that ask what there is.
const QUIET: &str = "/grpc.";

/// In the extensions of a request whose caller named no trace: it begins one.
#[derive(Clone, Copy, Debug)]
pub struct BeginsTrace;

/// Puts a span around every call. What the call causes is caused by it: its `traceparent` takes the place of the
/// caller's in the request.
#[derive(Clone, Debug)]
pub struct TracedLayer {
    tracer: Tracer,
}

impl TracedLayer {
    /// With the spans of a tracer. Of one that records nothing, calls stay as they are.
    #[must_use]
    pub fn new(tracer: Tracer) -> Self {
        Self { tracer }
    }
}

impl<S> Layer<S> for TracedLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, tracer: self.tracer.clone() }
    }
}

/// A service with a span around every call.
#[derive(Clone, Debug)]
pub struct Traced<S> {
    inner: S,
    tracer: Tracer,
}

impl<S, B, R> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let span = begin(&self.tracer, &mut request);
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            if let (Some(mut span), Ok(answer)) = (span, &answer) {
                told(&mut span, answer.headers());
            }
            answer
        }
        .boxed()
    }
}

/// The span of a call, in the place of its cause; none if it is not recorded.
fn begin<B>(tracer: &Tracer, request: &mut Request<B>) -> Option<Span> {
    let path = request.uri().path();
    // `/package.Service/Method`; a path that is no method's would make names without end.
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    if !tracer.records() || path.starts_with(QUIET) || !service.starts_with("callboard.") {
        return None;
    }
    let (service, method) = (service.to_owned(), method.to_owned());
    let said = request.headers().get(TRACEPARENT).and_then(|text| text.to_str().ok());
    let cause = said.and_then(|text| text.parse::<TraceContext>().ok());
    let mut span = tracer.start(|| format!("{service}/{method}"), Kind::Server, cause);
    span.set("rpc.system", "grpc");
    span.set("rpc.service", service);
    span.set("rpc.method", method);
    if cause.is_none() {
        request.extensions_mut().insert(BeginsTrace);
    }
    if let Ok(place) = HeaderValue::from_str(&span.context().to_string()) {
        request.headers_mut().insert(TRACEPARENT, place);
    }
    Some(span)
}

/// What the headers of an answer tell. An error without a body has its status there; that of a stream that fails
/// later is not seen.
fn told(span: &mut Span, headers: &http::HeaderMap) {
    let Some(code) = headers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse::<u32>().ok())
    else {
        return;
    };
    span.set("rpc.grpc.status_code", code);
    // As the conventions say, of a server these alone are failures; the others are the caller's.
    let is_failure = match tonic::Code::from(i32::try_from(code).unwrap_or_default()) {
        Code::Unknown | Code::DeadlineExceeded | Code::Unimplemented => true,
        code => matches!(code, Code::Internal | Code::Unavailable | Code::DataLoss),
    };
    if is_failure {
        let message = headers.get("grpc-message").and_then(|text| text.to_str().ok());
        span.fail(|| message.unwrap_or_default().to_owned());
    }
}
