//! Chunks of hot buckets, leased by this node.
//!
//! Every call of the cluster meets at a global limit. Instead of asking Redis each time, a node takes a chunk of
//! what comes back in 50 to 100 ms and passes calls from it. A chunk was debited in Redis before the first of
//! them passes, so all nodes together stay within the bound; a moment's rate may be over it by what was leased
//! before, at most a chunk a node. What is not used within that span is given back.
//!
//! One call at a time asks for the next chunk of a bucket, and the others wait for it. For a few milliseconds a
//! refusal answers those after it too.

use super::script::{Bucket, Calls, Leased};
use crate::redis_link::Error;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a refusal of Redis answers calls.
const REFUSED_FOR: Duration = Duration::from_millis(5);
/// A chunk is this part of the burst at most, so that one node does not take it all.
const PART_OF_BURST: i64 = 4;
/// The most buckets that chunks are leased of. Others are asked for each time.
const POOLS: usize = 1_000;

/// Which buckets are leased, and in what chunks.
#[derive(Clone, Debug)]
pub struct Lease {
    /// What the keys of hot buckets begin with.
    pub prefixes: Vec<String>,
    /// How much at once: what comes back in this span, from 50 to 100 ms. Unused it is given back after it.
    pub span: Duration,
}

/// The chunks of this node.
#[derive(Debug)]
pub(super) struct Leases {
    options: Lease,
    pools: Mutex<HashMap<String, Arc<Pool>>>,
    /// What buckets had when Redis was asked last, also of those that nobody asks for any more: at most [`POOLS`].
    seen: Mutex<HashMap<String, Seen>>,
    granted: AtomicU64,
}

#[derive(Debug)]
struct Pool {
    /// Who holds this asks Redis for the next chunk.
    turn: tokio::sync::Mutex<()>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    bucket: Bucket,
    tokens: i64,
    until: Instant,
    refused: Option<Refused>,
}

/// A refusal: what the bucket and this node held together at a moment.
#[derive(Clone, Copy, Debug)]
struct Refused {
    tokens: i64,
    at: Instant,
}

/// What a bucket had in Redis at a moment.
#[derive(Clone, Copy, Debug)]
struct Seen {
    tokens: i64,
    at: Instant,
}

/// Whether a chunk had enough.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Allowed,
    Lacking(Option<Duration>),
}

impl Pool {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be said without Redis.
    fn try_take(&self, bucket: &Bucket, cost: i64, now: Instant) -> Option<Taken> {
        let mut held = self.held();
        if held.bucket != *bucket {
            // Another rate or burst than before: its own counts from now on.
            held.bucket = bucket.clone();
            held.refused = None;
        }
        if now < held.until && held.tokens >= cost {
            held.tokens -= cost;
            return Some(Taken::Allowed);
        }
        let refused = held.refused.filter(|refused| now.duration_since(refused.at) < REFUSED_FOR)?;
        let missing = cost - refused.tokens - bucket.comes_back(now.duration_since(refused.at));
        (missing > 0).then(|| Taken::Lacking(bucket.wait(missing).filter(|_| cost <= bucket.burst)))
    }
}

impl Leases {
    pub(super) fn new(options: Lease) -> Self {
        let span = options.span.clamp(Duration::from_millis(50), Duration::from_millis(100));
        let options = Lease { span, ..options };
        Self { options, pools: Mutex::default(), seen: Mutex::default(), granted: AtomicU64::new(0) }
    }

    /// How many chunks were leased.
    pub(super) fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    pub(super) const fn span(&self) -> Duration {
        self.options.span
    }

    /// Whether this node leases chunks of a bucket.
    pub(super) fn covers(&self, key: &str) -> bool {
        self.options.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()))
            && (self.pools().contains_key(key) || self.pools().len() < POOLS)
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<String, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self, bucket: &Bucket) -> Arc<Pool> {
        let new = || {
            let held = Held { bucket: bucket.clone(), tokens: 0, until: Instant::now(), refused: None };
            Arc::new(Pool { turn: tokio::sync::Mutex::default(), held: Mutex::new(held) })
        };
        self.pools().entry(bucket.key.clone()).or_insert_with(new).clone()
    }

    /// Takes from the chunk, and leases the next one if it lacks.
    pub(super) async fn take(&self, calls: &Calls, bucket: &Bucket, cost: i64) -> Result<Taken, Error> {
        let pool = self.pool(bucket);
        if let Some(taken) = pool.try_take(bucket, cost, Instant::now()) {
            return Ok(taken);
        }
        let _turn = pool.turn.lock().await;
        // Whoever had the turn before may have leased enough.
        if let Some(taken) = pool.try_take(bucket, cost, Instant::now()) {
            return Ok(taken);
        }
        let asked = Instant::now();
        let left = std::mem::take(&mut pool.held().tokens);
        let chunk = self.chunk(bucket);
        // If this is dropped or fails here, what was left is lost: less passes than may, never more.
        let leased = calls.lease(bucket, cost, chunk, left).await?;
        let mut held = pool.held();
        match leased {
            Leased::Granted { granted, tokens } => {
                self.saw(bucket, tokens, asked);
                self.granted.fetch_add(1, Ordering::Relaxed);
                held.tokens += granted - cost;
                held.until = asked + self.options.span;
                held.refused = None;
                Ok(Taken::Allowed)
            }
            Leased::Lacking { wait, tokens } => {
                self.saw(bucket, tokens, asked);
                held.tokens += left;
                held.refused = Some(Refused { tokens, at: asked });
                Ok(Taken::Lacking(wait))
            }
        }
    }

    fn saw(&self, bucket: &Bucket, tokens: i64, at: Instant) {
        let mut seen = self.seen();
        let now = Seen { tokens, at };
        if let Some(known) = seen.get_mut(&bucket.key) {
            *known = now;
        } else if seen.len() < POOLS {
            seen.insert(bucket.key.clone(), now);
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a bucket has, as it was seen last, with what came back since and what this node holds of it. Nothing that other nodes
    /// have taken since is known of.
    pub(super) fn left(&self, bucket: &Bucket, now: Instant) -> Option<i64> {
        let Seen { tokens, at } = *self.seen().get(&bucket.key)?;
        let held = self.pools().get(&bucket.key).map_or(0, |pool| pool.held().tokens);
        let there = tokens.saturating_add(bucket.comes_back(now.saturating_duration_since(at)));
        Some(there.saturating_add(held).min(bucket.burst))
    }

    /// Takes from the chunk if it has enough: no other is leased.
    pub(super) fn take_held(&self, bucket: &Bucket, cost: i64, now: Instant) -> bool {
        self.pool(bucket).try_take(bucket, cost, now) == Some(Taken::Allowed)
    }

    /// A call that took from the chunk did not pass after all.
    pub(super) fn put_back(&self, bucket: &Bucket, cost: i64) {
        self.pool(bucket).held().tokens += cost;
    }

    /// Debits the chunk as far as it has tokens. What is given back fills it up to what is leased at once, while it is not
    /// old: no node ever holds more. Answers what remains for Redis.
    pub(super) fn settle(&self, bucket: &Bucket, cost: i64) -> i64 {
        let pool = self.pool(bucket);
        let mut held = pool.held();
        held.refused = None;
        let here = self.part(&held, bucket, cost);
        held.tokens -= here;
        cost - here
    }

    /// The same, if nothing remains for Redis; else nothing is done.
    pub(super) fn settle_whole(&self, bucket: &Bucket, cost: i64) -> bool {
        let pool = self.pool(bucket);
        let mut held = pool.held();
        let whole = self.part(&held, bucket, cost) == cost;
        if whole {
            held.refused = None;
            held.tokens -= cost;
        }
        whole
    }

    /// What of a cost is the chunk's.
    fn part(&self, held: &Held, bucket: &Bucket, cost: i64) -> i64 {
        let room = if Instant::now() < held.until { self.chunk(bucket) - held.tokens } else { 0 };
        cost.clamp(-room.max(0), held.tokens.max(0))
    }

    /// How much is leased at once.
    fn chunk(&self, bucket: &Bucket) -> i64 {
        bucket.comes_back(self.options.span).min(bucket.burst / PART_OF_BURST)
    }

    /// Takes out what was not used in time, to be given back, and forgets buckets that nobody asks for.
    pub(super) fn expired(&self, now: Instant) -> Vec<(Bucket, i64)> {
        let mut unused = Vec::new();
        self.pools().retain(|_, pool| {
            let mut held = pool.held();
            if now < held.until {
                return true;
            }
            let tokens = std::mem::take(&mut held.tokens);
            if tokens != 0 {
                unused.push((held.bucket.clone(), -tokens));
            }
            Arc::strong_count(pool) > 1 || now.duration_since(held.until) < 10 * self.options.span
        });
        unused
    }

    /// Forgets all chunks: they were debited in a Redis that is away.
    pub(super) fn clear(&self) {
        self.pools().clear();
        self.seen().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Bucket {
        Bucket { key: "all".into(), rate: 1_000_000_000, burst: 100_000_000 }
    }

    fn leases() -> Leases {
        Leases::new(Lease { prefixes: vec!["all".into()], span: Duration::from_millis(1) })
    }

    /// As after a lease of so many tokens.
    fn lease(leases: &Leases, tokens: i64) -> Arc<Pool> {
        let pool = leases.pool(&bucket());
        pool.held().tokens = tokens;
        pool.held().until = Instant::now() + leases.span();
        pool
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_passes_calls_until_it_is_used_or_old() {
        let leases = leases();
        assert_eq!(leases.span(), Duration::from_millis(50), "no less than that");
        let pool = lease(&leases, 10);
        assert_eq!(pool.try_take(&bucket(), 6, Instant::now()), Some(Taken::Allowed));
        assert_eq!(pool.try_take(&bucket(), 6, Instant::now()), None);
        assert_eq!(pool.try_take(&bucket(), 1, Instant::now() + leases.span()), None);
        assert_eq!(leases.expired(Instant::now()), []);
        leases.put_back(&bucket(), 6);
        assert_eq!(leases.expired(Instant::now() + leases.span()), [(bucket(), -10)]);
        assert_eq!(leases.expired(Instant::now() + leases.span()), [], "given back once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_what_was_seen_with_what_came_back_and_what_is_held() {
        let leases = leases();
        let now = Instant::now();
        assert_eq!(leases.left(&bucket(), now), None);
        leases.saw(&bucket(), 20_000_000, now);
        lease(&leases, 5_000_000);
        assert_eq!(leases.left(&bucket(), now), Some(25_000_000));
        let later = now + Duration::from_millis(10);
        assert_eq!(leases.left(&bucket(), later), Some(35_000_000), "a thousand a second");
        assert_eq!(leases.left(&bucket(), now + Duration::from_secs(9)), Some(bucket().burst));
        leases.clear();
        assert_eq!(leases.left(&bucket(), later), None, "redis is away");
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_is_taken_from_the_chunk_first() {
        let leases = leases();
        let pool = lease(&leases, 10);
        assert_eq!(leases.settle(&bucket(), 4), 0);
        assert!(!leases.settle_whole(&bucket(), 9), "it has not so many");
        assert_eq!(leases.settle(&bucket(), 9), 3);
        assert_eq!(pool.held().tokens, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_fills_the_chunk_up_to_what_is_leased_at_once() {
        let leases = leases();
        let (pool, chunk) = (lease(&leases, 10), leases.chunk(&bucket()));
        assert!(leases.settle_whole(&bucket(), -5));
        assert_eq!(pool.held().tokens, 15);
        assert!(!leases.settle_whole(&bucket(), -chunk), "it would hold more than a chunk");
        assert_eq!(leases.settle(&bucket(), -chunk), -15, "the rest goes to redis");
        assert_eq!(pool.held().tokens, chunk);
        pool.held().tokens = 0;
        tokio::time::advance(leases.span()).await;
        assert_eq!(leases.settle(&bucket(), -5), -5, "an old chunk takes nothing");
        // It passes calls at once while it has enough, and leases no other.
        lease(&leases, 10);
        assert!(leases.take_held(&bucket(), 6, Instant::now()));
        assert!(!leases.take_held(&bucket(), 6, Instant::now()));
        assert_eq!(pool.held().tokens, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_answers_for_a_moment_and_names_the_wait() {
        let leases = leases();
        let pool = lease(&leases, 0);
        let now = Instant::now();
        pool.held().refused = Some(Refused { tokens: 1_000_000, at: now });
        let millisecond = Duration::from_millis(1);
        let wait = |micros| Some(Taken::Lacking(Some(Duration::from_micros(micros))));
        assert_eq!(pool.try_take(&bucket(), 5_000_000, now), wait(4_000));
        assert_eq!(pool.try_take(&bucket(), 5_000_000, now + millisecond), wait(3_000));
        assert_eq!(pool.try_take(&bucket(), 1_500_000, now + millisecond), None, "it may have that by now");
        assert_eq!(pool.try_take(&bucket(), 50_000_000, now + REFUSED_FOR), None, "asked anew");
        assert_eq!(pool.try_take(&bucket(), 200_000_000, now), Some(Taken::Lacking(None)), "over the burst");
    }

    #[tokio::test(start_paused = true)]
    async fn buckets_that_nobody_asks_for_are_forgotten() {
        let leases = leases();
        drop(lease(&leases, 0));
        assert!(leases.expired(Instant::now() + leases.span()).is_empty());
        assert_eq!(leases.pools().len(), 1);
        leases.expired(Instant::now() + 20 * leases.span());
        assert_eq!(leases.pools().len(), 0);
        assert!(leases.covers("all/b") && !leases.covers("tenant"));
    }
}
