//! What operators look at: `/livez`, `/readyz` and `/metrics` over HTTP.

use super::Parts;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use callboard_contracts::mesh::v1::{GetLoadRequest, GetStatusRequest};
use callboard_domain::State as TaskState;
use callboard_runtime::mesh::{SupervisorClient, WorkerClient};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(2);

/// What the pages show.
#[derive(Clone)]
pub(super) struct Pages {
    store: Arc<dyn callboard_ports::Store>,
    worker: Option<WorkerClient>,
    supervisor: SupervisorClient,
    stopping: CancellationToken,
}

impl Pages {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            store: parts.backends.store.clone(),
            worker: parts.worker.clone(),
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

/// In the text format of Prometheus.
async fn metrics(State(pages): State<Pages>) -> (StatusCode, String) {
    let Ok(counts) = pages.store.counts().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n".into());
    };
    let load = match &pages.worker {
        Some(worker) => worker.get_load(GetLoadRequest::default(), DEADLINE).await.unwrap_or_default(),
        None => Default::default(),
    };
    let status = pages.supervisor.get_status(GetStatusRequest::default(), DEADLINE).await.unwrap_or_default();
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, kind: &str, samples: &[(String, u64)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let label = |key: &str, value: &str| format!("{{{key}=\"{value}\"}}");
    let tasks: Vec<_> = TaskState::ALL
        .iter()
        .zip(counts)
        .map(|(state, count)| (label("state", &format!("{state:?}").to_lowercase()), count))
        .collect();
    gauge("callboard_tasks", "Tasks in each state.", "gauge", &tasks);
    gauge(
        "callboard_worker_slots",
        "Tasks that can run at once.",
        "gauge",
        &[(String::new(), load.slots.into())],
    );
    let used = [(String::new(), load.slots_used.into())];
    gauge("callboard_worker_slots_used", "Tasks that run.", "gauge", &used);
    let restarts: Vec<_> =
        status.actor_restarts.iter().map(|(actor, count)| (label("actor", actor), *count)).collect();
    gauge("callboard_actor_restarts_total", "Restarts of each actor.", "counter", &restarts);
    let memory = super::memory::resident_bytes().unwrap_or(0);
    gauge("callboard_memory_bytes", "Memory of this process.", "gauge", &[(String::new(), memory)]);
    (StatusCode::OK, text)
}
