//! The actor: a mailbox around the [`Engine`], and the loops' keeper.

use crate::engine::{Engine, Load};
use crate::{notes, reconcile, take};
use callboard_contracts::mesh::v1;
use callboard_contracts::mesh::v1::worker_service_server::WorkerService;
use callboard_domain::TaskId;
use callboard_runtime::actor::{Address, Behaviour, Handle, Handling, Request, Scope};
use futures::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Response, Status};

/// How long a call to the actor may take, beside the time it asks for.
const DEADLINE: Duration = Duration::from_secs(5);

/// The Worker's state: which engine it drives.
pub struct Worker {
    engine: Arc<Engine>,
    life: CancellationToken,
    /// Ends this life's loops when a restart replaces it.
    _ends: DropGuard,
}

impl Worker {
    /// A worker that drives an engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        let life = CancellationToken::new();
        Self { engine, _ends: life.clone().drop_guard(), life }
    }
}

impl Behaviour for Worker {
    const NAME: &'static str = "worker";

    fn started(&mut self, scope: &Scope) {
        scope.spawn(take::take(Arc::clone(&self.engine), self.life.clone()));
        scope.spawn(notes::write_starts(Arc::clone(&self.engine), self.life.clone()));
        scope.spawn(notes::write_progress(Arc::clone(&self.engine), self.life.clone()));
        scope.spawn(reconcile::reconcile(Arc::clone(&self.engine), self.life.clone()));
    }
}

struct Cancel(Vec<TaskId>);

impl Request for Cancel {
    type Reply = usize;
}

impl Handle<Cancel> for Worker {
    fn handle(&mut self, Cancel(ids): Cancel) -> Handling<usize> {
        Handling::Now(self.engine.cancel(&ids))
    }
}

struct Drain(Duration);

impl Request for Drain {
    type Reply = (usize, usize);
}

impl Handle<Drain> for Worker {
    fn handle(&mut self, Drain(grace): Drain) -> Handling<(usize, usize)> {
        let engine = Arc::clone(&self.engine);
        Handling::Later(async move { engine.drain(grace).await }.boxed())
    }
}

struct GetLoad;

impl Request for GetLoad {
    type Reply = Load;
}

impl Handle<GetLoad> for Worker {
    fn handle(&mut self, _: GetLoad) -> Handling<Load> {
        Handling::Now(self.engine.load())
    }
}

/// The Worker as a service of the mesh.
pub struct Service {
    actor: Address<Worker>,
}

impl Service {
    /// A service in front of an actor.
    #[must_use]
    pub fn new(actor: Address<Worker>) -> Self {
        Self { actor }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[tonic::async_trait]
impl WorkerService for Service {
    async fn cancel_tasks(
        &self,
        request: tonic::Request<v1::CancelTasksRequest>,
    ) -> Result<Response<v1::CancelTasksResponse>, Status> {
        let tasks = request.into_inner().tasks;
        // Between nodes ids are well formed; one that is not is held by nobody.
        let ids = tasks.iter().filter_map(|fence| fence.task_id.parse().ok()).collect();
        let signalled = self.actor.call(Cancel(ids), DEADLINE).await?;
        Ok(Response::new(v1::CancelTasksResponse { signalled: count(signalled) }))
    }

    async fn drain(
        &self,
        request: tonic::Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        let grace = Duration::from_millis(request.into_inner().grace_ms);
        let (finished, returned) = self.actor.call(Drain(grace), grace + DEADLINE).await?;
        Ok(Response::new(v1::DrainResponse { finished: count(finished), returned: count(returned) }))
    }

    async fn get_load(
        &self,
        _: tonic::Request<v1::GetLoadRequest>,
    ) -> Result<Response<v1::GetLoadResponse>, Status> {
        let load = self.actor.call(GetLoad, DEADLINE).await?;
        Ok(Response::new(v1::GetLoadResponse {
            slots: count(load.slots),
            slots_used: count(load.slots_used),
            claimed: count(load.claimed),
            draining: load.draining,
        }))
    }
}
