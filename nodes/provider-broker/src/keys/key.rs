//! One key: its secret, who uses it, and what its provider says is left of it.

use super::allowance::{Allowance, Sent, Spent, TOKENS};
use super::call::CallKey;
use super::headers;
use super::source::Source;
use crate::config::KeyConfig;
use crate::secret::{self, Secret};
use crate::shared::{Of, Records, WaitSubject};
use callboard_domain::llm::Error;
use callboard_ports::Clock;
use reqwest::header::HeaderMap;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// A key that is in use is looked up in its file so often at most.
const FRESH: Duration = Duration::from_secs(2);
/// The longest the file is waited for.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// The most models of which it is remembered what is left: callers may name any. Beyond, the one that was not called
/// for longest is forgotten.
const MODELS: usize = 64;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The secret as it was read last.
#[derive(Debug)]
struct Read {
    secret: Option<Secret>,
    /// The one before it: a call that began with it may still end.
    before: Option<Secret>,
    /// Grows when the secret changes.
    version: u64,
    at: Instant,
    /// Whether it was said that the file cannot be read.
    complained: bool,
}

#[derive(Debug)]
struct Model {
    allowance: Allowance,
    used: Instant,
}

/// A key of a provider, or what stands for one at a provider that asks for none.
pub(crate) struct Key {
    id: String,
    weight: u32,
    max_in_flight: Option<u32>,
    source: Source,
    read: Mutex<Read>,
    in_flight: AtomicU32,
    /// Wakes one of those who wait for a place over any key of the provider.
    freed: Arc<Notify>,
    models: Mutex<HashMap<String, Model>>,
    clock: Arc<dyn Clock>,
    /// Its provider, and who tells other nodes what that says.
    told: OnceLock<(String, Arc<Records>)>,
}

impl Key {
    /// What stands for a key at a provider that asks for none. It has no id.
    pub(crate) fn none(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::new(String::new(), &KeyConfig::default(), (Source::Fixed, None), Arc::default(), clock)
    }

    /// The key of a configuration.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn open(
        id: String,
        config: &KeyConfig,
        env: &dyn Fn(&str) -> Option<String>,
        freed: Arc<Notify>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, String> {
        let (source, secret) = Source::open(config, env)?;
        Ok(Self::new(id, config, (source, Some(secret)), freed, clock))
    }

    fn new(
        id: String,
        config: &KeyConfig,
        (source, secret): (Source, Option<Secret>),
        freed: Arc<Notify>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let read = Read { secret, before: None, version: 0, at: Instant::now(), complained: false };
        Arc::new(Self {
            id,
            weight: config.weight,
            max_in_flight: config.max_in_flight,
            source,
            read: Mutex::new(read),
            in_flight: AtomicU32::new(0),
            freed,
            models: Mutex::default(),
            clock,
            told: OnceLock::new(),
        })
    }

    /// Its name; empty where there is no key.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Its share of the calls, as configured.
    pub(crate) const fn weight(&self) -> u32 {
        self.weight
    }

    /// The most calls over it at once.
    pub(crate) const fn max_in_flight(&self) -> Option<u32> {
        self.max_in_flight
    }

    /// How many calls are over it now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The secret, if there is one.
    pub(crate) fn secret(&self) -> Option<Secret> {
        lock(&self.read).secret.clone()
    }

    /// An error without the secret in it.
    pub(crate) fn clean(&self, mut error: Error) -> Error {
        let (secret, before) = {
            let read = lock(&self.read);
            (read.secret.clone(), read.before.clone())
        };
        if before.is_some() {
            error = secret::clean(before.as_ref(), error);
        }
        secret::clean(secret.as_ref(), error)
    }

    /// Grows each time that the secret changes.
    pub(crate) fn version(&self) -> u64 {
        lock(&self.read).version
    }

    /// Whether it may change.
    pub(super) const fn may_change(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// Reads the key again where it is: at once if it was `rejected`, else if that was not done lately. Returns whether
    /// it has changed. One that cannot be read any more stays as it is.
    pub(super) async fn refresh(&self, rejected: bool) -> bool {
        {
            let now = Instant::now();
            let mut read = lock(&self.read);
            if !self.may_change() || (!rejected && now.duration_since(read.at) < FRESH) {
                return false;
            }
            // Others need not look, too.
            read.at = now;
        }
        // A disk that hangs must not take calls with it.
        let Ok(Some(found)) = timeout(READ_TIMEOUT, self.source.read()).await else { return false };
        let mut read = lock(&self.read);
        match found {
            Ok(secret) if read.secret.as_ref() == Some(&secret) => read.complained = false,
            Ok(secret) => {
                read.before = read.secret.replace(secret);
                read.version += 1;
                read.complained = false;
                drop(read);
                // What is left of another key says nothing of this one.
                lock(&self.models).clear();
                return true;
            }
            Err(error) if !read.complained => {
                read.complained = true;
                tracing::warn!(
                    key = self.id,
                    error,
                    "the file of a key cannot be read, the last one is kept"
                );
            }
            Err(_) => {}
        }
        false
    }

    /// Whether a call may begin over it.
    pub(crate) fn has_room(&self) -> bool {
        self.max_in_flight.is_none_or(|max| self.in_flight() < max)
    }

    /// Begins a call over it, if there is room.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<InFlight> {
        let max = self.max_in_flight.unwrap_or(u32::MAX);
        let enter = |now: u32| (now < max).then(|| now + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).ok()?;
        Some(InFlight(Arc::clone(self)))
    }

    /// Why its provider would refuse a call of about so many tokens to a model, as far as it has said.
    pub(crate) fn spent(&self, model: &str, tokens: u32, now: Instant) -> Option<Spent> {
        lock(&self.models).get(model)?.allowance.refusal(tokens.into(), now)
    }

    /// What its provider says is left is told to other nodes, where that is nothing. The first time counts.
    pub(crate) fn tell(&self, provider: &str, records: &Arc<Records>) {
        let _ = self.told.set((provider.to_owned(), Arc::clone(records)));
    }

    /// Its provider has said that nothing is left for a model.
    fn note(&self, model: &str, spent: Spent) {
        if let Some((provider, records)) = self.told.get() {
            let (provider, key, model) = (provider.clone(), self.id.clone(), model.to_owned());
            let of = if spent.what == TOKENS { Of::Tokens } else { Of::Requests };
            records.waits().note(WaitSubject { provider, key, model, of }, spent.until);
        }
    }

    /// Its provider has said to another node that nothing is left for a model for so long. What was longer stays.
    pub(crate) fn adopt(&self, model: &str, of: Of, left: Duration, now: Instant) {
        let mut models = lock(&self.models);
        if let Some(known) = entry(&mut models, model, now) {
            known.allowance.adopt(of == Of::Tokens, left, now);
        }
    }

    /// A call of about so many tokens is sent to a model, if its provider would not refuse it.
    ///
    /// # Errors
    /// Why it would.
    pub(crate) fn send(self: &Arc<Self>, model: &str, tokens: u32, now: Instant) -> Result<Sending, Spent> {
        let mut models = lock(&self.models);
        let of = entry(&mut models, model, now).map(|of| {
            of.used = now;
            of.allowance.take(tokens.into(), now)
        });
        let sent = of.transpose()?.unwrap_or_default();
        Ok(Sending {
            key: Arc::clone(self),
            model: model.to_owned(),
            sent,
            call: None,
            unreached: Cell::new(false),
        })
    }

    /// The models that no call may be sent to now, by what its provider has said, and why.
    pub(crate) fn all_spent(&self, now: Instant) -> Vec<(String, Spent)> {
        let models = lock(&self.models);
        let spent =
            models.iter().filter_map(|(name, of)| Some((name.clone(), of.allowance.refusal(0, now)?)));
        let mut spent: Vec<_> = spent.collect();
        spent.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        spent
    }
}

/// What is known of a model, new if that is nothing yet.
fn entry<'a>(models: &'a mut HashMap<String, Model>, model: &str, now: Instant) -> Option<&'a mut Model> {
    if !models.contains_key(model) {
        if models.len() >= MODELS {
            let oldest = models.iter().min_by_key(|(_, of)| of.used).map(|(model, _)| model.clone());
            oldest.map(|model| models.remove(&model));
        }
        models.insert(model.to_owned(), Model { allowance: Allowance::default(), used: now });
    }
    models.get_mut(model)
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

/// A call over a key. Dropped, it is over.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Key>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.0.max_in_flight.is_some() {
            self.0.freed.notify_one();
        }
    }
}

tokio::task_local! {
    /// The call that is being made.
    static SENDING: Sending;
}

/// A call that is sent. Dropped, it was answered, or given up.
#[derive(Debug)]
pub(crate) struct Sending {
    key: Arc<Key>,
    model: String,
    sent: Sent,
    /// By what the provider recognises the call, should it come again.
    call: Option<CallKey>,
    /// Whether it is certain that the provider got nothing of the call.
    unreached: Cell<bool>,
}

impl Sending {
    /// The same for a call that is known by a key.
    pub(crate) fn known_by(self, call: CallKey) -> Self {
        let mut sending = self;
        sending.call = Some(call);
        sending
    }

    /// Makes the call: what its answer says is known to be the answer to this. Answers, too, whether it is certain that the
    /// provider got nothing of it.
    pub(crate) async fn during<T>(self, call: impl Future<Output = T>) -> (T, bool) {
        let call = async {
            let outcome = call.await;
            (outcome, SENDING.with(|sending| sending.unreached.get()))
        };
        SENDING.scope(self, call).await
    }

    fn allowance(&self, change: impl FnOnce(&mut Allowance)) {
        if let Some(of) = lock(&self.key.models).get_mut(&self.model) {
            change(&mut of.allowance);
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.allowance(|allowance| allowance.over(self.sent));
    }
}

/// By what a provider recognises the call that is being made, where its caller gave it no key.
pub(crate) fn call_key() -> Option<CallKey> {
    SENDING.try_with(|sending| sending.call).ok().flatten()
}

/// The call that is being made did not get as far as to its provider.
pub(crate) fn unreached() {
    let _ = SENDING.try_with(|sending| sending.unreached.set(true));
}

/// The answer to the call that is being made has come, whatever it is: its headers may say what is left.
pub(crate) fn answered(headers: &HeaderMap) {
    // Outside of a call nobody asks.
    let _ = SENDING.try_with(|sending| {
        if let Some(said) = headers::read(headers, sending.key.clock.now()) {
            let (now, mut used_up) = (Instant::now(), [None; 2]);
            sending.allowance(|allowance| {
                allowance.told(sending.sent, said, now);
                used_up = allowance.used_up(said, now);
            });
            used_up.into_iter().flatten().for_each(|spent| sending.key.note(&sending.model, spent));
        }
    });
}
