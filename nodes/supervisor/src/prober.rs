use crate::cluster::{MESH, Prober};
use async_trait::async_trait;
use callboard_contracts::mesh::v1::GetStatusRequest;
use callboard_ports::sessions::Session;
use callboard_runtime::membership::Probe;
use callboard_runtime::peers::{Peer, Peers};
use std::time::Duration;

/// How long one answer may take. A node that needs longer is not proven dead by it, only asked again.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Asks other nodes over the mesh.
pub struct MeshProber {
    peers: Peers,
}

impl MeshProber {
    /// Asks those of `peers` by their connection, and others at their address.
    #[must_use]
    pub const fn new(peers: Peers) -> Self {
        Self { peers }
    }

    /// The sessions as the mesh knows them: those that tell where their node is reached.
    #[must_use]
    pub fn peers_of(live: &[Session]) -> Vec<Peer> {
        let peer = |session: &Session| {
            let opened = &session.opened;
            Some(Peer {
                session: opened.id,
                name: opened.node.clone(),
                mesh_address: opened.addresses.get(MESH)?.clone(),
                roles: opened.roles.clone(),
            })
        };
        live.iter().filter_map(peer).collect()
    }
}

#[async_trait]
impl Prober for MeshProber {
    async fn probe(&self, address: &str) -> Probe {
        self.peers.probe(address, ANSWER_WITHIN).await
    }

    async fn store_reachable(&self, peer: &Session) -> Option<bool> {
        let client = self.peers.supervisor(peer.opened.id)?;
        let status = client.get_status(GetStatusRequest::default(), ANSWER_WITHIN).await.ok()?;
        Some(status.store_reachable)
    }
}
