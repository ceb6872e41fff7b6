//! What every rpc of a listener costs and how it ends: rate, errors, duration.

use callboard_ports::metrics::{Counter, Distribution, FAST, Histogram};
use futures::future::{BoxFuture, FutureExt as _};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use prost::Message as _;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tonic::Code;
use tower_layer::Layer;
use tower_service::Service;

/// The names of gRPC's codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The calls of one method.
#[derive(Debug)]
struct Method {
    service: String,
    name: String,
    /// Its answers are a stream, so how long it takes says how long somebody listens.
    streams: bool,
    ended: [Counter; CODES.len()],
    open: AtomicU64,
    took: Histogram,
}

/// The calls of all methods there are. What is asked for beside them is not counted: names that callers make up would
/// have no end.
#[derive(Clone, Debug, Default)]
pub struct RpcMetrics(Arc<HashMap<String, Arc<Method>>>);

/// What is known of one method.
#[derive(Clone, Debug)]
pub struct MethodRead {
    /// Its service, with the package: `callboard.v1.TaskService`.
    pub service: String,
    /// Its name: `SubmitTask`.
    pub method: String,
    /// How many calls have ended, by the name of their code. `OK` is always there.
    pub ended: Vec<(&'static str, u64)>,
    /// How many go on.
    pub open: u64,
    /// How long calls took, in nanoseconds; `None` for a method that streams.
    pub took: Option<Distribution>,
}

impl RpcMetrics {
    /// Of the services whose name begins with one of `packages`, as encoded file descriptors tell them. Descriptors
    /// that cannot be read have no methods.
    #[must_use]
    pub fn new(descriptors: &[u8], packages: &[&str]) -> Self {
        let files = prost_types::FileDescriptorSet::decode(descriptors).unwrap_or_default().file;
        let mut methods = HashMap::new();
        for file in &files {
            if !packages.contains(&file.package()) {
                continue;
            }
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                for method in &service.method {
                    let counted = Method {
                        service: full.clone(),
                        name: method.name().to_owned(),
                        streams: method.server_streaming() || method.client_streaming(),
                        ended: Default::default(),
                        open: AtomicU64::new(0),
                        took: Histogram::new(FAST),
                    };
                    methods.insert(format!("/{full}/{}", method.name()), Arc::new(counted));
                }
            }
        }
        Self(Arc::new(methods))
    }

    /// How each method does, by name.
    #[must_use]
    pub fn read(&self) -> Vec<MethodRead> {
        let mut methods: Vec<_> = self.0.iter().collect();
        methods.sort_unstable_by_key(|(path, _)| *path);
        methods.into_iter().map(|(_, method)| method.read()).collect()
    }

    fn begin(&self, path: &str) -> Option<Open> {
        let method = Arc::clone(self.0.get(path)?);
        method.open.fetch_add(1, Ordering::Relaxed);
        Some(Open { method, began: Instant::now(), code: None })
    }
}

impl Method {
    fn read(&self) -> MethodRead {
        let ended = CODES.iter().copied().zip(self.ended.iter().map(Counter::get));
        MethodRead {
            service: self.service.clone(),
            method: self.name.clone(),
            ended: ended.filter(|(code, count)| *count > 0 || *code == CODES[0]).collect(),
            open: self.open.load(Ordering::Relaxed),
            took: (!self.streams).then(|| self.took.read()),
        }
    }
}

/// A call that goes on. It ends when it is dropped: without a status its caller went away.
struct Open {
    method: Arc<Method>,
    began: Instant,
    code: Option<Code>,
}

impl Open {
    /// Takes a status in, if these headers or trailers have one.
    fn hear(&mut self, headers: &http::HeaderMap) {
        let Some(code) = headers.get("grpc-status") else { return };
        self.code = Some(Code::from_bytes(code.as_bytes()));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.method.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(ended) = usize::try_from(code as i32).ok().and_then(|code| self.method.ended.get(code)) {
            ended.one();
        }
        if !self.method.streams {
            self.method.took.took(self.began.elapsed());
        }
    }
}

/// Counts every call: how many there are, how they end, how long they take.
#[derive(Clone, Debug)]
pub struct MeteredLayer {
    metrics: RpcMetrics,
}

impl MeteredLayer {
    /// Counts where somebody else reads.
    #[must_use]
    pub const fn new(metrics: RpcMetrics) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for MeteredLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered { inner, metrics: self.metrics.clone() }
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub struct Metered<S> {
    inner: S,
    metrics: RpcMetrics,
}

impl<S, B, R> Service<Request<B>> for Metered<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<MeteredBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut open = self.metrics.begin(request.uri().path());
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            // An error without a body has its status here; what streams tells it at its end.
            if let Some(open) = &mut open {
                open.hear(answer.headers());
            }
            Ok(answer.map(|body| MeteredBody { body, open }))
        }
        .boxed()
    }
}

/// The body of a call that is counted when it ends.
pub struct MeteredBody<R> {
    body: R,
    open: Option<Open>,
}

impl<R: Body + Unpin> Body for MeteredBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            let trailers = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.trailers_ref());
            if let (Some(open), Some(trailers)) = (&mut self.open, trailers) {
                open.hear(trailers);
            }
            if frame.is_none() || trailers.is_some() {
                self.open = None;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::{Ready, ready};
    use std::collections::VecDeque;
    use std::convert::Infallible;

    /// Answers with a header or, after some data, with trailers.
    #[derive(Clone)]
    struct Answers(Option<&'static str>, Option<&'static str>);

    struct Frames(VecDeque<Frame<&'static [u8]>>);

    impl Body for Frames {
        type Data = &'static [u8];
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn status(code: &'static str) -> http::HeaderMap {
        http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), code.parse().unwrap())])
    }

    impl Service<Request<()>> for Answers {
        type Response = Response<Frames>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Frames>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            let Self(header, trailer) = self.clone();
            let trailers = trailer.map(|code| Frame::trailers(status(code)));
            let mut answer =
                Response::new(Frames([Frame::data(&b"x"[..])].into_iter().chain(trailers).collect()));
            *answer.headers_mut() = header.map(status).unwrap_or_default();
            ready(Ok(answer))
        }
    }

    struct Bench(RpcMetrics);

    impl Bench {
        fn new() -> Self {
            Self(RpcMetrics::new(callboard_contracts::DESCRIPTORS, &["callboard.v1"]))
        }

        fn method(&self, name: &str) -> MethodRead {
            self.0.read().into_iter().find(|method| method.method == name).unwrap()
        }

        async fn call(&self, path: &str, answers: Answers) -> MeteredBody<Frames> {
            let request = Request::builder().uri(path).body(()).unwrap();
            MeteredLayer::new(self.0.clone()).layer(answers).call(request).await.unwrap().into_body()
        }
    }

    async fn drain(mut body: MeteredBody<Frames>) {
        while futures::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_some() {}
    }

    const SUBMIT: &str = "/callboard.v1.TaskService/SubmitTask";

    #[tokio::test]
    async fn a_call_counts_when_its_body_ends_with_the_code_of_its_trailers() {
        let bench = Bench::new();
        let body = bench.call(SUBMIT, Answers(None, Some("0"))).await;
        assert_eq!((bench.method("SubmitTask").open, bench.method("SubmitTask").ended), (1, vec![("OK", 0)]));
        drain(body).await;
        let read = bench.method("SubmitTask");
        assert_eq!((read.open, read.ended), (0, vec![("OK", 1)]));
        assert_eq!(read.took.unwrap().count(), 1);
    }

    #[tokio::test]
    async fn an_error_is_in_the_headers_and_who_goes_away_tells_nothing() {
        let bench = Bench::new();
        drain(bench.call(SUBMIT, Answers(Some("8"), None)).await).await;
        drop(bench.call(SUBMIT, Answers(None, Some("0"))).await);
        let ended = bench.method("SubmitTask").ended;
        assert_eq!(ended, [("OK", 0), ("CANCELLED", 1), ("RESOURCE_EXHAUSTED", 1)]);
    }

    #[tokio::test]
    async fn what_streams_has_no_duration_and_what_is_made_up_no_series() {
        let bench = Bench::new();
        let methods = bench.0.read().len();
        drain(bench.call("/callboard.v1.TaskService/WatchTask", Answers(None, Some("0"))).await).await;
        drain(bench.call("/callboard.v1.TaskService/MadeUp", Answers(None, Some("0"))).await).await;
        let read = bench.method("WatchTask");
        assert_eq!((read.ended, read.took), (vec![("OK", 1)], None));
        assert_eq!(bench.0.read().len(), methods);
        assert!(bench.0.read().iter().all(|method| method.service.starts_with("callboard.v1.")));
    }
}
