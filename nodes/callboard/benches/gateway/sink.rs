//! Where the gateway's spans go: they are counted and forgotten.

use crate::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

#[tonic::async_trait]
impl TraceService for Counter {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> std::result::Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.get_ref().resource_spans.iter().flat_map(|of| &of.scope_spans);
        self.0.fetch_add(spans.map(|of| of.spans.len()).sum(), Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector of spans in this process.
pub(crate) struct Sink {
    pub(crate) endpoint: String,
    counter: Counter,
    _serving: JoinSet<()>,
}

impl Sink {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let (counter, mut serving) = (Counter::default(), JoinSet::new());
        let service = TraceServiceServer::new(counter.clone()).max_decoding_message_size(16 << 20);
        serving.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            // Without it no spans are counted, which is printed.
            let _ = server.serve_with_incoming(TcpIncoming::from(listener)).await;
        });
        Ok(Self { endpoint, counter, _serving: serving })
    }

    /// How many spans came so far.
    pub(crate) fn spans(&self) -> usize {
        self.counter.0.load(Ordering::Relaxed)
    }
}
