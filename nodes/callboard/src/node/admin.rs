//! What operators look at: `/livez`, `/readyz` and `/metrics` over HTTP.

use super::Parts;
use super::metrics::{Page, Servers};
use super::wiring::Cluster;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use callboard_contracts::mesh::v1::{GetLoadRequest, GetStatusRequest};
use callboard_ports::{Outbox as _, store};
use callboard_runtime::mesh::{SupervisorClient, WorkerClient};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(2);

/// What the pages show.
#[derive(Clone)]
pub(super) struct Pages {
    store: Arc<dyn callboard_ports::Store>,
    cluster: Option<Arc<Cluster>>,
    worker: Option<WorkerClient>,
    supervisor: SupervisorClient,
    stopping: CancellationToken,
}

impl Pages {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            store: parts.backends.store.clone(),
            cluster: parts.cluster.clone(),
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

/// In the text format of Prometheus. What cannot be had in time is left out: also of a node whose servers are
/// away something can be seen.
async fn metrics(State(pages): State<Pages>) -> String {
    let counts = within(pages.store.counts());
    let backlog = async {
        let cluster = pages.cluster.as_ref()?;
        within(cluster.store.backlog()).await.ok()
    };
    let load = async {
        let worker = pages.worker.as_ref()?;
        worker.get_load(GetLoadRequest::default(), DEADLINE).await.ok()
    };
    let status = pages.supervisor.get_status(GetStatusRequest::default(), DEADLINE);
    let (counts, backlog, load, status) = tokio::join!(counts, backlog, load, status);
    let mut page = Page::default();
    page.node(&load.unwrap_or_default(), &status.unwrap_or_default(), super::memory::resident_bytes());
    page.tasks(&counts);
    let servers = pages.cluster.as_ref().map(|cluster| Servers::of(cluster, backlog));
    page.backends(&counts, servers.as_ref());
    if let Some(servers) = &servers {
        page.servers(servers);
    }
    page.text()
}

/// Asks the store, for a bounded time.
async fn within<T>(asked: impl Future<Output = Result<T, store::Error>>) -> Result<T, store::Error> {
    let late = |_| Err(store::Error::Unavailable("no answer in time".into()));
    tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(late)
}
