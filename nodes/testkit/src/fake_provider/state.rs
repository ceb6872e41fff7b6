//! What the provider remembers: its settings, its faults, what it was asked.

use super::allowance::{Allowance, Ledger};
use super::fault::{Endpoint, Fault, Plan};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The most requests that are remembered; older ones are forgotten.
const LOG_REQUESTS: usize = 10_000;

/// A request as it came in.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// Where it came in.
    pub endpoint: Endpoint,
    /// Its path and query.
    pub path: String,
    /// Its headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body; null if it was no JSON.
    pub body: Value,
    /// The fault it met.
    pub fault: Option<Fault>,
}

/// How many requests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken in.
    pub received: u64,
    /// Being answered.
    pub in_flight: u64,
    /// Whose connection went away before the answer was ready; for a stream, before its last piece.
    pub aborted: u64,
}

#[derive(Debug)]
pub(super) struct State {
    /// Those that are accepted; any if there are none.
    keys: Mutex<Vec<String>>,
    ledger: Mutex<Ledger>,
    pub(super) models: Vec<String>,
    plan: Mutex<Plan>,
    answers: Mutex<VecDeque<String>>,
    log: Mutex<VecDeque<Recorded>>,
    counts: watch::Sender<Counts>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn new(keys: Vec<String>, models: Vec<String>) -> Self {
        Self {
            keys: Mutex::new(keys),
            ledger: Mutex::default(),
            models,
            plan: Mutex::default(),
            answers: Mutex::default(),
            log: Mutex::default(),
            counts: watch::Sender::new(Counts::default()),
        }
    }

    pub(super) fn set_plan(&self, plan: Plan) {
        *lock(&self.plan) = plan;
    }

    pub(super) fn take_fault(&self, endpoint: Endpoint, key: &str) -> Option<Fault> {
        lock(&self.plan).take(endpoint, key)
    }

    pub(super) fn set_keys(&self, keys: Vec<String>) {
        *lock(&self.keys) = keys;
    }

    pub(super) fn accepts(&self, key: &str) -> bool {
        let keys = lock(&self.keys);
        keys.is_empty() || keys.iter().any(|accepted| accepted == key)
    }

    pub(super) fn allow(&self, allowance: Option<Allowance>) {
        *lock(&self.ledger) = Ledger::new(allowance);
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub(super) fn push_answers(&self, answers: impl IntoIterator<Item = String>) {
        lock(&self.answers).extend(answers);
    }

    pub(super) fn next_answer(&self) -> Option<String> {
        lock(&self.answers).pop_front()
    }

    pub(super) fn record(&self, request: Recorded) {
        let mut log = lock(&self.log);
        if log.len() == LOG_REQUESTS {
            log.pop_front();
        }
        log.push_back(request);
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        lock(&self.log).iter().cloned().collect()
    }

    pub(super) fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }
}

/// A request being answered. Dropped without [`Flight::land`], it counts as aborted.
#[derive(Debug)]
pub(super) struct Flight {
    state: std::sync::Arc<State>,
    landed: bool,
}

impl Flight {
    pub(super) fn begin(state: &std::sync::Arc<State>) -> Self {
        state.counts.send_modify(|c| {
            c.received += 1;
            c.in_flight += 1;
        });
        Self { state: state.clone(), landed: false }
    }

    pub(super) fn land(mut self) {
        self.landed = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.state.counts.send_modify(|c| {
            c.in_flight -= 1;
            c.aborted += u64::from(!self.landed);
        });
    }
}
