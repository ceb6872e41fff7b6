use crate::node::Node;
use crate::reconcile::{self, Reconciler};
use crate::{cutoff, observe, status};
use callboard_contracts::mesh::v1;
use callboard_runtime::actor::{Behaviour, Handle, Handling, Request, Scope};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often the runtime shows that it works.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// The Supervisor's state: which node it keeps.
pub struct Supervisor {
    node: Arc<Node>,
    life: CancellationToken,
    /// Ends this life's loops when a restart replaces it.
    _ends: DropGuard,
}

impl Supervisor {
    /// The supervisor of a node.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        let life = CancellationToken::new();
        Self { node, _ends: life.clone().drop_guard(), life }
    }

    fn keep(&self, scope: &Scope, work: impl Future<Output = ()> + Send + 'static) {
        let life = self.life.clone();
        scope.spawn(async move {
            life.run_until_cancelled(work).await;
        });
    }

    /// The loops of a node in a cluster. Its session is kept by a thread of its own.
    fn keep_membership(&self, scope: &Scope) {
        let Some(member) = self.node.member.clone() else {
            let node = Arc::clone(&self.node);
            return self.keep(scope, async move { node.keep_session().await });
        };
        self.keep(scope, observe::observe(Arc::clone(&self.node)));
        self.keep(scope, cutoff::watch(Arc::clone(&self.node)));
        self.keep(scope, async move {
            loop {
                member.move_beat();
                tokio::time::sleep(BEAT_EVERY).await;
            }
        });
    }

    fn reconcile(&self, scope: &Scope, reconciler: Reconciler) {
        match &self.node.runner {
            Some(runner) => self.keep(scope, runner(reconciler)),
            None => self.keep(scope, reconciler.forever()),
        }
    }
}

impl Behaviour for Supervisor {
    const NAME: &'static str = "supervisor";

    fn started(&mut self, scope: &Scope) {
        self.keep_membership(scope);
        let node = Arc::clone(&self.node);
        self.keep(scope, async move { node.watch_children().await });
        self.keep(scope, reconcile::due(Arc::clone(&self.node)));
        self.reconcile(scope, reconcile::orphans(&self.node));
        for reconciler in self.node.reconcilers.clone() {
            self.reconcile(scope, reconciler);
        }
    }
}

/// How the node is. Answered through the mailbox, so that the answer shows that the actor works.
pub(crate) struct GetStatus;

impl Request for GetStatus {
    type Reply = v1::GetStatusResponse;
}

impl Handle<GetStatus> for Supervisor {
    fn handle(&mut self, _: GetStatus) -> Handling<v1::GetStatusResponse> {
        let node = Arc::clone(&self.node);
        Handling::Later(Box::pin(async move { status::status(&node).await }))
    }
}
