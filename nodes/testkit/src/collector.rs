//! A collector of OpenTelemetry in this process: it takes spans over OTLP and shows them as trees, metrics as they
//! came, and lines of the log.

mod logs;

pub use logs::Line;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::LogsServiceServer;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What was done.
    pub name: String,
    /// What it is to those beside it: `SERVER`, `PRODUCER`.
    pub kind: &'static str,
    /// The id of its trace, as 32 hexadecimal digits.
    pub trace: String,
    /// Its id, as 16 hexadecimal digits.
    pub id: String,
    /// The id of its cause; empty for the first of a trace.
    pub parent: String,
    /// Nanoseconds since 1970.
    pub began: u64,
    /// Nanoseconds since 1970.
    pub ended: u64,
    /// What is worth knowing, and what is known of the process: `service.name`.
    pub attributes: BTreeMap<String, String>,
    /// The ids of the traces it is linked to.
    pub links: Vec<String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Span {
    /// What an attribute says; empty if it is not there.
    #[must_use]
    pub fn get(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }
}

#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<Span>>>);

/// Exports of metrics, as they came.
#[derive(Clone, Default)]
struct Exports(Arc<Mutex<Vec<ExportMetricsServiceRequest>>>);

#[tonic::async_trait]
impl MetricsService for Exports {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// The collector. It ends when it is dropped.
pub struct Collector {
    at: SocketAddr,
    inbox: Inbox,
    exports: Exports,
    lines: logs::Inbox,
    _stop: DropGuard,
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (at, inbox, stop) = (listener.local_addr()?, Inbox::default(), CancellationToken::new());
        let (exports, lines) = (Exports::default(), logs::Inbox::default());
        let serve = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(inbox.clone()))
            .add_service(MetricsServiceServer::new(exports.clone()))
            .add_service(LogsServiceServer::new(lines.clone()))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned());
        TaskTracker::new().spawn(serve);
        Ok(Self { at, inbox, exports, lines, _stop: stop.drop_guard() })
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.at)
    }

    /// The exports of metrics that came, in their order.
    #[must_use]
    pub fn exports(&self) -> Vec<ExportMetricsServiceRequest> {
        self.exports.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All spans that came, in the order of their beginnings.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.inbox.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        spans.sort_by_key(|span| span.began);
        spans
    }

    /// All lines of the log that came, in the order they came.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lines()
    }

    /// The spans of a trace, in the order of their beginnings.
    #[must_use]
    pub fn trace(&self, id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace == id).collect()
    }

    /// The shape of a trace: a line a span with what `line` says of it, below its cause. Spans whose cause did not
    /// come stand below `?`, as they do in Jaeger.
    #[must_use]
    pub fn tree(&self, id: &str, line: impl Fn(&Span) -> String) -> String {
        let spans = self.trace(id);
        let is_known = |id: &str| spans.iter().any(|span| span.id == id);
        let mut text = String::new();
        let roots = spans.iter().filter(|span| span.parent.is_empty());
        roots.for_each(|root| branch(&spans, root, 0, &line, &mut text));
        let lost = spans.iter().filter(|span| !span.parent.is_empty() && !is_known(&span.parent));
        for span in lost {
            text.push_str("?\n");
            branch(&spans, span, 1, &line, &mut text);
        }
        text
    }
}

fn branch(spans: &[Span], of: &Span, depth: usize, line: &impl Fn(&Span) -> String, text: &mut String) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}{}", "  ".repeat(depth), line(of));
    spans
        .iter()
        .filter(|span| span.parent == of.id)
        .for_each(|span| branch(spans, span, depth + 1, line, text));
}

#[tonic::async_trait]
impl TraceService for Inbox {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_process in request.into_inner().resource_spans {
            let process = attributes(of_process.resource.map(|r| r.attributes).unwrap_or_default());
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let spans = spans.map(|span| {
                let mut span = span_of(span);
                span.attributes.extend(process.clone());
                span
            });
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn span_of(span: otlp::Span) -> Span {
    let kind = span.kind().as_str_name().trim_start_matches("SPAN_KIND_");
    let failed = span.status.filter(|status| status.code() == otlp::status::StatusCode::Error);
    Span {
        kind,
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        began: span.start_time_unix_nano,
        ended: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        error: failed.map(|status| status.message),
    }
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, String> {
    list.into_iter()
        .map(|KeyValue { key, value, .. }| (key, text(value.and_then(|value| value.value))))
        .collect()
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
