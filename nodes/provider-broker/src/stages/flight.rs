//! Single flight: calls for the same at the same time share one.
//!
//! Whoever comes first starts the work, and it belongs to all that wait for it: it goes on while one of them is left,
//! and is dropped with the last. Each of them may be the one that drives it, so nothing is spawned, and nothing starts
//! anew if the first goes away. What it ends with, an error too, goes to all; whoever comes later starts anew.
//!
//! The work of the first is not boxed. A join is, once it happens: it is one pointer, and saves a call.

use super::Fingerprint;
use callboard_domain::llm::{Error, TextResponse};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a call ends with.
pub(super) type Answer = Result<TextResponse, Error>;

/// Takes part in work that is under way; nothing if it is over, or nobody waits for it any more.
type Join = Box<dyn Fn() -> Option<BoxFuture<'static, Answer>> + Send>;

/// Work that is under way.
struct Running {
    /// Which of those that had this key.
    number: u64,
    /// What it answers.
    of: Fingerprint,
    join: Join,
}

/// Work that is under way, by key.
pub(super) struct Flights<K> {
    running: Arc<Mutex<HashMap<K, Running>>>,
    numbers: AtomicU64,
}

/// How a call takes part.
pub(super) enum Part<F> {
    /// It came first.
    First(F),
    /// Somebody else did.
    Joined(BoxFuture<'static, Answer>),
    /// Something else is under way with this key.
    Other,
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self { running: Arc::default(), numbers: AtomicU64::new(0) }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Flights<K> {
    /// Takes part in the work with this key, or begins it. What has the same key answers the same, or is refused.
    pub(super) fn take_part<F>(
        &self,
        key: K,
        of: Fingerprint,
        work: F,
    ) -> Part<impl Future<Output = Answer> + Send + use<F, K>>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if let Some(there) = running.get(&key)
            && let Some(joined) = (there.join)()
        {
            return if there.of == of { Part::Joined(joined) } else { Part::Other };
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let landing = Landing { running: Arc::clone(&self.running), key: key.clone(), number };
        let shared = async move {
            let _landing = landing;
            work.await
        }
        .shared();
        let weak = shared.downgrade();
        let join: Join = Box::new(move || Some(weak.as_ref()?.upgrade()?.boxed()));
        running.insert(key, Running { number, of, join });
        Part::First(shared)
    }

    /// How much is under way.
    pub(super) fn len(&self) -> usize {
        lock(&self.running).len()
    }
}

/// Takes work off the list when it is over, or dropped.
struct Landing<K: Eq + Hash> {
    running: Arc<Mutex<HashMap<K, Running>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash> Drop for Landing<K> {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        // Somebody may have come in the moment since the last one left.
        if running.get(&self.key).is_some_and(|there| there.number == self.number) {
            running.remove(&self.key);
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
