//! Token buckets in Redis, the same for every node, with a share of this node's own while Redis is away.
//!
//! One script checks all levels of a call before it debits any, on Redis' clock and in whole numbers. After a
//! `FLUSHALL` or on a new Redis nobody knows what had been taken: the key `{prefix}:v1:life:` says since when
//! this Redis remembers, and a bucket it does not know holds what has come back to an empty one since then.
//! So in a life that is older than the time a bucket takes to fill, a new bucket is full.
//!
//! Hot buckets may be leased in chunks: see [`Lease`].
//!
//! A call that Redis does not answer is decided by this node's share of the limit, as are all after it until
//! Redis takes writes again, which is asked every quarter of a second. Shares start empty and divide by the
//! largest number of nodes of the last minute, so that the nodes together pass no more than the rate. When Redis
//! is back, it is debited what was taken from the shares and has not come back yet. A debit whose answer was
//! lost may count twice: less passes than may, never more. The keys of one call must differ.

mod crowd;
mod lease;
mod script;
mod shares;
mod standing;

use crate::redis_link::{self, Link};
use crate::token_buckets::redis::lease::{Leases, Taken};
use crate::token_buckets::redis::script::{Bucket, Calls, Lack};
use crate::token_buckets::redis::standing::Reach;
use async_trait::async_trait;
use callboard_ports::token_buckets::{self, Decision, Error, Level};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

pub use lease::Lease;
pub use script::LEVELS;
pub use standing::Standing;

/// How often a Redis that is away is asked whether it is back.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// How often the nodes are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How buckets are kept.
#[derive(Clone)]
pub struct Options {
    /// How many nodes of the cluster there are now, this one among them. Asked every second, also from within
    /// calls: it must not block.
    pub nodes: Arc<dyn Fn() -> usize + Send + Sync>,
    /// Which buckets are leased in chunks; `None`: none.
    pub lease: Option<Lease>,
    /// The most shares that are kept while Redis is away.
    pub shares: usize,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Options");
        shown.field("lease", &self.lease).field("shares", &self.shares).finish_non_exhaustive()
    }
}

impl Options {
    /// Nothing is leased, and at most 100,000 shares are kept.
    #[must_use]
    pub fn new(nodes: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self { nodes: Arc::new(nodes), lease: None, shares: 100_000 }
    }
}

/// What was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that were decided by Redis, or from a chunk it granted.
    pub by_redis: u64,
    /// Calls that were decided by this node's share.
    pub by_share: u64,
    /// How often Redis went away.
    pub lost: u64,
    /// How many chunks were leased.
    pub chunks: u64,
}

/// Token buckets in Redis. Dropping them ends their tasks.
#[derive(Debug)]
pub struct TokenBuckets {
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Inner {
    calls: Calls,
    leases: Option<Leases>,
    reach: Reach,
    by_redis: AtomicU64,
    by_share: AtomicU64,
}

impl TokenBuckets {
    /// Buckets behind a connection. Must be called within a tokio runtime, which runs their upkeep.
    #[must_use]
    pub fn new(link: Link, options: Options) -> Self {
        let inner = Arc::new(Inner {
            calls: Calls::new(link),
            leases: options.lease.map(Leases::new),
            reach: Reach::new(options.shares, options.nodes),
            by_redis: AtomicU64::new(0),
            by_share: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(count_nodes(inner.clone()));
        tasks.spawn(await_return(inner.clone()));
        if inner.leases.is_some() {
            tasks.spawn(give_back(inner.clone()));
        }
        Self { inner, _tasks: tasks }
    }

    /// Who decides now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.inner.reach.standing(Instant::now())
    }

    /// What was done since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let inner = &self.inner;
        Counts {
            by_redis: inner.by_redis.load(Ordering::Relaxed),
            by_share: inner.by_share.load(Ordering::Relaxed),
            lost: inner.reach.times_lost(),
            chunks: inner.leases.as_ref().map_or(0, Leases::granted),
        }
    }
}

#[async_trait]
impl token_buckets::TokenBuckets for TokenBuckets {
    /// At most [`LEVELS`] levels.
    async fn take(&self, levels: &[Level], cost: f64) -> Result<Decision, Error> {
        let Some(first) = levels.first() else { return Ok(Decision::Allowed) };
        if !cost.is_finite() {
            return Ok(Decision::Denied { level: first.key.clone(), retry_after: None });
        }
        let inner = &*self.inner;
        if let Some(era) = inner.era(levels)? {
            match inner.take(levels, cost).await {
                Ok(decision) => return Ok(decision),
                Err(error) => inner.lost(era, &error),
            }
        }
        inner.by_share.fetch_add(1, Ordering::Relaxed);
        inner.reach.share(Instant::now(), |shares, nodes, now| shares.take(levels, cost, nodes, now))
    }

    async fn settle(&self, levels: &[Level], cost: f64) -> Result<(), Error> {
        // An infinite debt would never be paid off.
        if levels.is_empty() || !cost.is_finite() {
            return Ok(());
        }
        let inner = &*self.inner;
        if let Some(era) = inner.era(levels)? {
            match inner.settle(levels, cost).await {
                Ok(()) => return Ok(()),
                Err(error) => inner.lost(era, &error),
            }
        }
        inner.reach.share(Instant::now(), |shares, nodes, now| shares.settle(levels, cost, nodes, now))
    }

    /// Where every level has enough in a chunk that is held.
    fn take_now(&self, levels: &[Level], cost: f64) -> Option<Result<Decision, Error>> {
        let inner = &*self.inner;
        let held = inner.era(levels).ok()?.is_some() && cost.is_finite() && inner.take_held(levels, cost);
        held.then(|| {
            inner.by_redis.fetch_add(1, Ordering::Relaxed);
            Ok(Decision::Allowed)
        })
    }

    /// Where one level alone is settled with a chunk that is held.
    fn settle_now(&self, levels: &[Level], cost: f64) -> Option<Result<(), Error>> {
        let inner = &*self.inner;
        let [level] = levels else { return None };
        let leases = inner.leases.as_ref().filter(|leases| leases.covers(&level.key))?;
        let held = inner.era(levels).ok()?.is_some()
            && cost.is_finite()
            && leases.settle_whole(&Bucket::of(level), script::micro(cost));
        held.then_some(Ok(()))
    }

    /// Of buckets that are leased, while Redis is there.
    fn left(&self, level: &Level) -> Option<f64> {
        let leases = self.inner.leases.as_ref()?;
        Some(leases.left(&Bucket::of(level), Instant::now())? as f64 / script::MICRO)
    }
}

impl Inner {
    /// Which time with Redis this is; `None` while it is away.
    fn era(&self, levels: &[Level]) -> Result<Option<u64>, Error> {
        if levels.len() > LEVELS {
            return Err(Error::Unavailable(format!("a call has at most {LEVELS} levels")));
        }
        Ok(self.reach.era())
    }

    fn lost(&self, era: u64, error: &redis_link::Error) {
        if self.reach.lost(era, error, Instant::now()) {
            tracing::warn!(%error, "redis is away: limits are kept by a share of each node");
            if let Some(leases) = &self.leases {
                leases.clear();
            }
        }
    }

    /// The chunks that a level is taken from, if it is leased. What costs nothing needs none.
    fn leases(&self, level: &Level, cost: f64) -> Option<&Leases> {
        self.leases.as_ref().filter(|leases| cost > 0.0 && leases.covers(&level.key))
    }

    /// Takes from chunks alone: from all levels, or from none.
    fn take_held(&self, levels: &[Level], cost: f64) -> bool {
        let (micro, now) = (script::micro(cost), Instant::now());
        let take = |level: &Level| {
            self.leases(level, cost).is_some_and(|leases| leases.take_held(&Bucket::of(level), micro, now))
        };
        let taken = levels.iter().take_while(|level| take(level)).count();
        let all = taken == levels.len();
        if let (false, Some(leases)) = (all, &self.leases) {
            levels.iter().take(taken).for_each(|level| leases.put_back(&Bucket::of(level), micro));
        }
        all
    }

    async fn take(&self, levels: &[Level], cost: f64) -> Result<Decision, redis_link::Error> {
        let micro = script::micro(cost);
        let mut asked: Vec<(Bucket, i64)> = Vec::new();
        let mut taken: Vec<(&Leases, Bucket)> = Vec::new();
        let mut lacking = None;
        for level in levels {
            let bucket = Bucket::of(level);
            let Some(leases) = self.leases(level, cost) else {
                asked.push((bucket, micro));
                continue;
            };
            match leases.take(&self.calls, &bucket, micro).await? {
                Taken::Allowed => taken.push((leases, bucket)),
                Taken::Lacking(wait) => {
                    // The first level that lacks is named: one of those before may lack too.
                    let before = if asked.is_empty() { None } else { self.calls.peek(&asked).await? };
                    lacking = Some(match before {
                        Some(lack) => named(&asked, lack),
                        None => Decision::Denied { level: bucket.key, retry_after: wait },
                    });
                    break;
                }
            }
        }
        if lacking.is_none() && !asked.is_empty() {
            lacking = self.calls.take(&asked).await?.map(|lack| named(&asked, lack));
        }
        self.by_redis.fetch_add(1, Ordering::Relaxed);
        let Some(denied) = lacking else { return Ok(Decision::Allowed) };
        for (leases, bucket) in taken {
            leases.put_back(&bucket, micro);
        }
        Ok(denied)
    }

    async fn settle(&self, levels: &[Level], cost: f64) -> Result<(), redis_link::Error> {
        let micro = script::micro(cost);
        let debit = |level: &Level| {
            let bucket = Bucket::of(level);
            let leases = self.leases.as_ref().filter(|leases| leases.covers(&level.key));
            let rest = leases.map_or(micro, |leases| leases.settle(&bucket, micro));
            (rest != 0).then_some((bucket, rest))
        };
        let debits: Vec<_> = levels.iter().filter_map(debit).collect();
        if debits.is_empty() { Ok(()) } else { self.calls.settle(&debits).await }
    }

    /// Redis takes writes again: it is debited what is owed, and decides from now on.
    async fn come_back(&self) -> Result<(), redis_link::Error> {
        self.calls.probe().await?;
        let owed = self.reach.owed(Instant::now());
        let debits: Vec<_> =
            owed.iter().map(|(level, cost)| (Bucket::of(level), script::micro(*cost))).collect();
        for debits in debits.chunks(LEVELS) {
            self.calls.repay(debits).await?;
        }
        if let Some(away) = self.reach.found(Instant::now()) {
            tracing::info!(
                away_ms = away.as_millis(),
                "redis is back: limits are kept for all nodes together"
            );
        }
        Ok(())
    }
}

fn named(asked: &[(Bucket, i64)], lack: Lack) -> Decision {
    let level = asked.get(lack.at).map(|(bucket, _)| bucket.key.clone()).unwrap_or_default();
    Decision::Denied { level, retry_after: lack.wait }
}

async fn count_nodes(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        inner.reach.count(Instant::now());
        // Where nobody takes tokens, nobody would notice.
        if let Some(era) = inner.reach.era()
            && let Err(error) = inner.calls.probe().await
        {
            inner.lost(era, &error);
        }
    }
}

async fn await_return(inner: Arc<Inner>) {
    loop {
        inner.reach.until_lost().await;
        tokio::time::sleep(PROBE_EVERY).await;
        if let Err(error) = inner.come_back().await {
            tracing::debug!(%error, "redis is still away");
        }
    }
}

async fn give_back(inner: Arc<Inner>) {
    let Some(leases) = &inner.leases else { return };
    let mut ticks = tokio::time::interval(leases.span() / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let unused = leases.expired(Instant::now());
        for unused in unused.chunks(LEVELS) {
            if let Some(era) = inner.reach.era()
                && let Err(error) = inner.calls.settle(unused).await
            {
                // They are lost: less passes than may, never more.
                inner.lost(era, &error);
            }
        }
    }
}
