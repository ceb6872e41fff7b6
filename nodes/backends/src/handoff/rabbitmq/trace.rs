//! The span of a publish, in a message's `traceparent` header.
//!
//! A message carries tasks of many traces, so its span is in a trace of its own: whoever consumes it links to it,
//! and never makes it the parent of a task. A task's own trace context comes from its row, with the claim.

use callboard_domain::TraceContext;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

const TRACEPARENT: &str = "traceparent";

/// Makes the first span of a new trace.
pub(super) fn new() -> TraceContext {
    let [trace, span] = [uuid::Uuid::now_v7(), uuid::Uuid::now_v7()];
    TraceContext::root(trace.as_u128(), span.as_u64_pair().1)
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
        let (one, other) = (new(), new());
        assert_ne!(one.trace_id(), other.trace_id());
        assert_eq!(link(&with(BasicProperties::default(), one)), Some(one));
        assert_eq!(link(&BasicProperties::default()), None);
        let mut headers = FieldTable::default();
        headers.insert(TRACEPARENT.into(), AMQPValue::LongInt(7));
        assert_eq!(link(&BasicProperties::default().with_headers(headers)), None);
    }
}
