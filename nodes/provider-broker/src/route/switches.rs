//! What an admin has switched: which providers get no calls, and which is tried first.

use super::weights::Weights;
use crate::shared::Records;
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{ProviderRecord, Timestamp};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How a provider is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchState {
    /// Calls may go there.
    Enabled,
    /// No new call goes there.
    Disabled,
    /// No new call goes there, and those in flight are waited for.
    Draining,
}

impl SwitchState {
    /// Its name in a record.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Draining => "draining",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Disabled, Self::Draining].into_iter().find(|state| state.as_str() == text)
    }
}

/// What was switched, and who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// How.
    pub state: SwitchState,
    /// Why; empty if nothing was said.
    pub reason: String,
    /// The name of the admin's key; empty where none is needed.
    pub author: String,
    /// When.
    pub at: Timestamp,
}

impl Switched {
    pub(super) fn new(state: SwitchState, record: ProviderRecord) -> Self {
        Self { state, reason: record.note, author: record.author, at: record.at }
    }

    /// In a person's words.
    pub(crate) fn describe(&self) -> String {
        let mut text = self.state.as_str().to_owned();
        if !self.author.is_empty() {
            text.push_str(&format!(" by {}", self.author));
        }
        if !self.reason.is_empty() {
            text.push_str(&format!(": {}", self.reason));
        }
        text
    }
}

/// All that is switched at a moment.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The providers by their places in the configuration, in the order they are tried.
    pub(crate) order: Vec<usize>,
    /// Those that get no calls, by their places in the configuration.
    pub(crate) off: Vec<Option<Switched>>,
    /// The one that was made the first.
    pub(crate) primary: Option<(usize, Switched)>,
    /// The weights of providers and keys that are not those of the configuration.
    pub(crate) weights: Weights,
}

/// What is switched, for each call to look at.
pub(crate) struct Switches {
    names: Vec<String>,
    records: Arc<Records>,
    view: RwLock<Arc<View>>,
    /// Which get no calls, for each attempt to look at.
    off: Vec<AtomicBool>,
}

impl Switches {
    pub(crate) fn new(names: Vec<String>, records: Arc<Records>) -> Self {
        let off = names.iter().map(|_| AtomicBool::new(false)).collect();
        let switches = Self { names, records, view: RwLock::default(), off };
        switches.refresh();
        switches
    }

    /// What is switched now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a provider gets no calls.
    pub(super) fn is_off(&self, provider: usize) -> bool {
        self.off.get(provider).is_some_and(|off| off.load(Ordering::Acquire))
    }

    /// Looks at the records again: some may be new.
    pub(crate) fn refresh(&self) {
        // Looked at under the lock, so that the last one to come sees the newest.
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let off = |name: &String| {
            let record = self.records.get(&Subject::of(Topic::Switch, name))?;
            Some(Switched::new(SwitchState::parse(&record.value)?, record))
        };
        let primary = self.records.get(&Subject::of(Topic::Primary, "")).and_then(|record| {
            let place = self.names.iter().position(|name| *name == record.value)?;
            Some((place, Switched::new(SwitchState::Enabled, record)))
        });
        let mut order: Vec<_> = (0..self.names.len()).collect();
        if let Some((first, _)) = &primary {
            order.sort_by_key(|place| place != first);
        }
        let weights = Weights::read(&self.names, &self.records);
        let off: Vec<_> = self.names.iter().map(off).collect();
        for (off, flag) in off.iter().zip(&self.off) {
            flag.store(off.is_some(), Ordering::Release);
        }
        *view = Arc::new(View { order, off, primary, weights });
    }
}
