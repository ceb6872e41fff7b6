//! The lines of the log that a collector takes.

use super::{attributes, hex, text};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::LogsService;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tonic::{Request, Response, Status};

/// A line as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What is said.
    pub body: String,
    /// The module that said it.
    pub target: String,
    /// `INFO`, `WARN`, ..
    pub level: String,
    /// The id of its trace, as 32 hexadecimal digits; empty if it has none.
    pub trace: String,
    /// The id of its span, as 16 hexadecimal digits; empty if it has none.
    pub span: String,
    /// What is said beside, and what is known of the process: `service.name`.
    pub attributes: BTreeMap<String, String>,
}

impl Line {
    /// What an attribute says; empty if it is not there.
    #[must_use]
    pub fn get(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }
}

#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Mutex<Vec<Line>>>);

impl Inbox {
    pub(super) fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tonic::async_trait]
impl LogsService for Inbox {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        for of_process in request.into_inner().resource_logs {
            let process = attributes(of_process.resource.map(|r| r.attributes).unwrap_or_default());
            let records = of_process.scope_logs.into_iter().flat_map(|scope| {
                let target = scope.scope.map(|scope| scope.name).unwrap_or_default();
                scope.log_records.into_iter().map(move |record| (target.clone(), record))
            });
            let lines = records.map(|(target, record)| {
                let mut all = attributes(record.attributes);
                all.extend(process.clone());
                Line {
                    body: text(record.body.and_then(|body| body.value)),
                    target,
                    level: record.severity_text,
                    trace: hex(&record.trace_id),
                    span: hex(&record.span_id),
                    attributes: all,
                }
            });
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
        }
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
