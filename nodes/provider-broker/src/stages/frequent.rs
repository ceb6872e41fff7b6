//! The prompts that are asked most, and when their answers in the cache end: what is worth being asked anew before somebody
//! waits for it.
//!
//! Kept is what providers may see: redacted text. It is bounded in prompts and in bytes, whatever is asked. It decides what is
//! due, and asks nobody itself.

use super::asked::Asked;
use super::clears::{Cleared, namespace_of};
use super::{Fingerprint, Scope};
use crate::config::Cache;
use callboard_domain::llm::{CacheMode, TextRequest};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How many prompts are counted for each that is kept warm: the more, the less the counts of rare ones get in the way.
const COUNTED: usize = 4;
/// The longest prompt that is kept, in bytes of text.
const PROMPT_BYTES: usize = 16 << 10;
/// The part of its time before its end in which an answer is asked for anew, and the shortest and the longest that may be.
const LEAD: u32 = 10;
const SHORTEST_LEAD: Duration = Duration::from_secs(10);
const LONGEST_LEAD: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);
/// A namespace that stands for all.
const EVERY: &str = "*";

/// What is asked most of a stream of items, in bounded memory: the Space-Saving algorithm of Metwally, Agrawal and El Abbadi,
/// "Efficient Computation of Frequent and Top-k Elements in Data Streams" (ICDT 2005).
///
/// Of `n` items counted with room for `m`, each that came more than `n / m` times is there. A count is never too low, and too
/// high by `error` at most.
struct SpaceSaving<K, V> {
    room: usize,
    counted: HashMap<K, Counted<V>>,
}

struct Counted<V> {
    count: u64,
    error: u64,
    value: V,
}

impl<V> Counted<V> {
    /// How often it came at least.
    const fn at_least(&self) -> u64 {
        self.count - self.error
    }
}

impl<K: Clone + Eq + Hash, V> SpaceSaving<K, V> {
    fn new(room: usize) -> Self {
        Self { room: room.max(1), counted: HashMap::new() }
    }

    /// Counts an item. Its value is what it was counted with first.
    fn count(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let mut error = 0;
        if !self.counted.contains_key(&key) && self.counted.len() >= self.room {
            let least = self.counted.iter().min_by_key(|(_, counted)| counted.count);
            if let Some(least) = least.map(|(key, _)| key.clone()) {
                error = self.counted.remove(&least).map_or(0, |counted| counted.count);
            }
        }
        let counted =
            self.counted.entry(key).or_insert_with(|| Counted { count: error, error, value: value() });
        counted.count += 1;
        &mut counted.value
    }

    /// What came long ago counts half as much.
    fn age(&mut self) {
        self.counted.retain(|_, counted| {
            (counted.count, counted.error) = (counted.count / 2, counted.error / 2);
            counted.count > 0
        });
    }

    /// Those that came most, most first.
    fn top(&self, most: usize) -> Vec<(&K, &Counted<V>)> {
        let mut all: Vec<_> = self.counted.iter().collect();
        all.sort_unstable_by_key(|(_, counted)| std::cmp::Reverse(counted.at_least()));
        all.truncate(most);
        all
    }
}

/// A prompt that is asked often.
struct Prompt {
    request: TextRequest,
    scope: Scope,
    ttl: Duration,
    /// When its answer ends, as far as is known.
    until: Option<Instant>,
    /// Whether anybody has asked since its answer was kept.
    wanted: bool,
}

/// A prompt whose answer ends soon.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(super) of: Fingerprint,
    pub(crate) request: TextRequest,
    pub(super) scope: Scope,
}

impl Due {
    /// The namespace it is asked in.
    pub(crate) fn namespace(&self) -> &str {
        namespace_of(&self.scope.namespace)
    }
}

impl Counted<Prompt> {
    /// Whether its answer ends soon, and was given since it was kept.
    fn is_due(&self, now: Instant) -> bool {
        let Prompt { ttl, until, wanted, .. } = &self.value;
        let lead = (*ttl / LEAD).clamp(SHORTEST_LEAD, LONGEST_LEAD);
        // Once is not often. What has ended for longer is for whoever asks next.
        *wanted && self.at_least() > 1 && until.is_some_and(|until| now + lead >= until && now < until + lead)
    }
}

/// What becomes of a prompt that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is asked for.
    Asked,
    /// It is not due any more: it was cleared meanwhile, or somebody has renewed its answer.
    Over,
    /// There is no place for it among the calls of this minute, nor for another.
    Full,
}

/// The prompts that are asked most.
pub(super) struct Frequent {
    top: usize,
    per_minute: u32,
    namespaces: Vec<String>,
    /// How long it takes until a count is half.
    half_life: Duration,
    state: Mutex<State>,
}

struct State {
    prompts: SpaceSaving<Fingerprint, Prompt>,
    aged: Instant,
    /// When this minute began, and what was asked in it.
    minute: (Instant, u32),
}

impl Frequent {
    /// None if nothing is kept warm.
    pub(super) fn new(config: &Cache) -> Option<Self> {
        let top = usize::try_from(config.warm_top).unwrap_or(usize::MAX);
        let now = Instant::now();
        (top > 0).then(|| Self {
            top,
            per_minute: config.warm_per_minute,
            namespaces: config.warm_namespaces.clone(),
            half_life: config.ttl,
            state: Mutex::new(State {
                prompts: SpaceSaving::new(top.saturating_mul(COUNTED)),
                aged: now,
                minute: (now, 0),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asks what the cache may answer.
    pub(super) fn asked(&self, asked: &Asked) {
        let Some(ttl) = asked.keep.filter(|_| asked.looks_up) else { return };
        let namespace = namespace_of(&asked.scope.namespace);
        let may = self.namespaces.iter().any(|name| name == EVERY || name == namespace);
        let request = &asked.request;
        if !may || request.text_bytes() > PROMPT_BYTES || request.image_bytes() > 0 {
            return;
        }
        let mut state = self.state();
        if state.aged.elapsed() >= self.half_life {
            state.aged = Instant::now();
            state.prompts.age();
        }
        let prompt = state.prompts.count(asked.of, || Prompt {
            // How it is asked anew, not how it was asked.
            request: TextRequest {
                cache: CacheMode::Refresh,
                idempotency_key: None,
                timeout: None,
                trial: None,
                ..request.clone()
            },
            scope: Scope { failures: 0, ..asked.scope.clone() },
            ttl,
            until: None,
            wanted: false,
        });
        prompt.wanted = true;
    }

    /// An answer is kept from now on, for so long.
    pub(super) fn kept(&self, of: &Fingerprint, ttl: Duration) {
        if let Some(counted) = self.state().prompts.counted.get_mut(of) {
            let prompt = &mut counted.value;
            (prompt.until, prompt.wanted, prompt.ttl) = (Some(Instant::now() + ttl), false, ttl);
        }
    }

    /// Another node has an answer. For how long is not known: it ends by then at the latest.
    pub(super) fn found(&self, of: &Fingerprint) {
        if let Some(counted) = self.state().prompts.counted.get_mut(of) {
            let (prompt, now) = (&mut counted.value, Instant::now());
            prompt.until = prompt.until.filter(|until| *until > now).or(Some(now + prompt.ttl));
        }
    }

    /// What was cleared is not asked for anew.
    pub(super) fn clear(&self, cleared: &Cleared) {
        let takes = |scope: &Scope| cleared.takes(&scope.namespace, &scope.kind);
        self.state().prompts.counted.retain(|_, counted| !takes(&counted.value.scope));
    }

    /// Of those that are asked most, the ones whose answers end soon and were given since they were kept.
    pub(super) fn due(&self) -> Vec<Due> {
        let (state, now) = (self.state(), Instant::now());
        let top = state.prompts.top(self.top).into_iter().filter(|(_, counted)| counted.is_due(now));
        top.map(|(of, Counted { value, .. })| Due {
            of: *of,
            request: value.request.clone(),
            scope: value.scope.clone(),
        })
        .collect()
    }

    /// Takes a place among the calls of this minute, and the prompt off those that are due: it is not asked for again before
    /// its answer is kept anew. Time has gone by since it was due: one that is not any more takes no place.
    pub(super) fn begin(&self, of: &Fingerprint) -> Begun {
        let mut state = self.state();
        let State { prompts, minute: (began, asked), .. } = &mut *state;
        let now = Instant::now();
        let Some(counted) = prompts.counted.get_mut(of).filter(|counted| counted.is_due(now)) else {
            return Begun::Over;
        };
        if now.duration_since(*began) >= MINUTE {
            (*began, *asked) = (now, 0);
        }
        if *asked >= self.per_minute {
            return Begun::Full;
        }
        *asked += 1;
        counted.value.until = None;
        Begun::Asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What the paper proves.
        #[test]
        fn what_comes_often_is_there_and_counts_err_by_what_they_say(
            items in proptest::collection::vec(0_u8..40, 0..400),
            room in 1_usize..20,
        ) {
            let mut counted = SpaceSaving::new(room);
            let mut exact = HashMap::<u8, u64>::new();
            for item in &items {
                counted.count(*item, || ());
                *exact.entry(*item).or_default() += 1;
            }
            prop_assert!(counted.counted.len() <= room);
            for (item, times) in exact {
                match counted.counted.get(&item) {
                    Some(found) => {
                        prop_assert!(found.count >= times && found.at_least() <= times);
                        prop_assert!(found.error <= items.len() as u64 / room as u64);
                    }
                    None => prop_assert!(times <= items.len() as u64 / room as u64),
                }
            }
        }
    }

    #[test]
    fn what_is_not_asked_any_more_is_forgotten() {
        let mut counted = SpaceSaving::new(4);
        for item in ["a", "a", "a", "a", "b"] {
            counted.count(item, || ());
        }
        counted.age();
        assert_eq!(counted.top(4).iter().map(|(item, c)| (**item, c.count)).collect::<Vec<_>>(), [("a", 2)]);
        counted.age();
        counted.age();
        assert!(counted.top(4).is_empty());
    }
}
