//! The weights that an admin has given to providers and keys, above those of the configuration.

use super::{Router, SwitchState, Switched};
use crate::config::{KEY_WEIGHT, Policy, WEIGHT};
use crate::shared::Records;
use callboard_domain::ProviderRecord;
use callboard_domain::provider_record::Topic;
use std::collections::HashMap;
use std::sync::PoisonError;

/// A weight that an admin has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightStatus {
    /// The id of the key that has it; empty: the provider, on all routes.
    pub key: String,
    /// The weight.
    pub weight: u32,
    /// What the configuration says; of a provider, where a call names no route.
    pub configured: u32,
    /// Who set it, when and why.
    pub by: Switched,
}

/// A weight, and who set it.
#[derive(Clone, Debug)]
struct Set {
    weight: u32,
    by: Switched,
}

impl Set {
    /// What a record says; none if that is to follow the configuration.
    fn new(record: ProviderRecord) -> Option<Self> {
        let weight = record.value.parse().ok().filter(|weight| *weight <= WEIGHT)?;
        Some(Self { weight, by: Switched::new(SwitchState::Enabled, record) })
    }
}

/// All weights that are set, of providers by their places.
#[derive(Debug, Default)]
pub(crate) struct Weights {
    of: HashMap<usize, Set>,
    keys: Vec<(usize, String, Set)>,
}

impl Weights {
    /// Those of these providers that records tell of.
    pub(super) fn read(providers: &[String], records: &Records) -> Self {
        let mut weights = Self::default();
        for record in records.of(Topic::Weight) {
            let Some(place) = providers.iter().position(|name| *name == record.subject.provider) else {
                continue;
            };
            let key = record.subject.key.clone();
            match Set::new(record) {
                Some(set) if key.is_empty() => drop(weights.of.insert(place, set)),
                Some(set) => weights.keys.push((place, key, set)),
                None => {}
            }
        }
        weights
    }

    /// The weight of a provider: this one, if none is set.
    pub(super) fn or(&self, provider: usize, configured: u32) -> u32 {
        self.of.get(&provider).map_or(configured, |set| set.weight)
    }

    fn of_key(&self, provider: usize, key: &str) -> Option<&Set> {
        let set = self.keys.iter().find(|(place, id, _)| *place == provider && id == key);
        set.map(|(.., set)| set)
    }
}

/// Why a weight cannot be given to a provider or a key: the field that is wrong, and what it must be.
type Wrong = (&'static str, String);

impl Router {
    /// The keys share calls out by the weights that are set.
    pub(super) fn weigh_keys(&self) {
        // One at a time: else an older view could be put in force after a newer one.
        let _one = self.weighing.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.switches.view();
        for (place, ring) in self.rings.iter().enumerate() {
            for (at, key) in ring.keys().enumerate() {
                // A weight of zero is no key's.
                let set = view.weights.of_key(place, key.id()).map(|set| set.weight).filter(|w| *w > 0);
                ring.weigh(at, set);
            }
        }
    }

    /// What is set of a provider, and of its keys in their order.
    pub(super) fn weights(&self, place: usize) -> Vec<WeightStatus> {
        let view = self.switches.view();
        let status = |key: &str, set: &Set, configured| WeightStatus {
            key: key.to_owned(),
            weight: set.weight,
            configured,
            by: set.by.clone(),
        };
        let own = view.weights.of.get(&place);
        let own = own.map(|set| status("", set, self.routes.weight(place)));
        let keys = self.rings[place].keys().filter_map(|key| {
            let set = view.weights.of_key(place, key.id())?;
            Some(status(key.id(), set, key.weight()))
        });
        own.into_iter().chain(keys).collect()
    }

    /// Whether a provider, or the key of it that is named, may have a weight.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_weight(&self, place: usize, key: &str, weight: Option<u32>) -> Result<(), Wrong> {
        if key.is_empty() {
            return match weight {
                Some(weight) if weight > WEIGHT => Err((
                    "weight",
                    format!("must be 0 to {WEIGHT}; with 0 the provider is tried after the others"),
                )),
                _ => Ok(()),
            };
        }
        let ids: Vec<_> = self.rings[place].keys().map(|key| key.id()).filter(|id| !id.is_empty()).collect();
        let name = self.providers[place].name();
        if ids.is_empty() {
            return Err(("key", format!("`{name}` has no keys")));
        }
        if !ids.contains(&key) {
            return Err((
                "key",
                format!("no key of `{name}` is called `{key}`; there are: {}", ids.join(", ")),
            ));
        }
        match weight {
            Some(weight) if !(1..=KEY_WEIGHT).contains(&weight) => {
                let text = format!("must be 1 to {KEY_WEIGHT}; a key is switched off in the configuration");
                Err(("weight", text))
            }
            _ => Ok(()),
        }
    }

    /// Whether any policy looks at the weight of a provider.
    pub(crate) fn looks_at_weight(&self, place: usize) -> bool {
        let weighted = |policy| matches!(policy, Policy::Weighted | Policy::Sticky);
        weighted(self.routes.usual()) || self.routes.lead_to(place).any(weighted)
    }
}
