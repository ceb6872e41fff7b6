//! What the calls of a handler carry: the trace of its task, and its attempt as their fence.

use super::{NEVER, Stage, task};
use crate::node::{eventually, scripted};
use callboard_contracts::mesh::v1;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerService;
use callboard_contracts::v1 as api;
use callboard_domain::TraceContext;
use callboard_ports::Tracer;
use callboard_ports::store::TaskReader;
use callboard_ports::trace::{Exporter, Kind, Sampling, SpanData};
use callboard_runtime::mesh::{
    self, BrokerClient, GenerateStream, Link, LinkOptions, Route, ServeOptions, Services, Timing, Unobserved,
};
use callboard_sdk::llm::{ImageRequest, TextRequest};
use callboard_sdk::{Failure, Registry};
use callboard_worker::BrokerLlm;
use futures::FutureExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What a call brought along: the trace, the request that caused it, who calls, the attempt, whether it has a
/// deadline.
#[derive(Clone, Debug)]
struct Seen {
    trace: TraceContext,
    context: v1::CallContext,
    fence: v1::Fence,
    deadline: bool,
}

#[derive(Default)]
struct Broker(Mutex<Vec<Seen>>);

impl Broker {
    fn note<T>(&self, request: &Request<T>, context: Option<v1::CallContext>, fence: Option<v1::Fence>) {
        let header = |name| request.metadata().get(name).map(|value| value.to_str().unwrap());
        self.0.lock().unwrap().push(Seen {
            trace: header("traceparent").unwrap().parse().unwrap(),
            context: context.unwrap(),
            fence: fence.unwrap(),
            deadline: header("grpc-timeout").is_some(),
        });
    }
}

#[tonic::async_trait]
impl ProviderBrokerService for Broker {
    type GenerateStreamStream = GenerateStream;

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::GenerateResponse>, Status> {
        let message = request.get_ref();
        self.note(&request, message.context.clone(), message.fence.clone());
        let summary = Some(api::GenerateSummary::default());
        let response = Some(api::GenerateResponse { text: "fine".into(), summary, ..Default::default() });
        Ok(Response::new(v1::GenerateResponse { response }))
    }

    async fn generate_image(
        &self,
        request: Request<v1::GenerateImageRequest>,
    ) -> Result<Response<v1::GenerateImageResponse>, Status> {
        let message = request.get_ref();
        self.note(&request, message.context.clone(), message.fence.clone());
        let summary = Some(api::GenerateSummary::default());
        Ok(Response::new(v1::GenerateImageResponse { summary, ..Default::default() }))
    }

    async fn generate_stream(
        &self,
        _: Request<v1::GenerateStreamRequest>,
    ) -> Result<Response<GenerateStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn embed(&self, _: Request<v1::EmbedRequest>) -> Result<Response<v1::EmbedResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn list_providers(
        &self,
        _: Request<v1::ListProvidersRequest>,
    ) -> Result<Response<v1::ListProvidersResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn get_cache_statistics(
        &self,
        _: Request<v1::GetCacheStatisticsRequest>,
    ) -> Result<Response<v1::GetCacheStatisticsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn administer(
        &self,
        _: Request<v1::AdministerRequest>,
    ) -> Result<Response<v1::AdministerResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn list_experiments(
        &self,
        _: Request<v1::ListExperimentsRequest>,
    ) -> Result<Response<v1::ListExperimentsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn score_answer(
        &self,
        _: Request<v1::ScoreAnswerRequest>,
    ) -> Result<Response<v1::ScoreAnswerResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn tell_records(
        &self,
        _: Request<v1::TellRecordsRequest>,
    ) -> Result<Response<v1::TellRecordsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// Calls a broker over a listener.
async fn over_the_wire(broker: Arc<Broker>, stop: CancellationToken) -> BrokerClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tracker = TaskTracker::new();
    let services = Services { supervisor: None, worker: None, broker: Some(broker), alert: None };
    let serving = mesh::serve(listener, services, ServeOptions::default(), stop);
    tracker.spawn(async move { serving.await.unwrap() });
    BrokerClient::remote(Link::new(LinkOptions {
        peer: "the broker".into(),
        address,
        identity: None,
        timing: Timing::default(),
        observer: Arc::new(Unobserved),
        tracker,
    }))
}

fn house() -> ImageRequest {
    ImageRequest { prompt: "a house".into(), width: 64, height: 64, provider: None, idempotency_key: None }
}

/// Keeps spans.
#[derive(Default)]
struct Spans(Mutex<Vec<SpanData>>);

impl Exporter for Spans {
    fn export(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }
}

fn recording() -> (Tracer, Arc<Spans>) {
    let spans = Arc::<Spans>::default();
    let sampling = Sampling { ratio: 1.0, slow: Duration::from_secs(10) };
    (Tracer::new(Arc::new(rand::random::<u64>), spans.clone(), sampling), spans)
}

/// A kind that makes a call of each sort, and fails its first attempt.
fn calls() -> Registry {
    let calls = scripted("calls", |ctx, input| {
        async move {
            ctx.llm().text(TextRequest::prompt("hello")).await.unwrap();
            ctx.llm().image(house()).await.unwrap();
            if ctx.failures() == 0 { Err(Failure::retryable("once more")) } else { Ok(input) }
        }
        .boxed()
    });
    Registry::new().with_handler(calls).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handlers_calls_carry_the_trace_of_its_task_and_its_attempt() {
    let stop = CancellationToken::new();
    for remote in [false, true] {
        let stage = Stage::new().await;
        let broker = Arc::new(Broker::default());
        let (tracer, spans) = recording();
        let client = match remote {
            true => over_the_wire(broker.clone(), stop.clone()).await,
            false => BrokerClient::local(broker.clone()),
        };
        let _running = stage.start(
            NEVER,
            |_| (),
            |deps| {
                deps.registry = calls();
                deps.tracer = tracer.clone();
                deps.llm = Arc::new(BrokerLlm::new(client.called_by("a"), tracer.clone()));
            },
        );
        let mut new = task("{}");
        new.spec.kind = "calls".into();
        new.spec.traceparent = Some(PARENT.into());
        let ids = stage.admit([new]).await;
        stage.all_succeed(&ids).await;
        let seen = broker.0.lock().unwrap().clone();
        let parent: TraceContext = PARENT.parse().unwrap();
        assert_eq!(seen.iter().map(|s| s.fence.attempt).collect::<Vec<_>>(), [1, 1, 2, 2]);
        for Seen { trace, context, fence, deadline } in &seen {
            assert_eq!(trace.trace_id(), parent.trace_id());
            assert_eq!(fence.session_id, stage.session.to_string());
            assert_eq!(fence.task_id, ids[0].to_string());
            let request_id = format!("{}/{}", ids[0], fence.attempt);
            let (namespace, kind) = ("default".into(), "calls".into());
            let failures = fence.attempt - 1;
            let caller = "a".into();
            assert_eq!(*context, v1::CallContext { request_id, caller, namespace, kind, failures });
            assert!(deadline);
        }
        // Each call is caused by its attempt's span, and that by the task's.
        let is_over =
            |spans: &Vec<SpanData>| spans.iter().filter(|span| span.kind == Kind::Consumer).count() == 2;
        let spans =
            eventually("both attempts end", async || Some(spans.0.lock().unwrap().clone()).filter(is_over))
                .await;
        let span = |id: u64| spans.iter().find(|span| span.context.span_id() == id).unwrap();
        let attempts = seen.iter().map(|seen| span(span(seen.trace.span_id()).parent.unwrap()));
        let attempts: Vec<_> = attempts.collect();
        assert!(attempts.iter().all(|span| span.parent == Some(parent.span_id())), "{attempts:#?}");
        let ids: Vec<_> = attempts.iter().map(|span| span.context.span_id()).collect();
        assert!(ids[0] == ids[1] && ids[1] != ids[2] && ids[2] == ids[3], "{ids:?}");
        assert_eq!(attempts[0].error.as_deref(), Some("once more"));
        assert_eq!(attempts[2].error, None);
        stage.store.close().await;
    }
    stop.cancel();
}

/// One that a version before traces admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_without_a_trace_has_the_same_one_on_each_attempt() {
    let stage = Stage::new().await;
    let broker = Arc::new(Broker::default());
    let client = BrokerClient::local(broker.clone());
    let _running = stage.start(
        NEVER,
        |_| (),
        |deps| {
            deps.registry = calls();
            deps.llm = Arc::new(BrokerLlm::new(client, Tracer::default()));
        },
    );
    let mut new = task("{}");
    new.spec.kind = "calls".into();
    let ids = stage.admit([new]).await;
    stage.all_succeed(&ids).await;
    let traces: Vec<_> = broker.0.lock().unwrap().iter().map(|seen| seen.trace.trace_id()).collect();
    assert_eq!(traces, [u128::from_be_bytes(*ids[0].as_bytes()); 4]);
    stage.store.close().await;
}

/// Leads nowhere at first.
struct Late {
    broker: BrokerClient,
    asked: AtomicUsize,
}

impl Route<BrokerClient> for Late {
    fn role(&self) -> &str {
        "provider-broker"
    }

    fn candidates(&self) -> Vec<BrokerClient> {
        let early = self.asked.fetch_add(1, Ordering::SeqCst) < 3;
        if early { Vec::new() } else { vec![self.broker.clone()] }
    }
}

/// As on a node that has just started, and reaches no other yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_ran_nowhere_is_made_again_and_costs_no_attempt() {
    let stage = Stage::new().await;
    let late =
        Arc::new(Late { broker: BrokerClient::local(Arc::<Broker>::default()), asked: AtomicUsize::new(0) });
    let route = late.clone();
    let asks = scripted("asks", |ctx, input| {
        async move {
            ctx.llm()
                .text(TextRequest::prompt("hello"))
                .await
                .map_err(|e| Failure::permanent(e.to_string()))?;
            Ok(input)
        }
        .boxed()
    });
    let _running = stage.start(
        NEVER,
        |_| (),
        |deps| {
            deps.registry = Registry::new().with_handler(asks).unwrap();
            deps.llm = Arc::new(BrokerLlm::new(BrokerClient::routed(route), Tracer::default()));
        },
    );
    let mut new = task("{}");
    new.spec.kind = "asks".into();
    let ids = stage.admit([new]).await;
    stage.all_succeed(&ids).await;
    assert_eq!(stage.store.get(ids).await.unwrap()[0].life.attempt, 1);
    assert_eq!(late.asked.load(Ordering::SeqCst), 4);
    stage.store.close().await;
}
