//! Between the domain and the generated types of `contracts`. Conversions towards the wire never fail;
//! those from the wire name what is wrong.

mod alert;
mod chat;
mod embedding;
mod llm;
mod task;

pub use alert::{alert_to_proto, observation_from_proto, observation_to_proto};
pub use chat::{tool_call_delta_to_proto, tool_call_from_proto, tool_call_to_proto};
pub use embedding::{
    embedding_request_from_proto, embedding_request_to_proto, embeddings_from_proto, embeddings_to_proto,
};
pub use llm::{
    attempt_to_proto, error_from_status, error_to_status, image_request_from_proto, image_request_to_proto,
    kind_in, summary_from_proto, summary_to_proto, text_request_from_proto, text_request_to_proto,
    text_response_from_proto,
};
pub use task::{event_to_proto, kind_to_proto, state_from_proto, state_to_proto, task_to_proto};

use crate::time::Timestamp;
use std::time::Duration;

/// A point in time on the wire.
#[must_use]
pub fn time_to_proto(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}

/// A point in time from the wire. What lies outside our range is its nearest end.
#[must_use]
pub fn time_from_proto(at: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_micros(at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos) / 1_000))
}

/// A span on the wire.
#[must_use]
pub fn duration_to_proto(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

/// A span from the wire, if it is not negative.
#[must_use]
pub fn duration_from_proto(span: &prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(span.seconds).ok()?;
    let nanos = u32::try_from(span.nanos).ok()?;
    Duration::from_secs(seconds).checked_add(Duration::from_nanos(u64::from(nanos)))
}
