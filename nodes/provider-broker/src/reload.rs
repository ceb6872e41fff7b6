//! Another configuration while calls are under way.
//!
//! It is checked whole, with the keys that it names, before anything changes. Calls that are under way end with what they
//! began with. What is known of a provider stays if it stays: its numbers by its name, its breakers if its keys are the
//! same, and its keys with what is in flight over them if all of its configuration is the same. What came of the arms of an
//! experiment stays by their names, so that shares can grow. Limits, quotas and budgets
//! are kept outside by their names, so what was used of them stays used.

use crate::broker::{Broker, read_rings};
use crate::config::{self, Config};
use crate::experiment::Experiments;
use crate::route::Router;
use callboard_domain::{Code, Error};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

/// Reads the configuration of the broker again, whole, or says what is wrong with it.
pub type ReadConfig = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The providers, in the order of the configuration.
    pub providers: Vec<String>,
    /// What is not as it was in force before: the keys of the configuration, of providers with their names.
    pub changed: Vec<String>,
    /// The keys of the configuration that have changed and wait for a restart.
    pub after_restart: Vec<&'static str>,
}

impl Broker {
    /// Reads the file again, and goes on with what it says.
    ///
    /// # Errors
    /// The file is wrong, or this process was not told of one: what was in force stays so.
    pub async fn reload(&self) -> Result<Reloaded, Error> {
        let Some(read) = &self.deps.read_config else {
            return Err(Error::new(
                Code::InvalidArgument,
                "this node was not started with a file to read again",
            ));
        };
        let refused = |why: String| {
            tracing::error!(why, "the configuration was not reloaded: what was in force stays so");
            Error::field(Code::InvalidArgument, "configuration", why)
        };
        let config = read().map_err(refused)?;
        let done = self.reconfigure(&config).await.map_err(|error| refused(error.to_string()))?;
        let Reloaded { providers, changed, after_restart } = &done;
        tracing::info!(?providers, ?changed, ?after_restart, "the configuration of providers was reloaded");
        Ok(done)
    }

    /// Goes on with another configuration.
    ///
    /// # Errors
    /// Every wrong field, keys that cannot be read among them: what was in force stays so.
    pub async fn reconfigure(&self, config: &Config) -> Result<Reloaded, config::Error> {
        let _one = self.changing.lock().await;
        let before = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let old = self.live.now();
        let same = |i: usize| {
            let provider = &config.providers[i];
            let place = before.providers.iter().position(|was| was == provider)?;
            (before.offline_latency == config.offline_latency).then(|| old.ring(place)).flatten()
        };
        let rings = read_rings(config, &self.deps, same)?;
        let router = Router::after(&old, rings, &before, config, &self.records, &self.deps);
        if !router.shares_accounts(&old)
            && let Err(error) = router.accounts().exchange().await
        {
            tracing::warn!(%error, "what was used of quotas and budgets is not known yet");
        }
        let router = self.live.replace(router);
        // What was heard meanwhile.
        router.adopt_all();
        self.stages.reconfigure(config);
        self.set_experiments(|_| Experiments::new(config, &self.book, &self.records));
        self.reloaded.notify_one();
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config.clone();
        let providers = config.providers.iter().map(|provider| provider.name.clone()).collect();
        let changed = changed(&before, config);
        Ok(Reloaded { providers, changed, after_restart: after_restart(&self.started_with, config) })
    }
}

/// What differs between two configurations: keys, of providers with their names and how.
fn changed(before: &Config, config: &Config) -> Vec<String> {
    let named = |of: &Config, name: &str| of.providers.iter().find(|provider| provider.name == name).cloned();
    let mut changed = Vec::new();
    for provider in &config.providers {
        match named(before, &provider.name) {
            None => changed.push(format!("broker.providers.{} (new)", provider.name)),
            Some(was) if was != *provider => changed.push(format!("broker.providers.{}", provider.name)),
            Some(_) => {}
        }
    }
    let gone = before.providers.iter().filter(|provider| named(config, &provider.name).is_none());
    changed.extend(gone.map(|provider| format!("broker.providers.{} (gone)", provider.name)));
    let order = |of: &Config| of.providers.iter().map(|provider| provider.name.clone()).collect::<Vec<_>>();
    if changed.is_empty() && order(before) != order(config) {
        changed.push("broker.providers (their order)".to_owned());
    }
    // Whatever other keys there are, now or later.
    let keys = |of: &Config| match serde_json::to_value(of) {
        Ok(serde_json::Value::Object(keys)) => keys,
        _ => serde_json::Map::new(),
    };
    let (was, is) = (keys(before), keys(config));
    let all: BTreeSet<_> = was.keys().chain(is.keys()).filter(|key| *key != "providers").collect();
    let others = all.into_iter().filter(|key| was.get(*key) != is.get(*key));
    changed.extend(others.map(|key| format!("broker.{key}")));
    changed
}

/// What the stages before the providers are made with, and keep answers by, changes with a restart.
fn after_restart(started: &Config, config: &Config) -> Vec<&'static str> {
    let changed = [
        ("broker.single_flight", started.single_flight != config.single_flight),
        ("broker.cache", started.cache != config.cache),
        ("broker.idempotency", started.idempotency != config.idempotency),
        ("broker.redact", started.redact != config.redact),
        ("broker.similar", started.similar != config.similar),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
