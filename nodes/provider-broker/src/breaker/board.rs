//! The breakers of all providers, and what is told of them.

use super::machine::{Breaker, BreakerState, Change, Outcome, Pass, Refusal, View};
use crate::broker::{Deps, Jitter, Observe};
use crate::config::Breaker as Rules;
use callboard_domain::Timestamp;
use callboard_domain::alert::Observation;
use callboard_domain::llm::ErrorKind;
use callboard_ports::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The rule that is observed here.
const RULE: &str = "provider_breaker_open";
/// The most models of a provider that have a breaker of their own. Callers may name any model: beyond, the
/// one that was not called for longest is forgotten, those that are closed first.
const MODELS: usize = 64;

/// How a breaker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    /// The model it is for.
    pub model: String,
    /// Whether calls go through.
    pub state: BreakerState,
    /// Why not, if they do not.
    pub cause: Option<ErrorKind>,
    /// Since when not.
    pub since: Option<Timestamp>,
    /// When the provider is tried again. `None` also if it may be tried, or is.
    pub until: Option<Timestamp>,
    /// How often it opened since the start.
    pub trips: u64,
}

/// How a provider stands, all models together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The worst of its models'.
    pub(crate) state: BreakerState,
    /// How often its breakers opened since the start.
    pub(crate) trips: u64,
}

/// Leave for one call. Dropped without an outcome, it says nothing of the provider's health and gives back
/// the place of a call that tries it.
pub(crate) struct Permit {
    board: Arc<Board>,
    provider: usize,
    model: String,
    pass: Option<Pass>,
}

impl Permit {
    /// Says what became of the call. The first time counts.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if let Some(pass) = self.pass.take() {
            self.board.settle(self.provider, &self.model, pass, outcome);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.settle(Outcome::Unknown);
    }
}

/// The breakers of one provider, by model.
#[derive(Debug, Default)]
struct Models {
    breakers: HashMap<String, Entry>,
    /// How often they opened, the forgotten ones too.
    trips: u64,
    /// Whether it was reported that one is open, and not yet that none is.
    reported: bool,
}

#[derive(Debug)]
struct Entry {
    breaker: Breaker,
    used: Instant,
}

impl Models {
    fn of(&mut self, model: &str, rules: &Rules, now: Instant) -> &mut Breaker {
        if !self.breakers.contains_key(model) && self.breakers.len() >= MODELS {
            let key = |entry: &Entry| (entry.breaker.view(now).state, entry.used);
            let least = self.breakers.iter().min_by_key(|(_, entry)| key(entry));
            if let Some(model) = least.map(|(model, _)| model.clone()) {
                self.breakers.remove(&model);
            }
        }
        let new = || Entry { breaker: Breaker::new(rules, now), used: now };
        let entry = self.breakers.entry(model.to_owned()).or_insert_with(new);
        entry.used = now;
        &mut entry.breaker
    }
}

struct Provider {
    name: String,
    models: Mutex<Models>,
}

/// All breakers of a node.
pub(crate) struct Board {
    rules: Rules,
    /// In the order of the configuration.
    providers: Vec<Provider>,
    clock: Arc<dyn Clock>,
    observe: Observe,
    jitter: Jitter,
}

impl Board {
    pub(crate) fn new(rules: Rules, names: impl Iterator<Item = String>, deps: &Deps) -> Arc<Self> {
        Arc::new(Self {
            rules,
            providers: names.map(|name| Provider { name, models: Mutex::default() }).collect(),
            clock: Arc::clone(&deps.clock),
            observe: Arc::clone(&deps.observe),
            jitter: Arc::clone(&deps.jitter),
        })
    }

    /// Lets a call go to a provider, if its breaker does.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) fn admit(self: &Arc<Self>, provider: usize, model: &str) -> Result<Permit, Refusal> {
        let now = Instant::now();
        let pass = match self.models(provider) {
            Some((_, mut models)) => {
                self.forget(provider, &mut models, now);
                Some(models.of(model, &self.rules, now).admit(now)?)
            }
            None => None,
        };
        Ok(Permit { board: Arc::clone(self), provider, model: model.to_owned(), pass })
    }

    /// Whether a call would be let through at that moment, as things are now.
    pub(crate) fn is_available(&self, provider: usize, model: &str, at: Instant) -> bool {
        self.models(provider).is_none_or(|(_, models)| {
            models.breakers.get(model).is_none_or(|entry| entry.breaker.refusal(at).is_none())
        })
    }

    /// How a provider stands.
    pub(crate) fn standing(&self, provider: usize) -> Standing {
        let now = Instant::now();
        let Some((_, mut models)) = self.models(provider) else {
            return Standing { state: BreakerState::Closed, trips: 0 };
        };
        self.forget(provider, &mut models, now);
        let states = models.breakers.values().map(|entry| entry.breaker.view(now).state);
        Standing { state: states.max().unwrap_or(BreakerState::Closed), trips: models.trips }
    }

    /// How each model of a provider stands that was called, by name.
    pub(crate) fn status(&self, provider: usize) -> Vec<BreakerStatus> {
        let (now, wall) = (Instant::now(), self.clock.now());
        let Some((_, mut models)) = self.models(provider) else { return Vec::new() };
        self.forget(provider, &mut models, now);
        let before = |at: Instant| {
            let ago = i64::try_from(now.saturating_duration_since(at).as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_micros(wall.micros().saturating_sub(ago))
        };
        let status = |(model, entry): (&String, &Entry)| {
            let View { state, cause, since, until, trips } = entry.breaker.view(now);
            BreakerStatus {
                model: model.clone(),
                state,
                cause,
                since: since.map(before),
                until: until.map(|at| wall.after(at.saturating_duration_since(now))),
                trips,
            }
        };
        let mut all: Vec<_> = models.breakers.iter().map(status).collect();
        all.sort_unstable_by(|a, b| a.model.cmp(&b.model));
        all
    }

    fn settle(&self, provider: usize, model: &str, pass: Pass, outcome: Outcome) {
        let now = Instant::now();
        let Some((name, mut models)) = self.models(provider) else { return };
        let breaker = models.of(model, &self.rules, now);
        match breaker.settle(&self.rules, pass, outcome, now, (self.jitter)()) {
            Some(Change::Opened) => {
                let view = breaker.view(now);
                let cause = view.cause.map_or("", ErrorKind::reason);
                let left = view.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
                let cool_down = whole_seconds(left);
                models.trips += 1;
                models.reported = true;
                tracing::warn!(provider = name, model, cause, cool_down, "breaker opened");
                self.report(name, true, format!("{model}: left out for {cool_down}s after {cause}"));
            }
            Some(Change::Closed) => {
                tracing::info!(provider = name, model, "breaker closed");
                self.report_closed(provider, &mut models, "it answers again");
            }
            None => {}
        }
    }

    /// Closes the breakers of a provider that nobody asks any more.
    fn forget(&self, provider: usize, models: &mut Models, now: Instant) {
        // If none was reported as open, none is.
        if models.reported {
            models.breakers.values_mut().for_each(|entry| {
                entry.breaker.forget(&self.rules, now);
            });
            self.report_closed(provider, models, "it was not called again");
        }
    }

    /// Says that no breaker of a provider is open any more, if that was not said yet.
    fn report_closed(&self, provider: usize, models: &mut Models, why: &str) {
        if models.reported && !models.breakers.values().any(|entry| entry.breaker.is_tripped()) {
            models.reported = false;
            if let Some(provider) = self.providers.get(provider) {
                self.report(&provider.name, false, why.to_owned());
            }
        }
    }

    /// Called under the lock of the provider, so that reports arrive in the order of what they say. Each
    /// opening is told once: while a breaker is open nothing happens that could be told again.
    fn report(&self, provider: &str, firing: bool, message: String) {
        let (rule, subject) = (RULE.into(), provider.to_owned());
        (self.observe)(Observation { rule, subject, message, firing, at: self.clock.now(), count: 1 });
    }

    /// The breakers of a provider; `None` if there are to be none.
    fn models(&self, provider: usize) -> Option<(&str, MutexGuard<'_, Models>)> {
        let provider = self.providers.get(provider).filter(|_| self.rules.enabled)?;
        Some((&provider.name, provider.models.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A span in whole seconds, rounded up: who waits so long has waited long enough.
pub(crate) fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let models: Vec<_> = self.providers.iter().map(|p| (&p.name, &p.models)).collect();
        f.debug_struct("Board")
            .field("rules", &self.rules)
            .field("providers", &models)
            .finish_non_exhaustive()
    }
}
