//! What a node stands on: the embedded backends, or the servers of a cluster.

use super::super::{DataDir, Deps, StartError};
use super::brokered::Brokered;
use crate::config::Config;
use callboard_backends::artifacts::folder;
use callboard_backends::handoff::embedded;
use callboard_backends::ledger::sqlite as ledger;
use callboard_backends::store::{postgres, sqlite};
use callboard_ports::store::CommitObserver;
use callboard_ports::{Artifacts, Handoff, Ledger, ProviderRecords, Store, Tracer};
use futures::future::BoxFuture;
use std::sync::Arc;

/// Ends a backend.
pub(in crate::node) type Close = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send + Sync>;

/// The ports of a node, each on its backend.
pub(in crate::node) struct Backends {
    /// The truth.
    pub(in crate::node) store: Arc<dyn Store>,
    /// What is kept of providers.
    pub(in crate::node) records: Arc<dyn ProviderRecords>,
    /// Where tasks come from.
    pub(in crate::node) handoff: Arc<dyn Handoff>,
    /// Images and large results.
    pub(in crate::node) artifacts: Arc<dyn Artifacts>,
    /// What quotas and budgets are summed up in.
    pub(in crate::node) ledger: Arc<dyn Ledger>,
    /// Ends the hand-off's consumers.
    pub(in crate::node) close_handoff: Close,
    /// Commits what waits, and closes the store.
    pub(in crate::node) close_store: Close,
    /// The store of a node by itself, for what only that can tell.
    pub(in crate::node) embedded: Option<Embedded>,
}

/// What only the embedded backends have.
#[derive(Clone)]
pub(in crate::node) struct Embedded {
    /// The store in the data folder.
    pub(in crate::node) store: Arc<sqlite::Store>,
    /// The hand-off in this process.
    pub(in crate::node) handoff: Arc<embedded::Handoff>,
}

impl Backends {
    /// The servers that the nodes of a cluster share, and what hands tasks off through them.
    pub(super) fn cluster(
        config: &Config,
        deps: &Deps,
        store: &Arc<postgres::Store>,
        tracer: &Tracer,
    ) -> Result<(Self, Arc<Brokered>), StartError> {
        let brokered = Brokered::start(config, deps, store, tracer)?;
        let (closing_handoff, closing_store) = (Arc::clone(&brokered), store.clone());
        let backends = Self {
            store: store.clone(),
            records: store.clone(),
            handoff: brokered.handoff.clone(),
            artifacts: Arc::new(store.artifacts()),
            ledger: Arc::new(store.ledger()),
            close_handoff: Box::new(move || Box::pin(async move { closing_handoff.close().await })),
            close_store: Box::new(move || Box::pin(async move { closing_store.close().await })),
            embedded: None,
        };
        Ok((backends, brokered))
    }

    /// Everything in the data folder and this process.
    pub(super) fn embedded(deps: &Deps, dir: &DataDir) -> Result<Self, StartError> {
        let clock = Arc::clone(&deps.clock);
        let options = sqlite::Options::new(dir.store(), clock.clone(), rand::random::<f64>);
        let store = sqlite::Store::open(options)?;
        let artifacts = folder::Artifacts::open(dir.artifacts());
        let artifacts = artifacts.map_err(|e| StartError::Artifacts(e.to_string()))?;
        let ledger = ledger::Ledger::open(&dir.ledger())?;
        let handoff = embedded::Handoff::new(embedded::Options::new(store.clone(), clock));
        let embedded = Embedded { store: store.clone(), handoff: handoff.clone() };
        let observer: Arc<dyn CommitObserver> = handoff.clone();
        Store::observe(&*store, observer);
        let (closing_handoff, closing_store) = (handoff.clone(), store.clone());
        Ok(Self {
            records: store.clone(),
            store,
            handoff,
            artifacts: Arc::new(artifacts),
            ledger: Arc::new(ledger),
            close_handoff: Box::new(move || Box::pin(async move { closing_handoff.close().await })),
            close_store: Box::new(move || Box::pin(async move { closing_store.close().await })),
            embedded: Some(embedded),
        })
    }
}
