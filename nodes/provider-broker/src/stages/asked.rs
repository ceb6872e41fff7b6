//! What a call wants of the stages: read once, from the call and the configuration.

use super::Scope;
use super::clears::Clears;
use super::fingerprint::{self, Digest, Fingerprint};
use crate::config::{Cache, Config, Idempotency, ProviderConfig};
use callboard_domain::limits;
use callboard_domain::llm::{CacheMode, TextRequest};
use std::time::Duration;

/// A call, and what it wants.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) request: TextRequest,
    pub(super) scope: Scope,
    /// What it asks.
    pub(super) of: Fingerprint,
    /// Where the caches keep its answer, as of when it came: see [`Clears`].
    pub(super) at: Fingerprint,
    /// Its idempotency key, if answers are kept by it.
    pub(super) key: Option<Key>,
    /// Whether the cache may answer it.
    pub(super) looks_up: bool,
    /// For how long its answer is kept, if it is.
    pub(super) keep: Option<Duration>,
    /// Whether it may be one with others that ask the same now.
    pub(super) shares: bool,
}

/// An idempotency key, and what it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Where its answer is kept.
    pub(super) at: Fingerprint,
    /// What its caller said, which is the same on every node and after every reload; [`Asked::of`] is not.
    pub(super) of: Fingerprint,
}

/// What the configuration says.
#[derive(Clone)]
pub(super) struct Rules {
    cache: Cache,
    single_flight: bool,
    idempotency: Idempotency,
    total: Duration,
    /// Of which providers there are, and their models: with others, the same question has another answer. Each call's goes
    /// on from here.
    route: Digest,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            cache: config.cache.clone(),
            single_flight: config.single_flight,
            idempotency: config.idempotency.clone(),
            total: config.total_timeout,
            route: route(config),
        }
    }

    /// The same with the providers, the routes and the time of another configuration. How answers are kept stays.
    pub(super) fn with_route(&self, config: &Config) -> Self {
        Self { total: config.total_timeout, route: route(config), ..self.clone() }
    }

    /// Whether what is asked of these providers is asked of those.
    pub(super) fn is_of_route(&self, of: &Self) -> bool {
        self.route.clone().finish() == of.route.clone().finish()
    }

    /// Reads a call.
    pub(super) fn read(&self, scope: Scope, request: TextRequest, clears: &Clears) -> Asked {
        let of = fingerprint::call(&self.route, &scope, &request);
        let at = clears.place(of, &scope);
        let key = request.idempotency_key.as_deref().filter(|_| self.idempotency.max_mb > 0);
        let key =
            key.map(|key| Key { at: fingerprint::key(&scope, key), of: fingerprint::said(&scope, &request) });
        let (looks_up, keep) = self.caches(&scope, request.cache);
        // Who sets a temperature wants answers that differ. Who sets none may not care, or not know.
        let alike = request.temperature.is_none_or(|t| t == 0.0) || keep.is_some();
        let shares = self.single_flight && alike && request.cache != CacheMode::Off;
        Asked { request, scope, of, at, key, looks_up, keep, shares }
    }

    /// Whether a call is looked up, and for how long its answer is kept.
    fn caches(&self, scope: &Scope, mode: CacheMode) -> (bool, Option<Duration>) {
        let kind = self.cache.kinds.get(&scope.kind);
        let enabled = kind.map_or(self.cache.enabled, |kind| kind.enabled);
        let (looks_up, keeps) = match mode {
            CacheMode::Configured => (enabled, enabled),
            CacheMode::On => (true, true),
            CacheMode::Off => (false, false),
            CacheMode::Refresh => (false, true),
        };
        let there = self.cache.max_mb > 0;
        let ttl = kind.and_then(|kind| kind.ttl).unwrap_or(self.cache.ttl);
        (looks_up && there, (keeps && there).then_some(ttl))
    }

    /// How long a call waits for one that it shares.
    pub(super) fn patience(&self, asked: &Asked) -> Duration {
        asked.request.timeout.unwrap_or(self.total).min(limits::TIMEOUT)
    }

    /// For how long an answer is given to calls with the same key.
    pub(super) const fn replay_ttl(&self) -> Duration {
        self.idempotency.ttl
    }
}

fn route(config: &Config) -> Digest {
    let provider =
        |p: &ProviderConfig| format!("{:?}", (&p.name, p.adapter.as_str(), p.base_url(), &p.text_model));
    let all = config.providers.iter().map(provider).chain([format!("{:?}", config.routes)]);
    fingerprint::route(&all.collect::<String>())
}
