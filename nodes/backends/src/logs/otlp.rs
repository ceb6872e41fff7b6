//! Lines of the log over OTLP, by the SDK of OpenTelemetry.
//!
//! The SDK queues, batches and sends from a thread of its own. Its bounds are the standard's and are set by the
//! standard's variables: `OTEL_BLRP_MAX_QUEUE_SIZE` (2,048 lines), `OTEL_BLRP_SCHEDULE_DELAY` (1 s),
//! `OTEL_BLRP_MAX_EXPORT_BATCH_SIZE` (512). What does not fit is dropped.

use callboard_domain::TraceContext;
use callboard_ports::trace::Value;
use opentelemetry::logs::{AnyValue, LogRecord as _};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{LogExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{BatchLogProcessor, LogBatch, LogProcessor, SdkLogRecord, SdkLoggerProvider};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use crate::trace::otlp::Options;

/// How long the last lines may take to leave.
const LAST: Duration = Duration::from_secs(2);
/// Who speaks while lines are sent: what it says would be sent in turn, for ever.
const SENDERS: [&str; 5] = ["h2", "hyper", "opentelemetry", "tonic", "tower"];

/// The collector's address is none.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint} is no endpoint of an OTLP collector: {why}")]
pub struct Error {
    endpoint: String,
    why: String,
}

/// What a line is said about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ids {
    /// The place in a trace.
    pub trace: Option<TraceContext>,
    /// The task, the attempt, the request.
    pub attributes: Vec<(&'static str, Value)>,
}

/// Tells what is being done by whoever writes a line, on the same thread.
pub type Current = Arc<dyn Fn() -> Ids + Send + Sync>;

/// Sends lines to a collector.
#[derive(Clone, Debug)]
pub struct Otlp {
    provider: SdkLoggerProvider,
}

impl Otlp {
    /// An exporter of lines that are about what `current` says. It connects when there is something to send. It must
    /// be made inside a tokio runtime.
    ///
    /// # Errors
    /// The endpoint is none.
    pub fn new(options: &Options, current: Current) -> Result<Self, Error> {
        let endpoint = options.endpoint.clone();
        let exporter = LogExporter::builder().with_tonic().with_endpoint(endpoint.clone()).build();
        let inner = exporter.map_err(|why| Error { endpoint, why: why.to_string() })?;
        let batch = BatchLogProcessor::builder(Watched { inner, failing: AtomicBool::new(false) }).build();
        // What OTEL_RESOURCE_ATTRIBUTES says comes with it.
        let resource = Resource::builder().with_service_name(options.service.clone()).with_attributes([
            KeyValue::new("service.instance.id", options.instance.clone()),
            KeyValue::new("service.version", options.version),
        ]);
        let provider = SdkLoggerProvider::builder()
            .with_resource(resource.build())
            .with_log_processor(WithIds { batch, current })
            .build();
        Ok(Self { provider })
    }

    /// For a bridge from whatever lines are written with.
    #[must_use]
    pub fn provider(&self) -> &SdkLoggerProvider {
        &self.provider
    }

    /// Sends the last lines, for two seconds at most, and takes none any more. It blocks its thread.
    pub fn close(&self) {
        // What has not left by then is on standard error.
        let _ = self.provider.shutdown_with_timeout(LAST);
    }
}

/// Adds to each line what it is about, before it is queued: on the thread that writes it.
struct WithIds {
    batch: BatchLogProcessor,
    current: Current,
}

impl std::fmt::Debug for WithIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WithIds").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl LogProcessor for WithIds {
    fn emit(&self, line: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if line.target().is_some_and(|target| is_of_a_sender(target)) {
            return;
        }
        let ids = (self.current)();
        if let Some(place) = ids.trace {
            let flags = if place.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
            let trace = TraceId::from_bytes(place.trace_id().to_be_bytes());
            line.set_trace_context(trace, SpanId::from_bytes(place.span_id().to_be_bytes()), Some(flags));
        }
        for (name, value) in ids.attributes {
            // What the line itself says is more exact.
            if line.attributes_iter().any(|(said, _)| said.as_str() == name) {
                continue;
            }
            match value {
                Value::Text(text) => line.add_attribute(name, AnyValue::from(text.into_owned())),
                Value::Int(number) => line.add_attribute(name, AnyValue::from(number)),
                Value::Bool(truth) => line.add_attribute(name, AnyValue::from(truth)),
            }
        }
        self.batch.emit(line, scope);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batch.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batch.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batch.set_resource(resource);
    }
}

fn is_of_a_sender(target: &str) -> bool {
    SENDERS.iter().any(|sender| {
        target.strip_prefix(sender).is_some_and(|rest| {
            // `opentelemetry_sdk` is one too, `h2o` is none.
            rest.is_empty() || rest.starts_with("::") || rest.starts_with('_') || rest.starts_with('-')
        })
    })
}

/// Says once when sending begins to fail, and once when it is over.
#[derive(Debug)]
struct Watched {
    inner: LogExporter,
    failing: AtomicBool,
}

impl opentelemetry_sdk::logs::LogExporter for Watched {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let sent = self.inner.export(batch).await;
        match (&sent, self.failing.swap(sent.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(%error, "lines of the log cannot be exported: they are dropped")
            }
            (Ok(()), true) => tracing::info!("lines of the log are exported again"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_senders_say_is_not_sent() {
        for sender in [
            "h2",
            "h2::codec",
            "hyper_util::client",
            "opentelemetry_sdk",
            "opentelemetry-otlp",
            "tonic::transport",
        ] {
            assert!(is_of_a_sender(sender), "{sender}");
        }
        for other in ["callboard::up", "h2o", "towers", "sqlx::query", ""] {
            assert!(!is_of_a_sender(other), "{other}");
        }
    }
}
