//! Answers in memory, bounded in bytes and in time.
//!
//! The bound is what an answer takes with all that is kept beside it, so that a shelf does not grow for days, whatever
//! is asked. What does not fit makes room: of a cache, what is asked least; of answers by key, the oldest.

use super::clears::Cleared;
use super::{Fingerprint, Scope};
use callboard_domain::llm::{TextResponse, ToolCall};
use moka::policy::{EvictionPolicy, Expiry};
use moka::sync::Cache;
use std::sync::Arc;
use std::time::{Duration, Instant as Now};
use tokio::time::Instant;

/// What an entry takes beside what is kept, in bytes: its place in the map, in a queue and in the wheel of times, with what
/// the allocator rounds up.
const PLACE: usize = 512;
const MB: u64 = 1 << 20;

/// An answer that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// What was asked.
    pub(super) of: Fingerprint,
    /// The kind of the task that asked; empty for a direct call.
    pub(super) kind: Arc<str>,
    /// Its namespace; empty if it has none.
    pub(super) namespace: Arc<str>,
    pub(super) answer: TextResponse,
    /// What else is kept with it.
    pub(super) sketch: Box<[u32]>,
    pub(super) ttl: Duration,
    /// Until when it is given again.
    until: Instant,
}

impl Kept {
    /// Without the attempts that it took: whoever gets it again is told of none.
    pub(super) fn new(of: Fingerprint, scope: &Scope, mut answer: TextResponse, ttl: Duration) -> Self {
        answer.summary.attempts = Vec::new();
        let Scope { namespace, kind, .. } = scope;
        let (namespace, kind, sketch) = (namespace.as_str().into(), kind.as_str().into(), Box::default());
        Self { of, kind, namespace, answer, sketch, ttl, until: Instant::now() + ttl }
    }

    /// The same with a sketch of the question.
    pub(super) fn with(self, sketch: Box<[u32]>) -> Self {
        Self { sketch, ..self }
    }

    fn bytes(&self) -> u32 {
        let TextResponse { text, tool_calls, summary } = &self.answer;
        let dropped: usize = summary.dropped.iter().map(|name| size_of::<String>() + name.len()).sum();
        let texts = text.capacity() + summary.provider.len() + summary.model.len() + dropped;
        let call = |call: &ToolCall| {
            let signature = call.signature.as_ref().map_or(0, String::len);
            size_of::<ToolCall>() + call.id.len() + call.name.len() + call.arguments.len() + signature
        };
        let bytes = size_of::<Self>()
            + PLACE
            + texts
            + tool_calls.iter().map(call).sum::<usize>()
            + self.kind.len()
            + self.namespace.len()
            + size_of_val(&*self.sketch);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// What makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// What is asked least.
    Rare,
    /// What is oldest.
    Old,
}

/// Answers by a hash.
pub(super) struct Shelf {
    kept: Cache<Fingerprint, Arc<Kept>>,
}

/// Frees the memory of what is not given again, though nobody asks for it.
struct Ttl;

impl Expiry<Fingerprint, Arc<Kept>> for Ttl {
    fn expire_after_create(&self, _: &Fingerprint, kept: &Arc<Kept>, _: Now) -> Option<Duration> {
        Some(kept.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Fingerprint,
        kept: &Arc<Kept>,
        _: Now,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.ttl)
    }
}

impl Shelf {
    /// A shelf of so many MB.
    pub(super) fn new(max_mb: u32, room: Room) -> Self {
        let policy = match room {
            Room::Rare => EvictionPolicy::tiny_lfu(),
            Room::Old => EvictionPolicy::lru(),
        };
        let kept = Cache::builder()
            .max_capacity(u64::from(max_mb) * MB)
            .weigher(|_, kept: &Arc<Kept>| kept.bytes())
            .eviction_policy(policy)
            .expire_after(Ttl)
            .support_invalidation_closures()
            .build();
        Self { kept }
    }

    /// What is kept there, if it is still given again.
    pub(super) fn get(&self, at: &Fingerprint) -> Option<Arc<Kept>> {
        let kept = self.kept.get(at)?;
        if kept.until > Instant::now() {
            return Some(kept);
        }
        self.kept.invalidate(at);
        None
    }

    pub(super) fn put(&self, at: Fingerprint, kept: Kept) {
        self.kept.insert(at, Arc::new(kept));
    }

    /// Forgets what is cleared.
    pub(super) fn clear(&self, cleared: &Cleared) {
        if *cleared == Cleared::default() {
            return self.kept.invalidate_all();
        }
        let cleared = cleared.clone();
        // It fails only without the support for it, which is built in.
        let takes = move |_: &_, kept: &Arc<Kept>| cleared.takes(&kept.namespace, &kept.kind);
        drop(self.kept.invalidate_entries_if(takes));
    }

    /// Calls this with the namespace, the kind and the bytes of each answer that is kept.
    pub(super) fn each(&self, each: &mut dyn FnMut(&str, &str, u64)) {
        for (_, kept) in &self.kept {
            each(&kept.namespace, &kept.kind, u64::from(kept.bytes()));
        }
    }

    /// How many answers are kept, and how many bytes they take.
    pub(super) fn size(&self) -> (u64, u64) {
        self.kept.run_pending_tasks();
        (self.kept.entry_count(), self.kept.weighted_size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::{ProviderAttempt, Summary};

    #[test]
    fn what_is_kept_counts_with_all_around_it_and_the_attempts_are_not_kept() {
        let of = super::super::fingerprint::route("").finish();
        let attempts = vec![ProviderAttempt {
            provider: "a".into(),
            key: String::new(),
            model: "m".into(),
            duration: Duration::ZERO,
            error: None,
        }];
        let kept = |text: &str| {
            let summary = Summary { attempts: attempts.clone(), ..Summary::default() };
            let answer = TextResponse { text: text.into(), summary, ..TextResponse::default() };
            Kept::new(of, &Scope::default(), answer, Duration::ZERO)
        };
        assert_eq!(kept("").answer, TextResponse::default());
        assert!(kept("").bytes() as usize > size_of::<Kept>());
        assert_eq!(kept(&"x".repeat(1_000)).bytes() - kept("").bytes(), 1_000);
    }
}
