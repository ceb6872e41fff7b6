//! What operators look at: `/livez`, `/readyz` and `/metrics` over HTTP.

use super::Parts;
use super::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use callboard_contracts::mesh::v1::GetStatusRequest;
use callboard_runtime::mesh::SupervisorClient;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(2);

/// What the pages show.
#[derive(Clone)]
pub(super) struct Pages {
    metrics: Arc<Metrics>,
    supervisor: SupervisorClient,
    stopping: CancellationToken,
}

impl Pages {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            metrics: parts.metrics.clone(),
            supervisor: parts.supervisor.clone(),
            stopping: parts.stopping.clone(),
        }
    }

    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

/// Ready: it holds a session and does not drain.
async fn readyz(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    if pages.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    match pages.supervisor.get_status(GetStatusRequest::default(), DEADLINE).await {
        Ok(status) if !status.session_id.is_empty() => (StatusCode::OK, "ok\n"),
        Ok(_) => (StatusCode::SERVICE_UNAVAILABLE, "no session with the store\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the supervisor does not answer\n"),
    }
}

/// In the text format of Prometheus. What cannot be had in time is left out: also of a node whose servers are
/// away something can be seen.
async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], pages.metrics.page().await.text())
}
