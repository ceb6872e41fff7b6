//! The span of a publish, in a message's `traceparent` header.
//!
//! A message carries tasks of many traces, so its span is in a trace of its own: whoever consumes it links to it,
//! and never makes it the parent of a task. A task's own trace context comes from its row, with the claim.

use super::message;
use super::publish::{Job, Target};
use callboard_domain::TraceContext;
use callboard_ports::trace::{Kind, Span, Tracer};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

const TRACEPARENT: &str = "traceparent";

/// Begins the span of a message: the first of its trace.
pub(super) fn begin(tracer: &Tracer, job: &Job) -> Span {
    let Target::Queue(queue) = &job.target else {
        return Tracer::default().start(|| "notice", Kind::Producer, None);
    };
    let mut span = tracer.start(|| format!("send {queue}"), Kind::Producer, None);
    span.set("messaging.system", "rabbitmq");
    span.set("messaging.operation.name", "send");
    span.set("messaging.operation.type", "send");
    span.set_with("messaging.destination.name", || queue.clone());
    span.set_with("messaging.batch.message_count", || message::tasks_in(&job.body) as u64);
    span
}

/// The same with the span of its publish.
pub(super) fn with(properties: BasicProperties, publish: TraceContext) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(TRACEPARENT.into(), AMQPValue::LongString(publish.to_string().into()));
    properties.with_headers(headers)
}

/// The span of the publish, if the message has one: those of older versions have none.
pub(super) fn link(properties: &BasicProperties) -> Option<TraceContext> {
    match properties.headers().as_ref()?.inner().get(TRACEPARENT)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?.parse().ok(),
        AMQPValue::ShortString(text) => text.as_str().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_span_it_was_published_with() {
        let tracer = Tracer::default();
        let (one, other) = (tracer.root(), tracer.root());
        assert_ne!(one.trace_id(), other.trace_id());
        assert_eq!(link(&with(BasicProperties::default(), one)), Some(one));
        assert_eq!(link(&BasicProperties::default()), None);
        let mut headers = FieldTable::default();
        headers.insert(TRACEPARENT.into(), AMQPValue::LongInt(7));
        assert_eq!(link(&BasicProperties::default().with_headers(headers)), None);
    }
}
