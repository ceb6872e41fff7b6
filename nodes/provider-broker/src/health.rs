//! How the providers fare: counters for the list, and the alert that all of them are down.

use crate::accounts::QuotaStatus;
use crate::breaker::{BreakerState, BreakerStatus, Standing};
use crate::broker::Observe;
use crate::gen_ai::{Call, GenAi, Measured};
use crate::keys::Key;
use crate::provider::{Description, Provider};
use crate::route::{RetryCounts, Switched, WeightStatus};
use callboard_domain::alert::Observation;
use callboard_domain::llm::{ErrorKind, Usage};
use callboard_domain::{Money, Timestamp};
use callboard_ports::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The rule that is observed here.
const RULE: &str = "all_providers_down";
/// What the observations are about.
const SUBJECT: &str = "providers";
/// A state that lasts is reported again so often, in case a report was lost.
const REPEAT: Duration = Duration::from_secs(60);

/// A provider and how it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderStatus {
    /// Its name in the configuration.
    pub name: String,
    /// What it is.
    pub description: Description,
    /// How many calls it answered since the start.
    pub successes: u64,
    /// How many calls failed since the start.
    pub failures: u64,
    /// The kind of its last error, and when that was.
    pub last_error: Option<(ErrorKind, Timestamp)>,
    /// How the breakers of its models stand, by name; at most 64, of models that were called. And as many of each key
    /// that failed for one.
    pub breakers: Vec<BreakerStatus>,
    /// Its keys, in their order.
    pub keys: Vec<KeyStatus>,
    /// Its place in the configuration, counted from 1.
    pub place: usize,
    /// That no calls go to it, if an admin has switched it off.
    pub switch: Option<Switched>,
    /// That an admin has made it the first that is tried, if so.
    pub primary: Option<Switched>,
    /// The weights that an admin has set: its own, and those of its keys.
    pub weights: Vec<WeightStatus>,
    /// How many calls are at it now.
    pub in_flight: u32,
    /// How its quotas stand, over all nodes.
    pub quotas: Vec<QuotaStatus>,
    /// What was spent at it today, in UTC and by all nodes; `None` if no prices are configured.
    pub spent_today: Option<Money>,
}

/// A key of a provider and how it fares; never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Its name in the configuration.
    pub id: String,
    /// Its share of the calls, relative to the others'.
    pub weight: u32,
    /// How many calls are over it now.
    pub in_flight: u32,
    /// The most calls over it at once, if there is a limit.
    pub max_in_flight: Option<u32>,
    /// The worst of how it stands for the models it was used for.
    pub state: BreakerState,
    /// Why, unless that is closed.
    pub cause: Option<ErrorKind>,
    /// The models for which its provider has said that nothing is left, and until when.
    pub spent: Vec<(String, Timestamp)>,
}

impl KeyStatus {
    pub(crate) fn of(key: &Key, breakers: &[BreakerStatus], clock: &dyn Clock) -> Self {
        let (now, wall) = (Instant::now(), clock.now());
        let worst = breakers.iter().filter(|breaker| breaker.key == key.id()).max_by_key(|b| b.state);
        let spent = key.all_spent(now).into_iter();
        let spent =
            spent.map(|(model, spent)| (model, wall.after(spent.until.saturating_duration_since(now))));
        Self {
            id: key.id().to_owned(),
            weight: key.weight(),
            in_flight: key.in_flight(),
            max_in_flight: key.max_in_flight(),
            state: worst.map_or(BreakerState::Closed, |breaker| breaker.state),
            cause: worst.and_then(|breaker| breaker.cause),
            spent: spent.collect(),
        }
    }
}

/// What was counted of a provider since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderCounts {
    /// Its name in the configuration.
    pub name: String,
    /// How many calls it answered.
    pub successes: u64,
    /// How many calls failed, by the kind of their error.
    pub failures: Vec<(ErrorKind, u64)>,
    /// As OpenTelemetry calls what it is.
    pub telemetry_name: &'static str,
    /// How they went, by model and operation: at most 65 models, those past the first 64 together as `other`.
    pub measured: Vec<Measured>,
    /// How its breaker stands: of those of its models, the worst, each with the best of its keys.
    pub breaker: BreakerState,
    /// How often a breaker of it opened.
    pub trips: u64,
    /// How many failed calls were made again.
    pub retries: u64,
    /// How many were not, as too many had been.
    pub retries_refused: u64,
    /// How many calls were made again, at it or elsewhere, though it may have billed them: it broke off, or took too long.
    pub sent_after_billing: u64,
    /// How its quotas stand, over all nodes.
    pub quotas: Vec<QuotaStatus>,
    /// What was spent at it by this node, by model: at most 65, those past the first 64 together as `other`.
    pub costs: Vec<(String, Money)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    successes: u64,
    failures: u64,
    last_error: Option<(ErrorKind, Timestamp)>,
    /// By the place of each in [`ErrorKind::ALL`].
    by_kind: [u64; ErrorKind::ALL.len()],
}

/// What was reported of the outage.
#[derive(Debug, Default)]
struct Outage {
    /// The state that was reported last. Unknown at first: an alert of the process before this one may
    /// still be open, so the first success says that there is no outage.
    reported: Option<(bool, Instant)>,
    /// Calls that all providers failed since the last report.
    unreported: u64,
}

pub(crate) struct Health {
    clock: Arc<dyn Clock>,
    observe: Observe,
    /// One for each provider, in their order.
    counters: Vec<Arc<Mutex<Counters>>>,
    calls: Vec<Arc<GenAi>>,
    outage: Arc<Mutex<Outage>>,
    /// Of the routes of now, by name.
    routes: Arc<Mutex<HashMap<String, Outage>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    pub(crate) fn new(providers: usize, clock: Arc<dyn Clock>, observe: Observe) -> Self {
        let counters = (0..providers).map(|_| Arc::default()).collect();
        let calls = (0..providers).map(|_| Arc::default()).collect();
        Self { clock, observe, counters, calls, outage: Arc::default(), routes: Arc::default() }
    }

    /// The same after a reload: of each provider where it was before, if it was there.
    pub(crate) fn after(&self, places: &[Option<usize>]) -> Self {
        let counters = places.iter().map(|place| place.and_then(|place| self.counters.get(place)).cloned());
        let calls = places.iter().map(|place| place.and_then(|place| self.calls.get(place)).cloned());
        Self {
            clock: Arc::clone(&self.clock),
            observe: Arc::clone(&self.observe),
            counters: counters.map(Option::unwrap_or_default).collect(),
            calls: calls.map(Option::unwrap_or_default).collect(),
            outage: Arc::clone(&self.outage),
            routes: Arc::clone(&self.routes),
        }
    }

    /// A provider answered a call, and counted so many tokens, if it did.
    pub(crate) fn success(&self, provider: usize, call: Call<'_>, usage: Option<Usage>) {
        if let Some(calls) = self.calls.get(provider) {
            calls.answered(call, usage);
        }
        if let Some(counters) = self.counters.get(provider) {
            lock(counters).successes += 1;
        }
        self.report(false, String::new);
    }

    /// A provider has begun a stream.
    pub(crate) fn began(&self, provider: usize, call: Call<'_>) {
        if let Some(calls) = self.calls.get(provider) {
            calls.began(call);
        }
    }

    /// A provider failed a call.
    pub(crate) fn failure(&self, provider: usize, call: Call<'_>, kind: ErrorKind) {
        if let Some(calls) = self.calls.get(provider) {
            calls.failed(call, kind);
        }
        if let Some(counters) = self.counters.get(provider) {
            let mut counters = lock(counters);
            counters.failures += 1;
            let place = ErrorKind::ALL.iter().position(|k| *k == kind);
            if let Some(count) = place.and_then(|place| counters.by_kind.get_mut(place)) {
                *count += 1;
            }
            counters.last_error = Some((kind, self.clock.now()));
        }
    }

    /// Every provider there is failed the same call, and it was not for the call.
    pub(crate) fn all_down(&self, message: &str) {
        self.report(true, || format!("no provider answers: {message}"));
    }

    /// Every provider that a route leads to failed the same call, and it was not for the call.
    pub(crate) fn route_down(&self, route: &str, message: &str) {
        let message = || format!("no provider of the route `{route}` answers: {message}");
        if let Some(outage) = lock(&self.routes).get_mut(route) {
            self.report_of(outage, Some(route), true, message);
        }
    }

    /// A provider answered a call that went a route.
    pub(crate) fn route_answers(&self, route: &str) {
        // The first time as well: an alert of the process before this one may still be open.
        if let Some(outage) = lock(&self.routes).get_mut(route) {
            self.report_of(outage, Some(route), false, String::new);
        }
    }

    /// These are the routes from now on: of others nothing is reported any more, whatever becomes of calls that still go them.
    pub(crate) fn set_routes<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let names: Vec<_> = names.collect();
        let mut routes = lock(&self.routes);
        for name in &names {
            routes.entry((*name).to_owned()).or_default();
        }
        routes.retain(|route, outage| {
            let left = names.contains(&route.as_str());
            if !left && outage.reported.is_some_and(|(firing, _)| firing) {
                self.report_of(outage, Some(route), false, String::new);
            }
            left
        });
    }

    /// What was counted of a provider.
    pub(crate) fn counts(
        &self,
        index: usize,
        name: &str,
        standing: Standing,
        retries: RetryCounts,
    ) -> Option<ProviderCounts> {
        let counters = *lock(self.counters.get(index)?);
        let failures = ErrorKind::ALL.iter().copied().zip(counters.by_kind).collect();
        let measured = self.calls.get(index)?.read();
        let Standing { state: breaker, trips } = standing;
        Some(ProviderCounts {
            name: name.to_owned(),
            successes: counters.successes,
            failures,
            telemetry_name: "",
            measured,
            breaker,
            trips,
            retries: retries.made,
            retries_refused: retries.refused,
            sent_after_billing: retries.after_billing,
            quotas: Vec::new(),
            costs: Vec::new(),
        })
    }

    pub(crate) fn status(
        &self,
        index: usize,
        provider: &dyn Provider,
        breakers: Vec<BreakerStatus>,
        keys: Vec<KeyStatus>,
    ) -> ProviderStatus {
        let counters = self.counters.get(index).map(|c| *lock(c)).unwrap_or_default();
        ProviderStatus {
            name: provider.name().to_owned(),
            description: provider.describe().into(),
            successes: counters.successes,
            failures: counters.failures,
            last_error: counters.last_error,
            breakers,
            keys,
            place: index + 1,
            switch: None,
            primary: None,
            weights: Vec::new(),
            in_flight: 0,
            quotas: Vec::new(),
            spent_today: None,
        }
    }

    fn report(&self, firing: bool, message: impl FnOnce() -> String) {
        self.report_of(&mut lock(&self.outage), None, firing, message);
    }

    /// Called under the lock of what it is about, so that reports arrive in the order of what they say.
    fn report_of(
        &self,
        outage: &mut Outage,
        route: Option<&str>,
        firing: bool,
        message: impl FnOnce() -> String,
    ) {
        outage.unreported += u64::from(firing);
        let now = Instant::now();
        if outage.reported.is_some_and(|(was, at)| was == firing && now.duration_since(at) < REPEAT) {
            return;
        }
        outage.reported = Some((firing, now));
        let count = std::mem::take(&mut outage.unreported).max(1);
        (self.observe)(Observation {
            rule: RULE.into(),
            subject: route.map_or_else(|| SUBJECT.to_owned(), |route| format!("route {route}")),
            message: if firing { message() } else { "a provider answered".into() },
            firing,
            at: self.clock.now(),
            count,
        });
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health")
            .field("counters", &self.counters)
            .field("outage", &self.outage)
            .finish_non_exhaustive()
    }
}
