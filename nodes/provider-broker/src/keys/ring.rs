//! The keys of one provider.

use super::Key;
use super::turns::Turns;
use crate::broker::Deps;
use crate::config::ProviderConfig;
use crate::provider::Provider;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Some of a provider's keys, by their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys(u32);

impl Keys {
    pub(crate) const fn has(self, key: usize) -> bool {
        self.0 >> key & 1 == 1
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn add(&mut self, key: usize) {
        self.0 |= 1 << key;
    }

    pub(crate) const fn remove(&mut self, key: usize) {
        self.0 &= !(1 << key);
    }
}

/// A provider with its keys: at least one, which may be none. For each there is an adapter that uses it.
pub(crate) struct Ring {
    slots: Vec<(Arc<Key>, Arc<dyn Provider>)>,
    turns: Mutex<Turns>,
    /// Woken once for each place over a key that is free again.
    freed: Arc<Notify>,
}

impl Ring {
    /// The provider of a configuration. `adapter` makes the adapter of a key.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(crate) fn new<P: Provider>(
        config: &ProviderConfig,
        deps: &Deps,
        adapter: impl Fn(Arc<Key>) -> Result<P, (&'static str, String)>,
        again: impl Fn(&P, Arc<Key>) -> P,
    ) -> Result<Self, (String, String)> {
        let (mut keys, freed) = (Vec::new(), Arc::<Notify>::default());
        for (id, field, key) in config.all_keys() {
            let key = Key::open(id, &key, &*deps.env, Arc::clone(&freed), Arc::clone(&deps.clock));
            keys.push(key.map_err(|problem| (field, problem))?);
        }
        if keys.is_empty() {
            keys.push(Key::none(Arc::clone(&deps.clock)));
        }
        let first = adapter(Arc::clone(&keys[0])).map_err(|(field, problem)| (field.to_owned(), problem))?;
        let adapters: Vec<_> = keys[1..].iter().map(|key| again(&first, Arc::clone(key))).collect();
        let adapters = std::iter::once(first).chain(adapters).map(|a| Arc::new(a) as Arc<dyn Provider>);
        Ok(Self::of(keys.into_iter().zip(adapters).collect(), freed))
    }

    /// A provider of any kind, without keys.
    pub(crate) fn bare(provider: Arc<dyn Provider>, deps: &Deps) -> Self {
        Self::of(vec![(Key::none(Arc::clone(&deps.clock)), provider)], Arc::default())
    }

    fn of(slots: Vec<(Arc<Key>, Arc<dyn Provider>)>, freed: Arc<Notify>) -> Self {
        let turns = Mutex::new(Turns::new(slots.iter().map(|(key, _)| key.weight()).collect()));
        Self { slots, turns, freed }
    }

    /// The provider, with whichever key.
    pub(crate) fn any(&self) -> &Arc<dyn Provider> {
        &self.slots[0].1
    }

    /// The provider with one of its keys.
    pub(crate) fn with(&self, key: usize) -> &dyn Provider {
        &*self.slots[key].1
    }

    /// The keys, in their order.
    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &Arc<Key>> {
        self.slots.iter().map(|(key, _)| key)
    }

    /// How many calls are over its keys now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.keys().map(|key| key.in_flight()).sum()
    }

    /// One of the keys.
    pub(crate) fn key(&self, key: usize) -> &Arc<Key> {
        &self.slots[key].0
    }

    /// The share of the calls that a key has now, which may not be that of the configuration.
    pub(crate) fn weight(&self, key: usize) -> u32 {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).weight(key)
    }

    /// Gives a key another share of the calls from now on; none: that of the configuration.
    pub(crate) fn weigh(&self, key: usize, weight: Option<u32>) {
        let weight = weight.unwrap_or_else(|| self.key(key).weight());
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).weigh(key, weight);
    }

    /// Whose turn it is, of these.
    pub(crate) fn pick(&self, among: Keys) -> Option<usize> {
        if self.slots.len() == 1 {
            return among.has(0).then_some(0);
        }
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).next(|key| among.has(key))
    }

    /// Waits until a place over a key may be free.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Lets another one have the place that was waited for.
    pub(crate) fn pass_on(&self) {
        self.freed.notify_one();
    }

    /// Reads again the keys that may have changed and were not looked at lately. Returns those that have.
    pub(crate) async fn refresh(&self) -> Keys {
        let mut changed = Keys::default();
        for (place, key) in self.keys().enumerate().filter(|(_, key)| key.may_change()) {
            if key.refresh(false).await {
                changed.add(place);
            }
        }
        changed
    }

    /// A key was rejected: reads it again. Returns whether it has changed.
    pub(crate) async fn rejected(&self, key: usize) -> bool {
        self.key(key).refresh(true).await
    }
}
