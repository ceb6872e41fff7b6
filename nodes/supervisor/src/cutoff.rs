//! A node that cannot renew asks its peers whether the store is gone, or only gone for it.

use crate::cluster::Member;
use crate::node::Node;
use callboard_ports::sessions::Session;
use futures::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a peer may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// The most peers asked at once: one that is answered by the store is enough.
const PEERS: usize = 16;

/// Watches for the node being cut off, and says so: whoever runs its handlers cancels them.
pub(crate) async fn watch(node: Arc<Node>) {
    let Some(member) = node.member.clone() else { return };
    let mut standing = node.standing();
    loop {
        // The sender lives in the node.
        if standing.wait_for(|now| now.session.is_some() && !now.may_claim).await.is_err() {
            return;
        }
        sleep(member.cluster.timing.period / 2).await;
        if !member.lease().is_failing() {
            continue;
        }
        let reached = ask(&node, &member).await;
        let now = Instant::now();
        let (cut_off, silence) = {
            let mut lease = member.lease();
            lease.heard(now, reached);
            (lease.is_newly_cut_off(now), lease.silence(now))
        };
        if cut_off && let Some(session) = node.session() {
            tracing::error!(
                session.id = %session, ?silence,
                "the store answers other nodes and not this one: it is cut off and cancels what it runs"
            );
            node.publish();
            (member.cluster.hooks.on_cut_off)(session);
        }
    }
}

/// Whether the store answers any peer; `None` if none says anything.
async fn ask(node: &Node, member: &Member) -> Option<bool> {
    let live = node.live();
    let own = node.session();
    let ask = |peer: Session| async move {
        let answer = member.cluster.prober.store_reachable(&peer);
        timeout(ANSWER_WITHIN, answer).await.ok().flatten()
    };
    let peers = live.iter().filter(|s| Some(s.opened.id) != own && s.opened.node != node.options.name);
    let mut answers: FuturesUnordered<_> = peers.take(PEERS).cloned().map(ask).collect();
    let mut reached = None;
    while let Some(answer) = answers.next().await {
        if answer == Some(true) {
            return answer;
        }
        reached = reached.or(answer);
    }
    reached
}
