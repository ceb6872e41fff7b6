//! Spans over OTLP, by the SDK of OpenTelemetry.
//!
//! The SDK queues, batches and sends from a thread of its own. Its bounds are the standard's and are set by the
//! standard's variables: `OTEL_BSP_MAX_QUEUE_SIZE` (2,048 spans), `OTEL_BSP_SCHEDULE_DELAY` (5 s),
//! `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` (512), `OTEL_BSP_EXPORT_TIMEOUT` (30 s). What does not fit is dropped.

use callboard_domain::TraceContext;
use callboard_ports::trace::{self, Kind, SpanData, Value};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace as sdk;
use opentelemetry_sdk::trace::{BatchConfig, BatchSpanProcessor, SpanLinks, SpanProcessor as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long the last spans may take to leave.
const LAST: Duration = Duration::from_secs(2);

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The collector's gRPC endpoint: `http://host:4317`, or `https://`.
    pub endpoint: String,
    /// What this process is called: `service.name`.
    pub service: String,
    /// Which one of its kind it is: `service.instance.id`.
    pub instance: String,
    /// Its version: `service.version`.
    pub version: &'static str,
}

/// The collector's address is none.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint} is no endpoint of an OTLP collector: {why}")]
pub struct Error {
    endpoint: String,
    why: String,
}

/// What went on since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Spans that the collector took.
    pub exported: u64,
    /// Spans that it did not take.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    failed: AtomicU64,
    failing: AtomicBool,
}

/// Exports spans to a collector.
#[derive(Debug)]
pub struct Otlp {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    counts: Arc<Counts>,
}

impl Otlp {
    /// An exporter. It connects when there is something to send. It must be made inside a tokio runtime.
    ///
    /// # Errors
    /// The endpoint is none.
    pub fn new(options: &Options) -> Result<Arc<Self>, Error> {
        let endpoint = options.endpoint.clone();
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.clone()).build();
        let inner = exporter.map_err(|why| Error { endpoint, why: why.to_string() })?;
        let counts = Arc::<Counts>::default();
        let watched = Watched { inner, counts: counts.clone() };
        let mut processor = BatchSpanProcessor::new(watched, BatchConfig::default());
        // What OTEL_RESOURCE_ATTRIBUTES says comes with it.
        let resource = Resource::builder().with_service_name(options.service.clone()).with_attributes([
            KeyValue::new("service.instance.id", options.instance.clone()),
            KeyValue::new("service.version", options.version),
        ]);
        processor.set_resource(&resource.build());
        let scope = InstrumentationScope::builder("callboard").with_version(options.version).build();
        Ok(Arc::new(Self { processor, scope, counts }))
    }

    /// Sends the last spans, for two seconds at most, and takes none any more. It blocks its thread.
    pub fn close(&self) {
        // What has not left by then is lost: a trace is no truth.
        let _ = self.processor.shutdown_with_timeout(LAST);
    }

    /// What went on since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            exported: self.counts.exported.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
        }
    }
}

impl trace::Exporter for Otlp {
    fn export(&self, span: SpanData) {
        self.processor.on_end(sdk_span(span, &self.scope));
    }
}

/// Counts what is sent, and says once when that begins to fail.
#[derive(Debug)]
struct Watched {
    inner: SpanExporter,
    counts: Arc<Counts>,
}

impl sdk::SpanExporter for Watched {
    async fn export(&self, batch: Vec<sdk::SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let sent = self.inner.export(batch).await;
        let counter = if sent.is_ok() { &self.counts.exported } else { &self.counts.failed };
        counter.fetch_add(count, Ordering::Relaxed);
        match (&sent, self.counts.failing.swap(sent.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(%error, "spans cannot be exported: they are dropped"),
            (Ok(()), true) => tracing::info!("spans are exported again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn sdk_span(span: SpanData, scope: &InstrumentationScope) -> sdk::SpanData {
    let mut links = SpanLinks::default();
    links.links = span.links.into_iter().map(|link| Link::with_context(sdk_context(link))).collect();
    sdk::SpanData {
        span_context: sdk_context(span.context),
        parent_span_id: span.parent.map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.to_be_bytes())),
        parent_span_is_remote: matches!(span.kind, Kind::Server | Kind::Consumer),
        span_kind: match span.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        },
        name: span.name,
        start_time: span.began,
        end_time: span.ended,
        attributes: span
            .attributes
            .into_iter()
            .map(|(key, value)| KeyValue::new(key, sdk_value(value)))
            .collect(),
        dropped_attributes_count: 0,
        events: sdk::SpanEvents::default(),
        links,
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

fn sdk_context(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace_id().to_be_bytes()),
        SpanId::from_bytes(context.span_id().to_be_bytes()),
        if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED },
        false,
        TraceState::NONE,
    )
}

fn sdk_value(value: Value) -> opentelemetry::Value {
    match value {
        Value::Text(text) => text.into(),
        Value::Int(number) => number.into(),
        Value::Bool(truth) => truth.into(),
    }
}
