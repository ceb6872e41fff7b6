//! What the stages count.

use callboard_ports::metrics::Counter;

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) shared: Counter,
    pub(super) replayed: Counter,
    pub(super) conflicts: Counter,
    pub(super) similar: Counter,
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
    /// What is under way and may be shared.
    pub under_way: usize,
}

impl Counters {
    pub(super) fn read(&self) -> StageCounts {
        StageCounts {
            hits: self.hits.get(),
            misses: self.misses.get(),
            shared: self.shared.get(),
            replayed: self.replayed.get(),
            conflicts: self.conflicts.get(),
            made_do: self.similar.get(),
            ..StageCounts::default()
        }
    }
}
