//! A node as one of a cluster: the servers it shares with others, and how it meets them.

use super::super::{DataDir, Deps, StartError};
use super::Backends;
use super::brokered::Brokered;
use super::singletons::Singletons;
use crate::config::{Config, Mesh};
use async_trait::async_trait;
use callboard_backends::answers;
use callboard_backends::locks::redis;
use callboard_backends::redis_link::{self, Link};
use callboard_backends::store::postgres;
use callboard_backends::token_buckets::redis as token_buckets;
use callboard_domain::SessionId;
use callboard_ports::sessions::{Session, SessionStore};
use callboard_ports::store::CommitObserver;
use callboard_ports::{Store, Tracer};
use callboard_runtime::membership::{self, Probe};
use callboard_runtime::mesh::tls::{Files, Identity};
use callboard_runtime::peers::{self, Peer, Peers};
use callboard_runtime::watch::{self as watch_events, Hub, Remote};
use callboard_supervisor::{self as supervisor, MESH, Prober};
use callboard_worker as worker;
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a probe of another node may take.
const PROBE: Duration = Duration::from_millis(800);
/// How long another node may take to say whether the store answers it.
const ASK: Duration = Duration::from_secs(2);
/// How often partitions are made ahead.
const PARTITIONS_EVERY: Duration = Duration::from_secs(3_600);
/// For how long a node leases a part of a limit that is high.
const LEASE: Duration = Duration::from_millis(75);
/// Stands for the address that this machine has towards the store.
const AUTO: &str = "auto";

/// What a node of a cluster has beside its backends.
pub(in crate::node) struct Cluster {
    /// The store, for what no port asks.
    pub(in crate::node) store: Arc<postgres::Store>,
    /// The other nodes.
    pub(in crate::node) peers: Peers,
    /// RabbitMQ, behind the hand-off.
    pub(in crate::node) brokered: Arc<Brokered>,
    /// What one node does at a time, by locks in Redis.
    pub(in crate::node) singletons: Arc<Singletons>,
    /// Limits over all nodes, by token buckets in Redis.
    pub(in crate::node) buckets: Arc<token_buckets::TokenBuckets>,
    /// Answers that nodes share, in Redis.
    pub(super) answers: Arc<answers::redis::Answers>,
    /// Who makes a call that several nodes are asked for, by locks in Redis.
    pub(super) locks: Arc<redis::Locks>,
    /// Events of other nodes, for those who watch here.
    remote: Arc<Remote>,
    /// What it shows others.
    pub(in crate::node) identity: Option<Arc<Identity>>,
    /// Whether it may claim now.
    pub(in crate::node) may_claim: watch::Receiver<bool>,
    /// Where others reach it.
    pub(in crate::node) advertised: String,
    claims: watch::Sender<bool>,
    /// Set once the node exists: peers are suspected to it.
    pub(in crate::node) state: Arc<OnceLock<Arc<supervisor::Node>>>,
    /// How many nodes there are, as last seen.
    pub(in crate::node) nodes: Arc<AtomicUsize>,
    timing: membership::Timing,
    /// How long tasks are kept; `None`: for ever.
    retention: Option<Duration>,
    /// Where the session is written down, and the one of this folder's last life.
    session_file: PathBuf,
    /// Stops the renewals without ending the session.
    pub(in crate::node) ended: CancellationToken,
}

/// What the parts of a node share, as far as its cluster needs it.
pub(super) struct Around<'a> {
    /// Who watches on this node.
    pub(super) hub: &'a Hub,
    pub(super) tracker: &'a TaskTracker,
    pub(super) tracer: &'a Tracer,
}

/// The certificates of the configuration, if it names any.
pub(in crate::node) fn identity(mesh: &Mesh) -> Result<Option<Arc<Identity>>, StartError> {
    if !mesh.has_tls() {
        return Ok(None);
    }
    let files = Files { ca: mesh.ca_file.clone(), cert: mesh.cert_file.clone(), key: mesh.key_file.clone() };
    Ok(Some(Arc::new(Identity::load(&files)?)))
}

/// The address others reach a listener at: the one that is advertised, with this machine's own for `auto`.
fn advertised(config: &Config, bound: SocketAddr) -> Result<String, StartError> {
    match config.mesh.advertise.rsplit_once(':') {
        None => Ok(bound.to_string()),
        Some((AUTO, port)) => Ok(format!("{}:{port}", towards(&config.store.url)?)),
        Some(_) => Ok(config.mesh.advertise.clone()),
    }
}

/// The address this machine has on its way to the store. Nothing is sent for it.
fn towards(url: &str) -> Result<std::net::IpAddr, StartError> {
    let after_user =
        url.rsplit_once('@').map_or_else(|| url.split("://").nth(1).unwrap_or(url), |(_, at)| at);
    let host = after_user.split(['/', '?']).next().unwrap_or_default();
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:5432") };
    let own = || -> std::io::Result<std::net::IpAddr> {
        let to = host.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    own().map_err(|source| StartError::Advertise { host, source })
}

impl Cluster {
    /// Opens the servers.
    pub(super) async fn open(
        config: &Config,
        deps: &Deps,
        dir: &DataDir,
        name: &str,
        mesh: SocketAddr,
        Around { hub, tracker, tracer }: Around<'_>,
    ) -> Result<(Backends, Self), StartError> {
        let mut options = postgres::Options::new(config.store.url.clone(), rand::random::<f64>);
        let direct = &config.store.direct_url;
        options.direct_url = (!direct.is_empty()).then(|| direct.clone());
        options.max_connections = config.store.connections;
        options.tracer = tracer.clone();
        let store = postgres::Store::open(options).await?;
        let state: Arc<OnceLock<Arc<supervisor::Node>>> = Arc::default();
        let suspected = Arc::clone(&state);
        let peers = Peers::new(peers::Options {
            name: name.to_owned(),
            identity: identity(&config.mesh)?,
            clock: Arc::clone(&deps.clock),
            timing: callboard_runtime::mesh::Timing::default(),
            on_suspect: Arc::new(move |session| {
                if let Some(node) = suspected.get() {
                    node.suspect(session);
                }
            }),
            tracker: tracker.clone(),
        });
        let (backends, brokered) = Backends::cluster(config, deps, &store, tracer)?;
        let remote = Remote::start(watch_events::Options {
            hub: hub.clone(),
            reader: store.clone(),
            source: Arc::new(peers.clone()),
            tracker: tracker.clone(),
        });
        let observer: Arc<dyn CommitObserver> = remote.clone();
        Store::observe(&*store, observer);
        let link =
            Link::new(&redis_link::Options::new(config.redis.url.clone(), config.redis.prefix.clone()));
        let link = link.map_err(|e| StartError::Redis(e.to_string()))?;
        let nodes = Arc::new(AtomicUsize::new(1));
        let counted = Arc::clone(&nodes);
        // Where a limit is high, no call asks Redis: a chunk of it is leased. Where it is low, a chunk is one call.
        let lease =
            token_buckets::Lease { prefixes: vec![callboard_provider_broker::LIMITS.into()], span: LEASE };
        let shares = token_buckets::Options::new(move || counted.load(Ordering::Relaxed));
        let shares = token_buckets::Options { lease: Some(lease), ..shares };
        let buckets = Arc::new(token_buckets::TokenBuckets::new(link.clone(), shares));
        let (claims, may_claim) = watch::channel(false);
        let ended = CancellationToken::new();
        let answers = Arc::new(answers::redis::Answers::new(link.clone()));
        let locks = Arc::new(redis::Locks::new(link));
        let singletons = Arc::new(Singletons::new(name, locks.clone(), Arc::clone(&store), ended.clone()));
        let cluster = Self {
            store,
            peers,
            brokered,
            singletons,
            buckets,
            answers,
            locks,
            remote,
            identity: identity(&config.mesh)?,
            may_claim,
            advertised: advertised(config, mesh)?,
            claims,
            state,
            nodes,
            timing: membership::Timing::of(config.mesh.session_timeout),
            retention: config.retention.tasks,
            session_file: dir.path().join("session"),
            ended,
        };
        Ok((backends, cluster))
    }

    /// The sessions that this data folder's earlier lives opened: its lock proves them dead.
    pub(super) fn proven(&self) -> Vec<SessionId> {
        let text = std::fs::read_to_string(&self.session_file).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// What the Supervisor needs to be one of several.
    pub(super) fn membership(&self, engine: Option<&Arc<worker::Engine>>) -> supervisor::Cluster {
        let (engine_cancels, engine_over, engine_cut) = (engine.cloned(), engine.cloned(), engine.cloned());
        let (peers, nodes, remote) = (self.peers.clone(), Arc::clone(&self.nodes), self.remote.clone());
        let file = self.session_file.clone();
        let hooks = supervisor::Hooks {
            on_opened: Arc::new(move |id| {
                // Without the note the next start only has to look longer.
                if let Err(error) = std::fs::write(&file, format!("{id}\n")) {
                    tracing::warn!(%error, "cannot note the session in the data folder");
                }
            }),
            on_cancels: Arc::new(move |ids| {
                // Those that are not held here have ended meanwhile.
                let _ = engine_cancels.as_ref().map(|engine| engine.cancel(&ids));
            }),
            on_session_over: Arc::new(move |id| {
                if let Some(engine) = &engine_over {
                    let stopped = engine.session_over(id);
                    tracing::warn!(session.id = %id, stopped, "the session is over: what ran under it was stopped");
                }
            }),
            on_cut_off: Arc::new(move |id| {
                if let Some(engine) = &engine_cut {
                    let stopped = engine.cut_off();
                    tracing::warn!(session.id = %id, stopped, "cut off from the store: what ran was stopped");
                }
            }),
            on_members: Arc::new(move |sessions| {
                // The others, and this one.
                nodes.store(sessions.len() + 1, Ordering::Relaxed);
                peers.set(sessions.iter().filter_map(peer));
                remote.set_peers(peers.list().into_iter().map(|peer| peer.session));
            }),
            exit: Arc::new(|| std::process::exit(1)),
        };
        supervisor::Cluster {
            timing: self.timing,
            renewals: Arc::new(self.store.sessions()),
            sessions: self.store.clone() as Arc<dyn SessionStore>,
            prober: Arc::new(Probes(self.peers.clone())),
            hooks,
            may_claim: self.claims.clone(),
            ended: self.ended.clone(),
        }
    }

    /// What the cluster repairs beside due tasks and orphans.
    pub(super) fn reconcilers(&self) -> Vec<supervisor::Reconciler> {
        let (store, retention) = (Arc::clone(&self.store), self.retention);
        let run: supervisor::Run = Arc::new(move |_| {
            let store = Arc::clone(&store);
            Box::pin(async move {
                let done = store.maintain_partitions(retention).await?;
                if done.dropped > 0 || done.held_back > 0 {
                    let (dropped, held_back) = (done.dropped, done.held_back);
                    tracing::info!(dropped, held_back, "days of tasks past retention were dropped");
                }
                Ok(())
            })
        });
        vec![
            supervisor::Reconciler { name: "partitions", period: PARTITIONS_EVERY, run },
            self.brokered.reconciler(),
        ]
    }

    /// How the servers are, as this node sees them.
    pub(super) fn standing(&self) -> BTreeMap<String, String> {
        let mut standing = BTreeMap::new();
        if let token_buckets::Standing::Share { away, nodes, error } = self.buckets.standing() {
            let text = format!("away for {} s, limits are shared by {nodes} nodes: {error}", away.as_secs());
            standing.insert("redis".to_owned(), text);
        }
        if let Some(text) = self.singletons.trouble() {
            standing.insert("locks".to_owned(), text);
        }
        if let Some(text) = self.brokered.standing() {
            standing.insert("rabbitmq".to_owned(), text);
        }
        standing
    }
}

fn peer(session: &Session) -> Option<Peer> {
    Some(Peer {
        session: session.opened.id,
        name: session.opened.node.clone(),
        mesh_address: session.opened.addresses.get(MESH)?.clone(),
        roles: session.opened.roles.clone(),
    })
}

/// Asks other nodes over the mesh.
struct Probes(Peers);

#[async_trait]
impl Prober for Probes {
    async fn probe(&self, address: &str) -> Probe {
        self.0.probe(address, PROBE).await
    }

    async fn store_reachable(&self, peer: &Session) -> Option<bool> {
        let node = self.0.supervisor(peer.opened.id)?;
        let request = callboard_contracts::mesh::v1::GetStatusRequest::default();
        Some(node.get_status(request, ASK).await.ok()?.store_reachable)
    }
}
