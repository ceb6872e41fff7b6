//! The public API: one file per service of gRPC, and `openai`, which speaks OpenAI's API beside them. Requests are
//! checked here, and nowhere further in.

mod admins;
mod admission;
mod artifacts;
mod catalog;
mod cause;
mod cluster;
mod errors;
mod experiments;
mod openai;
mod page;
mod provider_nodes;
mod providers;
mod public;
mod reads;
mod tasks;
mod watch;

pub use admission::Admission;
pub use catalog::Catalog;
pub use cause::scoped;
pub use openai::{Endpoint, HttpMetrics, Options as EndpointOptions, RouteRead};
pub use public::Public;

use callboard_domain::id::TaskRef;
use callboard_domain::{Code, Error};
use callboard_domain::{SessionId, TaskId};
use callboard_ports::{Artifacts, Clock, Store, Tracer};
use callboard_runtime::mesh::{BrokerClient, SupervisorClient, WorkerClient};
use callboard_runtime::watch::Hub;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the services stand on.
pub struct Deps {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Images and large results.
    pub artifacts: Arc<dyn Artifacts>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes ids of tasks: UUIDv7, rising.
    pub new_task_id: Arc<dyn Fn() -> TaskId + Send + Sync>,
    /// Records calls and tasks.
    pub tracer: Tracer,
    /// Who watches on this node.
    pub hub: Hub,
    /// The Worker of the node that holds a session, this one's among them; none if it cannot be reached.
    pub workers: Workers,
    /// The ProviderBroker, here or at another node.
    pub broker: BrokerClient,
    /// The ProviderBroker of each node that has one, this one's among them, by the name of the node.
    pub brokers: Brokers,
    /// The Supervisor of the node that holds a session, this one's among them; none if it cannot be reached.
    pub supervisors: Supervisors,
    /// Who this node is.
    pub node: NodeInfo,
    /// How many tasks may wait.
    pub waiting_tasks: u64,
    /// The keys that are configured; one with the role of an admin makes an admin's calls.
    pub keys: Vec<crate::config::Key>,
    /// Set when the node stops: streams end.
    pub stopping: CancellationToken,
    /// What keeps track of streams.
    pub tracker: TaskTracker,
}

/// Finds the Worker of the node that holds a session.
pub type Workers = Arc<dyn Fn(SessionId) -> Option<WorkerClient> + Send + Sync>;

/// Finds the ProviderBrokers of the nodes.
pub type Brokers = Arc<dyn Fn() -> BTreeMap<String, BrokerClient> + Send + Sync>;

/// Finds the Supervisor of the node that holds a session.
pub type Supervisors = Arc<dyn Fn(SessionId) -> Option<SupervisorClient> + Send + Sync>;

/// Who this node is.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: &'static str,
    /// The folder that holds its data.
    pub data_dir: PathBuf,
    /// Where it listens, by listener.
    pub addresses: BTreeMap<String, String>,
}

/// The services of the public API.
#[derive(Clone)]
pub struct Api {
    deps: Arc<Deps>,
    admission: Arc<Admission>,
    admins: Arc<admins::Admins>,
}

impl Api {
    /// The services.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        let catalog = Catalog::new(Arc::clone(&deps.store));
        let admission = Admission::new(&deps, catalog);
        let admins = Arc::new(admins::Admins::new(deps.keys.clone()));
        Self { deps: Arc::new(deps), admission: Arc::new(admission), admins }
    }

    /// What records its calls.
    #[must_use]
    pub fn tracer(&self) -> &Tracer {
        &self.deps.tracer
    }

    /// The task a caller names by its id, or by the end of it.
    async fn resolve(&self, text: &str) -> Result<TaskId, Error> {
        let named: TaskRef = text.parse().map_err(|e: callboard_domain::id::Invalid| {
            Error::field(Code::InvalidArgument, "id", e.to_string())
        })?;
        match named {
            TaskRef::Id(id) => Ok(id),
            TaskRef::Suffix(suffix) => {
                self.deps.store.find(&suffix).await.map_err(|error| errors::about_task(error, text))
            }
        }
    }
}
