//! Several brokers that tell each other, and a store that outlives them.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use crate::support::{NOW, Scripted, deps};
use async_trait::async_trait;
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerService;
use callboard_domain::provider_record::Subject;
use callboard_domain::{ProviderRecord, Timestamp};
use callboard_ports::ProviderRecords;
use callboard_ports::store::Error;
use callboard_provider_broker::{Broker, Config, Deps, Provider, Service, Sharing};
use callboard_testkit::ManualClock;
use futures::FutureExt;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

/// A store in memory, which can be away. That real ones keep what they should is their contract's test.
#[derive(Default)]
pub(crate) struct Kept {
    records: Mutex<HashMap<Subject, ProviderRecord>>,
    away: AtomicBool,
}

impl Kept {
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn answers(&self) -> Result<(), Error> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(Error::Unavailable("away".into())),
            false => Ok(()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.lock().unwrap().len()
    }
}

#[async_trait]
impl ProviderRecords for Kept {
    async fn save_provider_records(&self, records: Vec<ProviderRecord>) -> Result<(), Error> {
        self.answers()?;
        let mut kept = self.records.lock().unwrap();
        for record in records {
            let before = kept.remove(&record.subject);
            let after = before.map_or(record.clone(), |before| before.merge(record));
            kept.insert(after.subject.clone(), after);
        }
        Ok(())
    }

    async fn provider_records(&self) -> Result<Vec<ProviderRecord>, Error> {
        self.answers()?;
        Ok(self.records.lock().unwrap().values().cloned().collect())
    }

    async fn forget_breakers(&self, _before: Timestamp) -> Result<(), Error> {
        self.answers()
    }
}

/// A node's broker, and what it does beside calls.
pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    _keeps: JoinSet<()>,
}

/// The nodes of a cluster, by the order they started in.
pub(crate) struct Nodes {
    pub(crate) kept: Arc<Kept>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) told: Arc<Mutex<Vec<Service>>>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { kept: Arc::default(), clock: Arc::new(ManualClock::at(NOW)), told: Arc::default() }
    }
}

impl Nodes {
    /// Starts a node with these providers.
    pub(crate) async fn start(&self, config: &Config, providers: &[&Arc<Scripted>]) -> Node {
        let all = providers.iter().map(|p| Arc::clone(p) as Arc<dyn Provider>).collect();
        self.run(Broker::with_providers(config, all, &self.deps())).await
    }

    /// Starts a node with the providers of its configuration; each variable of the environment holds its own name.
    pub(crate) async fn open(&self, config: &Config) -> Node {
        let env = Arc::new(|name: &str| Some(format!("geheim-{name}")));
        self.run(Broker::new(config, &Deps { env, ..self.deps() }).unwrap()).await
    }

    /// What the next node needs from outside.
    fn deps(&self) -> Deps {
        let (own, all) = (self.told.lock().unwrap().len(), Arc::clone(&self.told));
        let tell = move |request: mesh::TellRecordsRequest| {
            let all = all.lock().unwrap().clone();
            let others = all.into_iter().enumerate().filter(move |(node, _)| *node != own);
            async move {
                for (_, service) in others {
                    service.tell_records(tonic::Request::new(request.clone())).await.unwrap();
                }
            }
            .boxed()
        };
        let sharing = Sharing { store: Arc::clone(&self.kept) as _, tell: Arc::new(tell) };
        Deps { sharing: Some(sharing), clock: Arc::clone(&self.clock) as _, ..deps().0 }
    }

    async fn run(&self, broker: Arc<Broker>) -> Node {
        self.told.lock().unwrap().push(Service::new(Arc::clone(&broker)));
        broker.recall().await;
        let mut keeps = JoinSet::new();
        keeps.spawn(Arc::clone(&broker).keep());
        Node { broker, _keeps: keeps }
    }
}
