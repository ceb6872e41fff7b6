//! The other nodes of the cluster: how each is reached, and which of them to avoid.
//!
//! - [`Peers::set`] follows the membership. Each peer has one [`Link`]; while it is a peer, its connection is
//!   kept open, so that its end is noticed at once (a killed process closes it) and calls find it ready.
//! - A peer that cannot be reached, whose connection ended or that lets calls time out is *suspected*: routed
//!   calls avoid it while there is another, and [`Options::on_suspect`] is told. An answer clears it.
//! - Suspicion ends no session: that takes a proof, and [`probe`] gathers what can be one.

mod keeper;
mod probe;
mod standing;

pub use probe::probe;
pub use standing::OnSuspect;

use crate::membership::Probe;
use crate::mesh::tls::Identity;
use crate::mesh::{
    AlertClient, BrokerClient, Link, LinkOptions, Route, SupervisorClient, Timing, WorkerClient,
};
use callboard_contracts::mesh::v1;
use callboard_domain::{SessionId, Timestamp, convert};
use callboard_ports::Clock;
use standing::Standing;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// The role that calls models.
const BROKER: &str = "provider-broker";
/// The role that keeps alerts.
const ALERT: &str = "alert";

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its session.
    pub session: SessionId,
    /// Its name.
    pub name: String,
    /// Where its mesh listener is: `host:port`.
    pub mesh_address: String,
    /// The roles it hosts.
    pub roles: Vec<String>,
}

/// What peers are reached with.
#[derive(Clone)]
pub struct Options {
    /// This node's name. It is no peer of itself.
    pub name: String,
    /// This node's certificates. `None`: nothing is encrypted.
    pub identity: Option<Arc<Identity>>,
    /// The wall clock: says since when a peer is suspected.
    pub clock: Arc<dyn Clock>,
    /// How patient connections are.
    pub timing: Timing,
    /// Is told of each failure of a peer. Must not block.
    pub on_suspect: OnSuspect,
    /// What keeps track of the tasks.
    pub tracker: TaskTracker,
}

/// A peer that is avoided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its session.
    pub session: SessionId,
    /// Its name.
    pub name: String,
    /// What was seen first.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

impl From<Suspect> for v1::Suspect {
    fn from(suspect: Suspect) -> Self {
        Self {
            node: suspect.name,
            session_id: suspect.session.to_string(),
            reason: suspect.reason,
            since: Some(convert::time_to_proto(suspect.since)),
        }
    }
}

/// The other nodes. A clone is the same set.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    entries: RwLock<BTreeMap<SessionId, Entry>>,
    /// Where the next routed call begins.
    turn: AtomicUsize,
}

struct Entry {
    peer: Peer,
    link: Link,
    standing: Arc<Standing>,
    /// Ends the keeping of its connection. Calls that are on their way go on.
    _keeps: DropGuard,
}

impl Peers {
    /// No peers yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let inner = Inner { options, entries: RwLock::default(), turn: AtomicUsize::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// The peers are these, from now on. The node itself is left out. Connections to those that stay are kept;
    /// calls to those that leave may still end.
    pub fn set(&self, peers: impl IntoIterator<Item = Peer>) {
        let mut entries = self.inner.entries.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *entries);
        for peer in peers.into_iter().filter(|peer| peer.name != self.inner.options.name) {
            let entry = match before.remove(&peer.session) {
                Some(entry) if entry.peer.mesh_address == peer.mesh_address => Entry { peer, ..entry },
                moved => {
                    if let Some(moved) = moved {
                        moved.standing.leave();
                    }
                    self.inner.enter(peer)
                }
            };
            entries.insert(entry.peer.session, entry);
        }
        for gone in before.values() {
            gone.standing.leave();
        }
    }

    /// The peers, by session.
    #[must_use]
    pub fn list(&self) -> Vec<Peer> {
        self.inner.entries().values().map(|entry| entry.peer.clone()).collect()
    }

    /// The peer of a name. Of several, that of the newest session.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<Peer> {
        // Sessions are numbered by time.
        self.inner.entries().values().rev().find(|e| e.peer.name == name).map(|e| e.peer.clone())
    }

    /// The peer at an address of a mesh listener.
    #[must_use]
    pub fn by_address(&self, mesh_address: &str) -> Option<Peer> {
        let entries = self.inner.entries();
        entries.values().rev().find(|e| e.peer.mesh_address == mesh_address).map(|e| e.peer.clone())
    }

    /// The Worker of a peer; `None` if the session is no peer's.
    #[must_use]
    pub fn worker(&self, session: SessionId) -> Option<WorkerClient> {
        let name = &self.inner.options.name;
        self.inner.entries().get(&session).map(|e| WorkerClient::remote(e.link.clone()).called_by(name))
    }

    /// The Supervisor of a peer; `None` if the session is no peer's.
    #[must_use]
    pub fn supervisor(&self, session: SessionId) -> Option<SupervisorClient> {
        let name = &self.inner.options.name;
        self.inner.entries().get(&session).map(|e| SupervisorClient::remote(e.link.clone()).called_by(name))
    }

    /// The Alert actor of a peer; `None` if the session is no peer's.
    #[must_use]
    pub fn alert(&self, session: SessionId) -> Option<AlertClient> {
        let name = &self.inner.options.name;
        self.inner.entries().get(&session).map(|e| AlertClient::remote(e.link.clone()).called_by(name))
    }

    /// The ProviderBroker of a peer; `None` if the session is no peer's.
    #[must_use]
    pub fn broker(&self, session: SessionId) -> Option<BrokerClient> {
        let name = &self.inner.options.name;
        self.inner.entries().get(&session).map(|e| BrokerClient::remote(e.link.clone()).called_by(name))
    }

    /// Whichever ProviderBroker can answer: peers in turn, those that are suspected last. A call that did not
    /// run goes on to the next.
    #[must_use]
    pub fn brokers(&self) -> BrokerClient {
        let name = self.inner.options.name.clone();
        let client = move |link: Link| BrokerClient::remote(link).called_by(&name);
        BrokerClient::routed(Arc::new(ToRole { inner: Arc::clone(&self.inner), role: BROKER, client }))
    }

    /// The ProviderBroker of each peer that has one.
    #[must_use]
    pub fn every_broker(&self) -> Vec<BrokerClient> {
        let name = &self.inner.options.name;
        self.inner.links(BROKER).into_iter().map(|link| BrokerClient::remote(link).called_by(name)).collect()
    }

    /// Whichever Alert actor can answer, as [`brokers`](Self::brokers).
    #[must_use]
    pub fn alerts(&self) -> AlertClient {
        let name = self.inner.options.name.clone();
        let client = move |link: Link| AlertClient::remote(link).called_by(&name);
        AlertClient::routed(Arc::new(ToRole { inner: Arc::clone(&self.inner), role: ALERT, client }))
    }

    /// The peers that are avoided.
    #[must_use]
    pub fn suspects(&self) -> Vec<Suspect> {
        let entries = self.inner.entries();
        let suspected = entries.values().filter_map(|Entry { peer, standing, .. }| {
            let (reason, since) = standing.suspected()?;
            Some(Suspect { session: peer.session, name: peer.name.clone(), reason, since })
        });
        suspected.collect()
    }

    /// Suspects a peer for a reason that its connection does not show.
    pub fn suspect(&self, session: SessionId, reason: &str) {
        let standing = self.inner.entries().get(&session).map(|entry| Arc::clone(&entry.standing));
        if let Some(standing) = standing {
            standing.suspect(reason);
        }
    }

    /// Asks who is at an address, on a fresh connection with this node's certificates.
    pub async fn probe(&self, address: &str, deadline: Duration) -> Probe {
        let Options { identity, name, .. } = &self.inner.options;
        probe(address, deadline, identity.clone(), name).await
    }
}

impl Inner {
    fn entries(&self) -> RwLockReadGuard<'_, BTreeMap<SessionId, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, peer: Peer) -> Entry {
        let Options { name, identity, clock, timing, on_suspect, tracker } = &self.options;
        let standing =
            Arc::new(Standing::new(peer.session, &peer.name, Arc::clone(clock), Arc::clone(on_suspect)));
        let link = Link::new(LinkOptions {
            peer: format!("node {} at {}", peer.name, peer.mesh_address),
            address: peer.mesh_address.clone(),
            identity: identity.clone(),
            timing: *timing,
            observer: standing.clone(),
            tracker: tracker.clone(),
        });
        let life = CancellationToken::new();
        let keep = keeper::keep(link.clone(), Arc::clone(&standing), peer.name.clone(), name.clone());
        tracker.spawn(life.clone().run_until_cancelled_owned(keep));
        Entry { peer, link, standing, _keeps: life.drop_guard() }
    }

    /// The links to the peers with a role: in turn, and those that are suspected last.
    fn links(&self, role: &str) -> Vec<Link> {
        let entries = self.entries();
        let with_role = entries.values().filter(|entry| entry.peer.roles.iter().any(|r| r == role));
        let (avoided, mut good): (Vec<_>, Vec<_>) =
            with_role.partition(|entry| entry.standing.suspected().is_some());
        if !good.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % good.len();
            good.rotate_left(first);
        }
        good.into_iter().chain(avoided).map(|entry| entry.link.clone()).collect()
    }
}

/// Leads to the peers that host a role.
struct ToRole<F> {
    inner: Arc<Inner>,
    role: &'static str,
    client: F,
}

impl<C, F: Fn(Link) -> C + Send + Sync> Route<C> for ToRole<F> {
    fn role(&self) -> &str {
        self.role
    }

    fn candidates(&self) -> Vec<C> {
        self.inner.links(self.role).into_iter().map(&self.client).collect()
    }
}
