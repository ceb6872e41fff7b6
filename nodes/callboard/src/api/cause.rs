//! What a request is part of: the calls that are made for it carry it on.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use callboard_domain::{TraceContext, limits};
use callboard_ports::Tracer;
use callboard_runtime::mesh::{self, Context};

/// Where a caller, or a proxy before it, names its request.
const REQUEST_ID: &str = "x-request-id";

/// What caused the tasks of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cause {
    /// What they are part of; none if each begins a trace.
    pub(super) parent: Option<TraceContext>,
    /// The request, if they are no part of its trace.
    pub(super) link: Option<TraceContext>,
}

/// What a request causes: a task alone is part of the request's trace. Many that nobody gave a trace have one each,
/// which a person can read.
pub(super) fn of_tasks<T>(request: &tonic::Request<T>, many: bool) -> Cause {
    let here = mesh::current().trace();
    let metadata = || Context::from_metadata(request.metadata()).trace();
    let begins = request.extensions().get::<mesh::BeginsTrace>().is_some();
    let said = metadata().is_some() && !begins;
    if many && !said {
        return Cause { parent: None, link: here.filter(|_| begins) };
    }
    // Called in this process, there is nothing around the call.
    Cause { parent: here.or_else(metadata), link: None }
}

/// Serves a request as part of what caused it.
pub async fn scoped(State(tracer): State<Tracer>, request: Request, next: Next) -> Response {
    let context = of_request(request.headers(), tracer.root());
    context.scope(next.run(request)).await
}

/// The context of a request. What its caller does not say is made from a trace of its own; as the standard asks,
/// a traceparent that is malformed is ignored, and the tracestate with it.
pub(super) fn of_request(headers: &HeaderMap, own: TraceContext) -> Context {
    let said = Context::from_headers(headers);
    let parent = said.trace();
    let context = within(headers, said, parent.is_some(), own);
    parent.into_iter().fold(context, Context::at)
}

/// The context of a request that said this in its headers, and has this place in a trace. The state of a trace that its
/// caller began is passed on.
pub(super) fn within(headers: &HeaderMap, said: Context, begun: bool, place: TraceContext) -> Context {
    let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let id = id.filter(|id| !id.is_empty() && id.len() <= limits::REQUEST_ID_CHARS);
    Context {
        request_id: id.map_or_else(|| format!("{:016x}", place.span_id()), str::to_owned),
        traceparent: Some(place.to_string()),
        tracestate: said.tracestate.filter(|_| begun),
        ..Context::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(headers: &[(&'static str, &str)]) -> Context {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        of_request(&headers.collect(), TraceContext::root(1, 2))
    }

    #[tokio::test]
    async fn what_a_request_causes_is_part_of_it() {
        let served = || async { mesh::current().traceparent.unwrap_or_default() };
        let scoped = axum::middleware::from_fn_with_state(Tracer::default(), scoped);
        let router = axum::Router::new().route("/", axum::routing::get(served)).layer(scoped);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let asks = async {
            let ask =
                format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntraceparent: {PARENT}\r\n\r\n");
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = tokio::select! {
            answer = asks => answer,
            ended = axum::serve(listener, router) => panic!("{ended:?}"),
        };
        assert!(answer.ends_with(PARENT), "{answer}");
    }

    #[test]
    fn what_the_caller_says_is_carried_on() {
        let said = context(&[("traceparent", PARENT), ("tracestate", "a=b"), (REQUEST_ID, "r1")]);
        let (parent, state) = (Some(PARENT.to_owned()), Some("a=b".to_owned()));
        assert_eq!(
            said,
            Context { request_id: "r1".into(), traceparent: parent, tracestate: state, ..Context::default() }
        );
    }

    #[test]
    fn a_request_that_says_nothing_or_nonsense_has_a_trace_and_an_id_of_its_own() {
        let own = Context {
            request_id: "0000000000000002".into(),
            traceparent: Some(TraceContext::root(1, 2).to_string()),
            ..Context::default()
        };
        assert_eq!(context(&[]), own);
        let long = "x".repeat(limits::REQUEST_ID_CHARS + 1);
        assert_eq!(context(&[("traceparent", "00-1-2-3"), ("tracestate", "a=b"), (REQUEST_ID, &long)]), own);
    }
}
