//! The spans of a call: its way through the broker, and each provider it went to.
//!
//! Names and attributes are those of OpenTelemetry's conventions for generative AI.

pub(super) use crate::gen_ai::Operation;

use super::Candidate;
use crate::keys::Key;
use callboard_domain::llm::Error;
use callboard_ports::trace::{Kind, Span, Tracer};

impl Operation {
    /// The name of its way through the broker.
    pub(super) const fn pipeline(self) -> &'static str {
        match self {
            Self::Chat => "broker chat",
            Self::Image => "broker generate_image",
            Self::Embed => "broker embeddings",
        }
    }

    /// Begins the span of a call to a provider.
    pub(super) fn call(self, tracer: &Tracer, candidate: &Candidate, pipeline: &Span) -> Span {
        let name = || format!("{} {}", self.name(), candidate.model);
        let mut span = tracer.start(name, Kind::Client, Some(pipeline.context()));
        span.set("gen_ai.operation.name", self.name());
        span.set("gen_ai.provider.name", candidate.adapter.telemetry_name());
        span.set_with("callboard.provider", || candidate.name.clone());
        span.set_with("gen_ai.request.model", || candidate.model.clone());
        span
    }
}

/// The key over which the last try went.
pub(super) fn over(span: &mut Span, key: &Key) {
    if !key.id().is_empty() {
        span.set_with("callboard.provider.key", || key.id().to_owned());
    }
}

/// A call failed.
pub(super) fn failed(span: &mut Span, error: &Error) {
    span.set("error.type", error.kind.reason());
    span.fail(|| error.message.clone());
}
