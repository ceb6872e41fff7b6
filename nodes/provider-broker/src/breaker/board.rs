//! The breakers of all providers, and what is told of them.
//!
//! What a failure tells of is one of two things, and each has a breaker of its own:
//! - **The model at the provider**, whichever key was used: faults of the server, overloads, timeouts, broken
//!   connections, answers that cannot be understood. Another key goes to the same machines: if each had to find that out
//!   by itself, three keys would take three times the failures to leave the provider out, and of those that tell of the
//!   key alone each would take one of the others' places.
//! - **The key, for a model**: a spent quota, a rejected key, a rate limit. The provider is well, and the next key may
//!   go through. It is not for all models of the key: limits and permissions are given by model. For a key that is
//!   worth nothing at all each model finds that out with one call.
//!
//! A call goes through if both let it. A success closes both; a failure is counted at the one it tells of, and says
//! nothing to the other: who was tried again is tried again by the next call. A rejected key has no remedy but time, or
//! another value: with that, its breakers close at once ([`Board::replaced`]). A provider without keys has the first
//! kind only, for all failures.

mod told;

use super::machine::{Breaker, BreakerState, Change, Outcome, Pass, Refusal, View};
use crate::broker::{Deps, Jitter, Observe};
use crate::config::Breaker as Rules;
use crate::shared::{Of, Records, WaitSubject};
use callboard_domain::Timestamp;
use callboard_domain::alert::Observation;
use callboard_domain::llm::ErrorKind;
use callboard_domain::provider_record::{Subject, Topic};
use callboard_ports::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The rule that is observed here.
const RULE: &str = "provider_breaker_open";
/// The most models of a provider, and of each of its keys, that have a breaker of their own. Callers may name any model: beyond, the
/// one that was not called for longest is forgotten, those that are closed first.
const MODELS: usize = 64;

/// How a breaker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    /// The model it is for.
    pub model: String,
    /// The key it is for; empty if for all of the provider.
    pub key: String,
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
    /// The worst of its models'; of each, how it stands with the best of the keys.
    pub(crate) state: BreakerState,
    /// How often its breakers opened since the start.
    pub(crate) trips: u64,
}

/// Leave for one call. Dropped without an outcome, it says nothing of the provider's health and gives back
/// the place of a call that tries it.
pub(crate) struct Permit {
    board: Arc<Board>,
    provider: usize,
    key: usize,
    model: String,
    passes: Option<Passes>,
}

/// Of the model at the provider, and of the key for it.
#[derive(Clone, Copy, Debug)]
struct Passes {
    provider: Pass,
    key: Option<Pass>,
}

impl Permit {
    /// Says what became of the call. The first time counts.
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        if let Some(passes) = self.passes.take() {
            self.board.settle(self.provider, self.key, &self.model, passes, outcome);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.settle(Outcome::Unknown);
    }
}

/// Whether a failure tells of the key that was used, not of the provider.
pub(crate) const fn tells_of_key(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Authentication | ErrorKind::QuotaExceeded | ErrorKind::RateLimited)
}

/// The breakers of one provider.
#[derive(Debug, Default)]
struct State {
    /// Whichever key is used.
    provider: Models,
    /// One for each key.
    keys: Vec<Models>,
    /// How often they opened, the forgotten ones too.
    trips: u64,
    /// Whether it was reported that one is open, and not yet that none is.
    reported: bool,
}

impl State {
    fn all(&self) -> impl Iterator<Item = &Entry> {
        std::iter::once(&self.provider).chain(&self.keys).flat_map(|models| models.breakers.values())
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        let models = std::iter::once(&mut self.provider).chain(&mut self.keys);
        models.flat_map(|models| models.breakers.values_mut())
    }
}

/// Breakers by model.
#[derive(Debug, Default)]
struct Models {
    breakers: HashMap<String, Entry>,
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

    fn refusal(&self, model: &str, at: Instant) -> Option<Refusal> {
        self.breakers.get(model)?.breaker.refusal(at)
    }

    fn state(&self, model: &str, now: Instant) -> BreakerState {
        self.breakers.get(model).map_or(BreakerState::Closed, |entry| entry.breaker.view(now).state)
    }
}

struct Provider {
    name: String,
    /// The ids of its keys; none if it asks for none.
    keys: Vec<String>,
    /// Shared with the board before, if there was one that knew it.
    state: Arc<Mutex<State>>,
}

/// All breakers of a node.
pub(crate) struct Board {
    rules: Rules,
    /// In the order of the configuration.
    providers: Vec<Provider>,
    records: Arc<Records>,
    clock: Arc<dyn Clock>,
    observe: Observe,
    jitter: Jitter,
}

impl Board {
    /// The breakers of providers, each by its name and the ids of its keys.
    pub(crate) fn new(
        rules: Rules,
        providers: impl Iterator<Item = (String, Vec<String>)>,
        records: Arc<Records>,
        before: Option<&Self>,
        deps: &Deps,
    ) -> Arc<Self> {
        let provider = |(name, keys): (String, Vec<String>)| {
            let known = before.into_iter().flat_map(|board| &board.providers);
            let known =
                known.filter(|of| of.name == name && of.keys == keys).map(|of| Arc::clone(&of.state)).next();
            let state = known.unwrap_or_else(|| {
                let keys = keys.iter().map(|_| Models::default()).collect();
                Arc::new(Mutex::new(State { keys, ..State::default() }))
            });
            Provider { name, keys, state }
        };
        Arc::new(Self {
            rules,
            providers: providers.map(provider).collect(),
            records,
            clock: Arc::clone(&deps.clock),
            observe: Arc::clone(&deps.observe),
            jitter: Arc::clone(&deps.jitter),
        })
    }

    /// Lets a call go to a model of a provider over one of its keys, if both their breakers do.
    ///
    /// # Errors
    /// Why they do not.
    pub(crate) fn admit(
        self: &Arc<Self>,
        provider: usize,
        key: usize,
        model: &str,
    ) -> Result<Permit, Refusal> {
        let now = Instant::now();
        let passes = match self.state(provider) {
            Some((_, mut state)) => {
                self.forget(provider, &mut state, now);
                let state = &mut *state;
                let mut of_key = state.keys.get_mut(key).map(|models| models.of(model, &self.rules, now));
                // Nothing is taken from the one if the other refuses.
                if let Some(refusal) = of_key.as_ref().and_then(|breaker| breaker.refusal(now)) {
                    return Err(refusal);
                }
                let provider = state.provider.of(model, &self.rules, now).admit(now)?;
                let key = of_key.as_mut().map(|breaker| breaker.admit(now)).transpose()?;
                Some(Passes { provider, key })
            }
            None => None,
        };
        Ok(Permit { board: Arc::clone(self), provider, key, model: model.to_owned(), passes })
    }

    /// Why no call to a model of a provider would be let through at that moment, whichever key it has, as things are
    /// now.
    pub(crate) fn refusal(&self, provider: usize, model: &str, at: Instant) -> Option<Refusal> {
        self.state(provider)?.1.provider.refusal(model, at)
    }

    /// The same of one key.
    pub(crate) fn refusal_of_key(
        &self,
        provider: usize,
        key: usize,
        model: &str,
        at: Instant,
    ) -> Option<Refusal> {
        self.state(provider)?.1.keys.get(key)?.refusal(model, at)
    }

    /// A key has another value: what was known of it is not true any more.
    pub(crate) fn replaced(&self, provider: usize, key: usize) {
        let Some((name, mut state)) = self.state(provider) else { return };
        let Some(models) = state.keys.get_mut(key) else { return };
        for (model, entry) in &mut models.breakers {
            entry.breaker.reset();
            self.records.closed(&self.subject(provider, Some(key), model));
        }
        tracing::info!(provider = name, key = self.id(provider, key), "key replaced");
        self.report_closed(provider, &mut state, "its key was replaced");
    }

    fn subject(&self, provider: usize, key: Option<usize>, model: &str) -> Subject {
        let name = self.providers.get(provider).map_or("", |of| &of.name);
        let key = key.map_or("", |key| self.id(provider, key));
        Subject { key: key.to_owned(), model: model.to_owned(), ..Subject::of(Topic::Breaker, name) }
    }

    /// How a provider stands.
    pub(crate) fn standing(&self, provider: usize) -> Standing {
        let now = Instant::now();
        let Some((_, mut state)) = self.state(provider) else {
            return Standing { state: BreakerState::Closed, trips: 0 };
        };
        self.forget(provider, &mut state, now);
        let of_model = |(model, entry): (&String, &Entry)| {
            let keys = state.keys.iter().map(|models| models.state(model, now));
            entry.breaker.view(now).state.max(keys.min().unwrap_or(BreakerState::Closed))
        };
        let states = state.provider.breakers.iter().map(of_model);
        Standing { state: states.max().unwrap_or(BreakerState::Closed), trips: state.trips }
    }

    /// How each model of a provider stands that was called, by name, and each of its keys for it. Of keys only what is
    /// not closed, or was not once.
    pub(crate) fn status(&self, provider: usize) -> Vec<BreakerStatus> {
        let (now, wall) = (Instant::now(), self.clock.now());
        let Some((_, mut state)) = self.state(provider) else { return Vec::new() };
        self.forget(provider, &mut state, now);
        let before = |at: Instant| {
            let ago = i64::try_from(now.saturating_duration_since(at).as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_micros(wall.micros().saturating_sub(ago))
        };
        let status = |key: &str, model: &str, entry: &Entry| {
            let View { state, cause, since, until, trips } = entry.breaker.view(now);
            BreakerStatus {
                model: model.to_owned(),
                key: key.to_owned(),
                state,
                cause,
                since: since.map(before),
                until: until.map(|at| wall.after(at.saturating_duration_since(now))),
                trips,
            }
        };
        let mut all: Vec<_> =
            state.provider.breakers.iter().map(|(model, entry)| status("", model, entry)).collect();
        for (place, models) in state.keys.iter().enumerate() {
            let of_key = models.breakers.iter();
            let of_key = of_key.map(|(model, entry)| status(self.id(provider, place), model, entry));
            all.extend(of_key.filter(|status| status.state != BreakerState::Closed || status.trips > 0));
        }
        all.sort_unstable_by(|a, b| (&a.model, &a.key).cmp(&(&b.model, &b.key)));
        all
    }

    fn settle(&self, provider: usize, key: usize, model: &str, passes: Passes, outcome: Outcome) {
        let Some((_, mut state)) = self.state(provider) else { return };
        let Some(of_key) = passes.key else {
            return self.settle_one(provider, &mut state, None, model, passes.provider, outcome);
        };
        let (to_provider, to_key) = match outcome {
            Outcome::Failure { kind, .. } if tells_of_key(kind) => (Outcome::Unknown, outcome),
            Outcome::Failure { .. } => (outcome, Outcome::Unknown),
            both => (both, both),
        };
        self.settle_one(provider, &mut state, None, model, passes.provider, to_provider);
        self.settle_one(provider, &mut state, Some(key), model, of_key, to_key);
    }

    fn settle_one(
        &self,
        provider: usize,
        state: &mut State,
        key: Option<usize>,
        model: &str,
        pass: Pass,
        outcome: Outcome,
    ) {
        let now = Instant::now();
        let models = match key {
            Some(key) => state.keys.get_mut(key),
            None => Some(&mut state.provider),
        };
        let (Some(models), Some(of)) = (models, self.providers.get(provider)) else { return };
        let id = key.map_or("", |key| self.id(provider, key));
        let breaker = models.of(model, &self.rules, now);
        let change = breaker.settle(&self.rules, pass, outcome, now, (self.jitter)());
        if let (Outcome::Failure { kind: ErrorKind::RateLimited, wait: Some(_) }, Some(until)) =
            (outcome, breaker.waits_until(now))
        {
            let (provider, key, model) = (of.name.clone(), id.to_owned(), model.to_owned());
            self.records.waits().note(WaitSubject { provider, key, model, of: Of::Calls }, until);
        }
        match change {
            Some(Change::Opened) => {
                let view = breaker.view(now);
                let cause = view.cause.map_or("", ErrorKind::reason);
                let left = view.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
                let cool_down = whole_seconds(left);
                if let Some(kind) = view.cause {
                    let until = self.clock.now().after(left);
                    self.records.opened(self.subject(provider, key, model), kind, until, breaker.cool_down());
                }
                state.trips += 1;
                state.reported = true;
                tracing::warn!(provider = of.name, key = id, model, cause, cool_down, "breaker opened");
                let who = match of.keys.len() {
                    0 | 1 => model.to_owned(),
                    _ if id.is_empty() => model.to_owned(),
                    _ => format!("{model} with {id}"),
                };
                self.report(&of.name, true, format!("{who}: left out for {cool_down}s after {cause}"));
            }
            Some(Change::Closed) => {
                tracing::info!(provider = of.name, key = id, model, "breaker closed");
                self.records.closed(&self.subject(provider, key, model));
                self.report_closed(provider, state, "it answers again");
            }
            None => {}
        }
    }

    /// Closes the breakers of a provider that nobody asks any more.
    fn forget(&self, provider: usize, state: &mut State, now: Instant) {
        // If none was reported as open, none is.
        if state.reported {
            state.all_mut().for_each(|entry| {
                entry.breaker.forget(&self.rules, now);
            });
            self.report_closed(provider, state, "it was not called again");
        }
    }

    /// Says that no breaker of a provider is open any more, if that was not said yet.
    fn report_closed(&self, provider: usize, state: &mut State, why: &str) {
        if state.reported && !state.all().any(|entry| entry.breaker.is_tripped()) {
            state.reported = false;
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

    /// The id of a key.
    fn id(&self, provider: usize, key: usize) -> &str {
        self.providers.get(provider).and_then(|of| of.keys.get(key)).map_or("", String::as_str)
    }

    /// The breakers of a provider; `None` if there are to be none.
    fn state(&self, provider: usize) -> Option<(&str, MutexGuard<'_, State>)> {
        let provider = self.providers.get(provider).filter(|_| self.rules.enabled)?;
        Some((&provider.name, provider.state.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A span in whole seconds, rounded up: who waits so long has waited long enough.
pub(crate) fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let models: Vec<_> = self.providers.iter().map(|p| (&p.name, &p.state)).collect();
        f.debug_struct("Board")
            .field("rules", &self.rules)
            .field("providers", &models)
            .finish_non_exhaustive()
    }
}
