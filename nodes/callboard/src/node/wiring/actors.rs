//! The actors of a node, and the clients of those it does not host.

use super::super::{Deps, StartError};
use super::Cluster;
use super::singletons::Singletons;
use crate::config::{Config, Role};
use callboard_alert as alert;
use callboard_backends::token_buckets::embedded;
use callboard_contracts::mesh::v1::TellRecordsRequest;
use callboard_ports::{Answers, Ledger, Locks, ProviderRecords, Store, TokenBuckets, Tracer};
use callboard_provider_broker as broker;
use callboard_runtime::actor::{self, Address, Behaviour};
use callboard_runtime::mesh::{AlertClient, AlertService, BrokerClient, BrokerService, Route};
use callboard_runtime::peers::Peers;
use callboard_supervisor as supervisor;
use callboard_worker as worker;
use futures::FutureExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// The most messages that wait for one actor.
const MAILBOX: usize = 1_024;

/// The name of the evaluation of alerts, which one node does at a time.
const ALERTS: &str = "alerts";

/// The addresses of a node's actors. `None`: the node does not host the role.
#[derive(Clone)]
pub struct Actors {
    /// The Supervisor.
    pub supervisor: Address<supervisor::Supervisor>,
    /// The Worker.
    pub worker: Option<Address<worker::Worker>>,
    /// The ProviderBroker.
    pub broker: Option<Address<broker::ProviderBroker>>,
    /// The Alert actor.
    pub alert: Option<Address<alert::Alert>>,
}

impl Actors {
    /// How many calls wait in the mailbox of each that is hosted here.
    pub(in crate::node) fn waiting(&self) -> Vec<(&'static str, usize)> {
        fn of<B: Behaviour>(address: &Address<B>) -> (&'static str, usize) {
            (B::NAME, address.waiting())
        }
        let Self { supervisor, worker, broker, alert } = self;
        let others = [worker.as_ref().map(of), broker.as_ref().map(of), alert.as_ref().map(of)];
        [of(supervisor)].into_iter().chain(others.into_iter().flatten()).collect()
    }
}

/// How actors are run, and where their restarts are told. The counter is set once it exists: it reports to
/// an actor.
pub(super) struct Shells {
    options: actor::Options,
    restarts: Arc<OnceLock<Arc<supervisor::Restarts>>>,
}

impl Shells {
    pub(super) fn new(tracker: &TaskTracker) -> Self {
        let restarts: Arc<OnceLock<Arc<supervisor::Restarts>>> = Arc::default();
        let told = Arc::clone(&restarts);
        let options = actor::Options {
            mailbox: MAILBOX,
            backoff: Duration::from_millis(50),
            backoff_cap: Duration::from_secs(5),
            runtime: tokio::runtime::Handle::current(),
            tracker: tracker.clone(),
            on_restart: Arc::new(move |restart| {
                if let Some(restarts) = told.get() {
                    restarts.note(&restart);
                }
            }),
        };
        Self { options, restarts }
    }

    /// Restarts are counted here from now on.
    pub(super) fn report_to(&self, restarts: &Arc<supervisor::Restarts>) {
        let _ = self.restarts.set(Arc::clone(restarts));
    }

    pub(super) fn start<B: Behaviour>(
        &self,
        system: &actor::System,
        make: impl Fn() -> B + Send + 'static,
    ) -> Result<Address<B>, StartError> {
        Ok(actor::start(&system.arbiter()?, self.options.clone(), make))
    }
}

pub(super) fn child<B: Behaviour>(address: &Address<B>) -> supervisor::Child {
    let address = address.clone();
    supervisor::Child {
        name: B::NAME,
        ping: Box::new(move |deadline| {
            let address = address.clone();
            Box::pin(async move { address.ping(deadline).await })
        }),
    }
}

/// A role: hosted here, or reached at a peer that hosts it.
pub(super) struct Hosted<B: Behaviour, S: ?Sized, C> {
    /// Its actor, if it is hosted here.
    pub(super) address: Option<Address<B>>,
    /// Its service, for the mesh.
    pub(super) service: Option<Arc<S>>,
    /// Calls it, wherever it is.
    pub(super) client: C,
}

/// Starts the Alert actor, unless the role is left to peers. In a cluster, what is seen here is brought to the
/// node that evaluates.
pub(super) fn start_alert(
    system: &actor::System,
    shells: &Shells,
    store: &Arc<dyn Store>,
    deps: &Deps,
    cluster: Option<&Arc<Cluster>>,
    hosted: bool,
) -> Result<Hosted<alert::Alert, AlertService, AlertClient>, StartError> {
    if let Some(cluster) = cluster.filter(|_| !hosted) {
        return Ok(Hosted { address: None, service: None, client: cluster.peers.alerts() });
    }
    let alert_deps = alert::Deps {
        store: Arc::clone(store),
        clock: Arc::clone(&deps.clock),
        new_id: Arc::new(|| uuid::Uuid::now_v7().to_string()),
        shared: cluster.is_some(),
    };
    let address = shells.start(system, move || alert::Alert::new(alert_deps.clone()))?;
    let service: Arc<AlertService> = Arc::new(alert::Service::new(address.clone()));
    let own = AlertClient::local(Arc::clone(&service));
    let client = match cluster {
        Some(cluster) => {
            let (peers, singletons) = (cluster.peers.clone(), Arc::clone(&cluster.singletons));
            AlertClient::routed(Arc::new(ToEvaluator { own, peers, singletons }))
        }
        None => own,
    };
    Ok(Hosted { address: Some(address), service: Some(service), client })
}

/// Leads to the node that evaluates alerts; to this one if it is that, nobody knows, or the other is away.
struct ToEvaluator {
    own: AlertClient,
    peers: Peers,
    singletons: Arc<Singletons>,
}

impl Route<AlertClient> for ToEvaluator {
    fn role(&self) -> &str {
        Role::Alert.name()
    }

    fn candidates(&self) -> Vec<AlertClient> {
        let holder = self.singletons.holder(ALERTS).and_then(|name| self.peers.by_name(&name));
        let elsewhere = holder.and_then(|peer| self.peers.alert(peer.session));
        elsewhere.into_iter().chain([self.own.clone()]).collect()
    }
}

/// What the node that evaluates alerts does beside taking reports.
pub(super) fn expire_alerts(alerts: Address<alert::Alert>) -> supervisor::Reconciler {
    let run: supervisor::Run = Arc::new(move |_| {
        let alerts = alerts.clone();
        // Without a fence: done by two nodes it comes to the same.
        Box::pin(async move { alert::expire(&alerts).await })
    });
    supervisor::Reconciler { name: ALERTS, period: alert::EXPIRE_EVERY, run }
}

/// What one node does for the cache: see [`broker::Broker::warm`].
pub(super) fn warm_cache(broker: Arc<broker::Broker>) -> supervisor::Reconciler {
    let run: supervisor::Run = Arc::new(move |_| {
        let broker = Arc::clone(&broker);
        // Without a fence: done by two nodes it costs twice, and comes to the same.
        Box::pin(async move {
            broker.warm().await;
            Ok(())
        })
    });
    supervisor::Reconciler { name: "cache-warming", period: broker::WARMED_EVERY, run }
}

/// How long another node may take to be told something of providers. It reads it in the store if it was not.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// Tells every other node that calls providers.
fn tell(cluster: Option<&Cluster>) -> broker::Tell {
    let peers = cluster.map(|cluster| cluster.peers.clone());
    Arc::new(move |request: TellRecordsRequest| {
        let brokers = peers.as_ref().map(Peers::every_broker).unwrap_or_default();
        let told = brokers.into_iter().map(move |broker| {
            let request = request.clone();
            async move {
                if let Err(error) = broker.tell_records(request, TOLD_WITHIN).await {
                    tracing::debug!(%error, "another node was not told of providers");
                }
            }
        });
        futures::future::join_all(told).map(|_| ()).boxed()
    })
}

/// The ProviderBroker and, if it is hosted here, what it guards.
type HostedBroker =
    (Hosted<broker::ProviderBroker, BrokerService, BrokerClient>, Option<Arc<broker::Broker>>);

/// What a ProviderBroker shares with the rest of its node.
pub(super) struct BrokerParts<'a> {
    /// Takes what it observes.
    pub(super) reporter: &'a alert::Reporter,
    pub(super) tracer: &'a Tracer,
    /// What quotas and budgets are summed up in.
    pub(super) ledger: Arc<dyn Ledger>,
    /// Where what is learned of providers is kept.
    pub(super) records: Arc<dyn ProviderRecords>,
}

/// Starts the ProviderBroker, unless the role is left to other nodes: then no provider key is read here. With it comes
/// what it guards, to be counted.
pub(super) fn start_broker(
    system: &actor::System,
    shells: &Shells,
    config: &Config,
    deps: &Deps,
    parts: BrokerParts<'_>,
    cluster: Option<&Cluster>,
) -> Result<HostedBroker, StartError> {
    let BrokerParts { reporter, tracer, ledger, records } = parts;
    if let Some(cluster) = cluster.filter(|_| !config.node.roles.contains(&Role::ProviderBroker)) {
        return Ok((Hosted { address: None, service: None, client: cluster.peers.brokers() }, None));
    }
    let observe = reporter.clone();
    let buckets: Arc<dyn TokenBuckets> = match cluster {
        Some(cluster) => cluster.buckets.clone(),
        None => Arc::new(embedded::TokenBuckets::default()),
    };
    let broker_deps = broker::Deps {
        clock: Arc::clone(&deps.clock),
        observe: Arc::new(move |seen| observe.report(seen)),
        env: deps.env.clone(),
        tracer: tracer.clone(),
        jitter: Arc::new(rand::random::<f64>),
        buckets,
        answers: cluster.map(|cluster| cluster.answers.clone() as Arc<dyn Answers>),
        locks: cluster.map(|cluster| cluster.locks.clone() as Arc<dyn Locks>),
        sharing: Some(broker::Sharing { store: records, tell: tell(cluster) }),
        read_config: deps.read_config.clone(),
        ledger,
    };
    let state = broker::Broker::new(&config.broker, &broker_deps)?;
    let service = broker::Service::new(Arc::clone(&state));
    let address = shells.start(system, move || broker::ProviderBroker::new(service.clone()))?;
    let service: Arc<BrokerService> = Arc::new(broker::ActorService::new(address.clone()));
    let client = BrokerClient::local(Arc::clone(&service));
    Ok((Hosted { address: Some(address), service: Some(service), client }, Some(state)))
}
