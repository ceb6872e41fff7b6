//! The registered kinds, with their schemas compiled: what admission checks inputs against.

use callboard_domain::KindSpec;
use callboard_ports::Store;
use callboard_ports::store::Error;
use callboard_sdk::schema::Validator;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The store is asked for a kind that is not known at most this often.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// A kind, ready to check inputs.
pub(super) struct Entry {
    /// Its name, shared by its tasks.
    pub name: Arc<str>,
    /// Its default queue, shared by its tasks.
    pub queue: Arc<str>,
    /// What is known of it.
    pub spec: KindSpec,
    /// Checks its inputs.
    pub validator: Validator,
}

/// The kinds of the store's registry. Read again when a kind is asked for that is not known, so a kind
/// that another node brings is found.
pub struct Catalog {
    store: Arc<dyn Store>,
    kinds: RwLock<BTreeMap<String, Arc<Entry>>>,
    read_at: Mutex<Option<Instant>>,
}

impl Catalog {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, kinds: RwLock::default(), read_at: Mutex::default() }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Arc<Entry>>, Error> {
        if let Some(entry) = self.known(name) {
            return Ok(Some(entry));
        }
        // Held across the read: one reader at a time is enough, and the others find what it read.
        let mut read_at = self.read_at.lock().await;
        if read_at.is_none_or(|at| at.elapsed() >= REFRESH_EVERY) {
            let kinds = compile(self.store.kinds().await?);
            *self.kinds.write().unwrap_or_else(PoisonError::into_inner) = kinds;
            *read_at = Some(Instant::now());
        }
        Ok(self.known(name))
    }

    fn known(&self, name: &str) -> Option<Arc<Entry>> {
        self.kinds.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The names of the kinds that are known.
    pub(super) fn names(&self) -> Vec<String> {
        self.kinds.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

fn compile(kinds: Vec<KindSpec>) -> BTreeMap<String, Arc<Entry>> {
    let entry = |spec: KindSpec| match Validator::new(&spec.input_schema) {
        Ok(validator) => {
            let (name, queue) = (spec.name.as_str().into(), spec.queue.as_str().into());
            Some((spec.name.clone(), Arc::new(Entry { name, queue, spec, validator })))
        }
        Err(error) => {
            tracing::error!(kind = spec.name, %error, "a registered kind has no valid schema");
            None
        }
    };
    kinds.into_iter().filter_map(entry).collect()
}
