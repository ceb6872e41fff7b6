//! The JSON form of what the API returns: its field names, enum values as words in lower case, times in
//! RFC 3339, spans in seconds, inputs and results as JSON values, null for what is not set.
//!
//! Inputs and results pass through as they came, so that no number loses a digit.

mod cache;
mod cluster;
mod experiments;
mod models;
mod pretty;
mod providers;
mod tasks;

pub use cache::{CacheStatistics, Cleared};
pub use cluster::{Alerts, Drained, Generated, Kind, Kinds, LogFilters, Nodes, Piece, Providers};
pub use experiments::{Experiment, Experiments, Scored};
pub use models::{Image, Vectors};
pub use pretty::pretty;
pub use providers::{Attempt, Load, Reloads};
pub use tasks::{Event, Events, Line, Refusal, Task, Tasks, Update, unreadable};

use super::time::{duration, point};
use serde_json::value::RawValue;

fn time(at: Option<&prost_types::Timestamp>) -> Option<String> {
    point(at).map(callboard_domain::Timestamp::to_rfc3339)
}

fn seconds(span: Option<&prost_types::Duration>) -> Option<f64> {
    duration(span).map(|s| s.as_secs_f64())
}

fn set(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// JSON bytes as a value; null if they are none.
fn raw(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}
