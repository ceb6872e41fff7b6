//! What is around every request: its place in a trace, whether it may call, what is counted.

use super::Endpoint;
use super::keys::Caller;
use super::metrics::{Open, Outcome, Route};
use crate::api::cause;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use callboard_ports::trace::{Kind, Span};
use callboard_runtime::mesh::Context as Cause;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Serves a request, if it may call.
pub(super) async fn watched(State(endpoint): State<Endpoint>, mut request: Request, next: Next) -> Response {
    let route = Route::of(request.uri().path());
    let open = endpoint.0.metrics.begin(route);
    let said = Cause::from_headers(request.headers());
    let parent = said.trace();
    let method = request.method().clone();
    let tracer = endpoint.0.api.tracer();
    let mut span = tracer.start(|| format!("{method} {}", route.name()), Kind::Server, parent);
    span.set_with("http.request.method", || method.to_string());
    span.set("http.route", route.name());
    let mut context = cause::within(request.headers(), said, parent.is_some(), span.context());
    let id = HeaderValue::from_str(&context.request_id);
    let mut answer = match endpoint.0.access.check(request.headers()) {
        Ok(key) => {
            if let Some(key) = key {
                span.set_with("callboard.key.name", || key.name.clone());
                context.namespace.clone_from(&key.namespace);
                request.extensions_mut().insert(Caller(key.name.as_str().into()));
                if !key.namespace.is_empty() {
                    span.set_with("callboard.namespace", || key.namespace.clone());
                    context.namespace.clone_from(&key.namespace);
                }
            }
            context.scope(next.run(request)).await
        }
        Err(refusal) => refusal.into_response(),
    };
    if let Ok(id) = id {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    let mut watch = Watch { open, span };
    watch.begun(&answer);
    answer.map(|body| watch.over(body))
}

/// A request that goes on.
struct Watch {
    open: Open,
    span: Span,
}

impl Watch {
    fn begun(&mut self, answer: &Response) {
        let status = answer.status();
        self.open.begun();
        self.span.set("http.response.status_code", u32::from(status.as_u16()));
        // As the conventions say, of a server these alone are failures; the others are the caller's.
        if status.is_server_error() {
            self.span.fail(|| status.to_string());
        }
        if answer.body().size_hint().exact().is_some() {
            self.open.ends(Outcome::Status(status.as_u16()));
        }
    }

    /// Watches a stream to its end; an answer that is there as a whole has ended.
    fn over(self, body: Body) -> Body {
        match body.size_hint().exact() {
            Some(_) => body,
            None => Body::new(Watched { body, watch: Some(self) }),
        }
    }
}

/// A body that is counted when it ends.
struct Watched {
    body: Body,
    watch: Option<Watch>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let (outcome, why) = match &polled {
            Poll::Ready(None) => (Outcome::Status(200), None),
            Poll::Ready(Some(Err(error))) => (Outcome::Broken, Some(error.to_string())),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => return polled,
        };
        if let Some(mut watch) = self.watch.take() {
            watch.open.ends(outcome);
            if let Some(why) = why {
                watch.span.fail(|| why);
            }
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
