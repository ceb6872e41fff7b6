//! What the stages count: for each namespace and kind of task that asks.

use super::Scope;
use super::clears::namespace_of;
use callboard_ports::metrics::Counter;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The most pairs of a namespace and a kind that are counted by themselves. Callers may name any: what comes later is counted
/// together.
const ROWS: usize = 64;

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) conflicts: Counter,
    pub(super) warmed: Counter,
    pub(super) not_warmed: Counter,
    pub(super) held: Counter,
    /// By namespace and kind.
    rows: RwLock<HashMap<String, HashMap<String, Arc<Row>>>>,
    others: Arc<Row>,
}

/// What is counted of one namespace and kind.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) hits: Counter,
    pub(super) hits_shared: Counter,
    pub(super) misses: Counter,
    pub(super) shared: Counter,
    pub(super) replayed: Counter,
    pub(super) similar: Counter,
}

/// What the caches did since the start for the calls of a namespace and a kind of task, and what the exact one keeps of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// The namespace and the kind; the kind is empty for direct calls. None for all pairs beyond the first 64.
    pub of: Option<(String, String)>,
    /// Calls that the exact cache answered from this node's memory.
    pub hits: u64,
    /// Calls that it answered from what nodes share.
    pub hits_shared: u64,
    /// Calls that it could have answered, and had nothing for.
    pub misses: u64,
    /// Calls that shared one which was under way.
    pub shared: u64,
    /// Calls that got the answer of an earlier one with the same idempotency key.
    pub replayed: u64,
    /// Calls that no provider answered, and that got the answer to a similar one.
    pub made_do: u64,
    /// Answers in the exact cache in this node's memory.
    pub entries: u64,
    /// The bytes they take.
    pub bytes: u64,
}

/// What the stages before the route did since the start, and what they keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageCounts {
    /// Calls that the exact cache answered.
    pub hits: u64,
    /// Calls that it could have answered, and had nothing for.
    pub misses: u64,
    /// Calls that shared one which was under way.
    pub shared: u64,
    /// Calls that got the answer of an earlier one with the same idempotency key.
    pub replayed: u64,
    /// Calls that were refused, as their key stands for another.
    pub conflicts: u64,
    /// Calls that no provider answered, and that got the answer to a similar one.
    pub made_do: u64,
    /// What was taken out of prompts, by pattern.
    pub redacted: Vec<(&'static str, u64)>,
    /// Answers in the exact cache, and the bytes they take.
    pub cached: (u64, u64),
    /// Answers that are kept by key, and the bytes they take.
    pub by_key: (u64, u64),
    /// Answers that are kept for similar calls, and the bytes they take.
    pub similar: (u64, u64),
    /// Answers that were asked for anew before they ended.
    pub warmed: u64,
    /// Those where that failed, or came to nothing that is kept.
    pub not_warmed: u64,
    /// How often it was not tried, as the provider was not well or had little left.
    pub held: u64,
    /// What is under way and may be shared.
    pub under_way: usize,
}

impl Row {
    fn read(&self, of: Option<(String, String)>) -> CacheCounts {
        CacheCounts {
            of,
            hits: self.hits.get(),
            hits_shared: self.hits_shared.get(),
            misses: self.misses.get(),
            shared: self.shared.get(),
            replayed: self.replayed.get(),
            made_do: self.similar.get(),
            entries: 0,
            bytes: 0,
        }
    }
}

impl Counters {
    /// Where a call is counted.
    pub(super) fn of(&self, scope: &Scope) -> Arc<Row> {
        let (namespace, kind) = (namespace_of(&scope.namespace), scope.kind.as_str());
        let found =
            |rows: &HashMap<String, HashMap<String, Arc<Row>>>| rows.get(namespace)?.get(kind).cloned();
        if let Some(row) = found(&self.rows.read().unwrap_or_else(PoisonError::into_inner)) {
            return row;
        }
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been here since.
        if let Some(row) = found(&rows) {
            return row;
        }
        if rows.values().map(HashMap::len).sum::<usize>() >= ROWS {
            return Arc::clone(&self.others);
        }
        let row = Arc::<Row>::default();
        rows.entry(namespace.to_owned()).or_default().insert(kind.to_owned(), Arc::clone(&row));
        row
    }

    /// All of them, by name; those that are counted together at the end. `kept` calls what it is given with the namespace, the
    /// kind and the bytes of each answer that is kept.
    pub(super) fn rows(&self, kept: impl FnOnce(&mut dyn FnMut(&str, &str, u64))) -> Vec<CacheCounts> {
        let mut read = HashMap::<String, HashMap<String, CacheCounts>>::new();
        for (namespace, kinds) in &*self.rows.read().unwrap_or_else(PoisonError::into_inner) {
            let of_namespace = read.entry(namespace.clone()).or_default();
            for (kind, row) in kinds {
                of_namespace.insert(kind.clone(), row.read(Some((namespace.clone(), kind.clone()))));
            }
        }
        let mut others = self.others.read(None);
        // There may be very many of these: nothing is allocated for one.
        kept(&mut |namespace, kind, bytes| {
            let found = read.get_mut(namespace_of(namespace)).and_then(|kinds| kinds.get_mut(kind));
            let counts = found.unwrap_or(&mut others);
            counts.entries += 1;
            counts.bytes += bytes;
        });
        let mut rows: Vec<_> = read.into_values().flat_map(HashMap::into_values).collect();
        rows.sort_unstable_by(|a, b| a.of.cmp(&b.of));
        if others != CacheCounts::default() {
            rows.push(others);
        }
        rows
    }

    pub(super) fn read(&self) -> StageCounts {
        let all = self.rows(|_| {});
        let sum = |of: fn(&CacheCounts) -> u64| all.iter().map(of).sum();
        StageCounts {
            hits: sum(|counts| counts.hits + counts.hits_shared),
            misses: sum(|counts| counts.misses),
            shared: sum(|counts| counts.shared),
            replayed: sum(|counts| counts.replayed),
            conflicts: self.conflicts.get(),
            warmed: self.warmed.get(),
            not_warmed: self.not_warmed.get(),
            held: self.held.get(),
            made_do: sum(|counts| counts.made_do),
            ..StageCounts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_and_kind_has_a_row_until_there_are_too_many() {
        let counters = Counters::default();
        for i in 0..ROWS + 10 {
            let scope = Scope { kind: format!("kind {i}"), ..Scope::default() };
            counters.of(&scope).hits.one();
            counters.of(&scope).misses.one();
        }
        let kept = |each: &mut dyn FnMut(&str, &str, u64)| {
            each("", "kind 0", 7);
            each("default", "kind 0", 8);
            each("", "kind 70", 9);
        };
        let rows = counters.rows(kept);
        assert_eq!(rows.len(), ROWS + 1);
        let of = Some(("default".to_owned(), "kind 0".to_owned()));
        assert_eq!(
            rows[0],
            CacheCounts { of, hits: 1, misses: 1, entries: 2, bytes: 15, ..Default::default() }
        );
        let others = CacheCounts { hits: 10, misses: 10, entries: 1, bytes: 9, ..Default::default() };
        assert_eq!(rows[ROWS], others);
        let all = counters.read();
        assert_eq!((all.hits, all.misses), (74, 74));
    }
}
