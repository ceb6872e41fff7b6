//! What a node tells of itself.

use crate::cluster::Member;
use crate::node::Node;
use callboard_contracts::mesh::v1;
use callboard_domain::Timestamp;
use callboard_domain::convert::time_to_proto;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a ping of the store may take.
const PING: Duration = Duration::from_secs(1);

/// What others know of the node. Each is asked for every status and must not block.
#[derive(Clone)]
pub struct Sources {
    /// The nodes the mesh avoids. What this crate suspects is added.
    pub suspects: Arc<dyn Fn() -> Vec<v1::Suspect> + Send + Sync>,
    /// How loaded its worker is, if it hosts one.
    pub load: Arc<dyn Fn() -> Option<v1::WorkerLoad> + Send + Sync>,
    /// The memory of its process, in bytes.
    pub resident_bytes: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    /// How it stands with each backend that is not well, for a person.
    pub backends: Arc<dyn Fn() -> BTreeMap<String, String> + Send + Sync>,
    /// The singletons it holds, with the epoch of each.
    pub singletons: Arc<dyn Fn() -> BTreeMap<String, u64> + Send + Sync>,
}

impl Default for Sources {
    /// Nothing is known.
    fn default() -> Self {
        Self {
            suspects: Arc::new(Vec::new),
            load: Arc::new(|| None),
            resident_bytes: Arc::new(|| None),
            backends: Arc::new(BTreeMap::new),
            singletons: Arc::new(BTreeMap::new),
        }
    }
}

/// How a node is.
pub(crate) async fn status(node: &Node) -> v1::GetStatusResponse {
    let store_reachable = store_reachable(node).await;
    let sources = &node.status;
    let restarts = node.deps.restarts.counts();
    let memory = (sources.resident_bytes)().map(|resident_bytes| v1::Memory { resident_bytes });
    let mut suspects = (sources.suspects)();
    if let Some(member) = &node.member {
        suspects.extend(own_suspects(member));
    }
    let mut backends: HashMap<_, _> = (sources.backends)().into_iter().collect();
    if let Some(standing) = own_standing(node) {
        backends.insert("session".into(), standing);
    }
    v1::GetStatusResponse {
        node: node.options.name.clone(),
        session_id: node.session().map(|id| id.to_string()).unwrap_or_default(),
        actor_restarts: restarts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        draining: node.is_closing(),
        incarnation: node.incarnation(),
        started_at: Some(time_to_proto(node.started_at)),
        version: node.options.version.clone(),
        roles: node.options.roles.clone(),
        store_reachable,
        suspects,
        load: (sources.load)(),
        memory,
        backends,
        singletons: (sources.singletons)().into_iter().collect(),
    }
}

/// Whether the store answers this node: by its last renewal, or by a ping. A peer that is cut off stops its
/// handlers on the strength of this, so what is old does not count.
async fn store_reachable(node: &Node) -> bool {
    let Some(member) = &node.member else { return true };
    if member.lease().store_answers(Instant::now()) {
        return true;
    }
    matches!(timeout(PING, member.cluster.sessions.live_sessions()).await, Ok(Ok(_)))
}

fn own_standing(node: &Node) -> Option<String> {
    let member = node.member.as_ref()?;
    let lease = member.lease();
    if lease.is_cut_off() {
        return Some("cut off: the store answers other nodes and not this one".into());
    }
    let silence = lease.silence(Instant::now()).filter(|_| lease.is_failing())?;
    Some(format!("not renewed for {} s: nothing is claimed", silence.as_secs()))
}

/// The nodes whose counter stands still or whose address is wrong.
fn own_suspects(member: &Member) -> Vec<v1::Suspect> {
    let live = member.live.borrow().clone();
    let observer = member.observer();
    let suspect = |id, since: Timestamp, reason: String| {
        let session = live.iter().find(|s| s.opened.id == id)?;
        Some(v1::Suspect {
            node: session.opened.node.clone(),
            session_id: id.to_string(),
            reason,
            since: Some(time_to_proto(since)),
        })
    };
    let quiet =
        observer.quiet.iter().map(|(id, since)| (*id, *since, "its session is not renewed".to_owned()));
    let wrong = observer
        .wrong
        .iter()
        .map(|(id, (who, since))| (*id, *since, format!("its mesh address is wrong: {who} answers there")));
    quiet.chain(wrong).filter_map(|(id, since, reason)| suspect(id, since, reason)).collect()
}
