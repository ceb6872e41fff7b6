//! What the kinds that call models have in common.

use callboard_sdk::llm::Summary;
use callboard_sdk::{Failure, TaskContext};
use serde::Serialize;
use std::future::Future;

/// The provider whose answers are templates: no model is behind them.
const OFFLINE: &str = "offline";

/// Whether the offline generator answered.
pub(crate) fn is_offline(summary: &Summary) -> bool {
    summary.provider == OFFLINE
}

/// Who answered, and whether it is the answer that was asked for. Part of every result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Origin {
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) degraded_reason: Option<String>,
}

impl From<Summary> for Origin {
    fn from(summary: Summary) -> Self {
        let reason = match summary.degraded {
            // The broker's routing says so, too; a template must never pass for a model's answer.
            None if summary.provider == OFFLINE => Some("the offline generator answered".to_owned()),
            reason => reason,
        };
        Self {
            provider: summary.provider,
            model: summary.model,
            degraded: reason.is_some(),
            degraded_reason: reason,
        }
    }
}

/// Runs a call until it is done or the task is cancelled, whichever is first. Dropping the call cancels
/// it at the provider: nobody pays for what nobody waits for.
pub(crate) async fn unless_cancelled<T>(
    ctx: &TaskContext,
    call: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = call => Ok(done),
        () = ctx.cancelled().cancelled() => {
            Err(Failure::retryable("stopped: the task was cancelled, or this node no longer holds it"))
        }
    }
}

/// A model's text without U+0000, which not every store can hold.
pub(crate) fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}
