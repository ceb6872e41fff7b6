//! The contract of [`TokenBuckets`].
//!
//! Time passes for real here. What is bounded is therefore bounded by the time that the test has measured
//! around its calls; a backend that reads its own clock stays within that.

use super::soon;
use crate::token_buckets::{Decision, Level, TokenBuckets};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fresh buckets, all full.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The buckets, as one node sees them.
    fn buckets(&self) -> Arc<dyn TokenBuckets>;

    /// The same buckets, as a second node sees them.
    fn other(&self) -> Arc<dyn TokenBuckets> {
        self.buckets()
    }
}

fn level(key: &str, rate: f64, burst: f64) -> Level {
    Level { key: key.to_owned(), rate, burst }
}

/// A bucket so slow that nothing comes back while a property runs: a token in 1,000 s.
fn still(key: &str, burst: f64) -> Level {
    level(key, 0.001, burst)
}

async fn take(buckets: &Arc<dyn TokenBuckets>, levels: &[Level], cost: f64) -> Decision {
    buckets.take(levels, cost).await.expect("the buckets answer")
}

async fn allowed(buckets: &Arc<dyn TokenBuckets>, levels: &[Level], cost: f64) -> bool {
    take(buckets, levels, cost).await == Decision::Allowed
}

/// How long until a denied call may pass.
async fn denied(buckets: &Arc<dyn TokenBuckets>, levels: &[Level], cost: f64) -> (String, Option<Duration>) {
    match take(buckets, levels, cost).await {
        Decision::Denied { level, retry_after } => (level, retry_after),
        Decision::Allowed => panic!("{cost} of {levels:?} passed"),
    }
}

/// A new bucket holds its burst, to the token; each key has a bucket of its own, the same for all nodes.
pub async fn a_new_bucket_is_full(fixture: impl Fixture) {
    let (buckets, other) = (fixture.buckets(), fixture.other());
    let a = [still("a", 10.0)];
    for i in 0..10 {
        assert!(allowed(if i % 2 == 0 { &buckets } else { &other }, &a, 1.0).await, "token {i}");
    }
    assert_eq!(denied(&other, &a, 1.0).await.0, "a");
    assert!(allowed(&buckets, &[still("b", 10.0)], 10.0).await);
    assert!(allowed(&buckets, &[], 10.0).await, "no level, no limit");
}

/// A cost need not be a whole token.
pub async fn costs_are_fractions_too(fixture: impl Fixture) {
    let (buckets, a) = (fixture.buckets(), [still("a", 1.0)]);
    for i in 0..4 {
        assert!(allowed(&buckets, &a, 0.25).await, "quarter {i}");
    }
    assert!(!allowed(&buckets, &a, 0.25).await);
}

/// Tokens come back at the rate: after any span at most the burst and the rate times the span have passed,
/// and nearly so many do.
pub async fn tokens_come_back_at_the_rate(fixture: impl Fixture) {
    let (buckets, rate, burst) = (fixture.buckets(), 200.0, 20.0);
    let a = [level("a", rate, burst)];
    let (start, mut passed) = (Instant::now(), 0.0);
    while start.elapsed() < Duration::from_millis(1_500) {
        match take(&buckets, &a, 1.0).await {
            Decision::Allowed => passed += 1.0,
            Decision::Denied { retry_after, .. } => {
                tokio::time::sleep(retry_after.expect("a token comes back")).await;
            }
        }
        let most = burst + rate * start.elapsed().as_secs_f64() + 1.0;
        assert!(passed <= most, "{passed} passed, at most {most} may");
    }
    // A sleep may last long on a busy machine, but no longer than the burst makes up for in most cases.
    assert!(passed >= burst + rate * 1.5 * 0.5, "{passed} passed");
}

/// A bucket never holds more than its burst, however long nobody takes.
pub async fn a_bucket_holds_no_more_than_its_burst(fixture: impl Fixture) {
    let (buckets, a) = (fixture.buckets(), [level("a", 1_000.0, 5.0)]);
    assert!(allowed(&buckets, &a, 1.0).await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(denied(&buckets, &a, 5.5).await.1, None, "over the burst it never passes");
    let (start, mut more) = (Instant::now(), 0.0);
    assert!(allowed(&buckets, &a, 5.0).await, "it is full again");
    for _ in 0..100 {
        more += f64::from(allowed(&buckets, &a, 1.0).await);
        assert!(more <= 1_000.0 * start.elapsed().as_secs_f64() + 1.0, "{more} more passed");
    }
}

/// The wait that is named is enough, and not much too long.
pub async fn the_named_wait_is_right(fixture: impl Fixture) {
    let buckets = fixture.buckets();
    for (key, cost) in [("a", 2.0), ("b", 3.5)] {
        let bucket = [level(key, 5.0, 10.0)];
        let right = Duration::from_secs_f64(cost / 5.0);
        let before = Instant::now();
        assert!(allowed(&buckets, &bucket, 10.0).await);
        let wait = denied(&buckets, &bucket, cost).await.1.expect("tokens come back");
        assert!(wait <= right, "{wait:?} for {cost} tokens at 5/s");
        // Whatever came back before the answer shortens the wait, and no more than that.
        assert!(wait + before.elapsed() >= right, "{wait:?} for {cost} tokens at 5/s");
        tokio::time::sleep(wait + Duration::from_millis(2)).await;
        assert!(allowed(&buckets, &bucket, cost).await, "after the wait that was named it passes");
    }
}

/// A cost over the burst never passes, and takes nothing.
pub async fn a_cost_over_the_burst_never_passes(fixture: impl Fixture) {
    let (buckets, a) = (fixture.buckets(), [still("a", 10.0)]);
    assert_eq!(denied(&buckets, &a, 10.5).await, ("a".to_owned(), None));
    assert!(allowed(&buckets, &a, 10.0).await);
}

/// A call passes every level or takes from none; the answer names the first that lacks tokens.
pub async fn all_levels_or_none(fixture: impl Fixture) {
    let buckets = fixture.buckets();
    let (wide, narrow) = (still("wide", 10.0), still("narrow", 3.0));
    let both = [wide.clone(), narrow.clone()];
    for _ in 0..3 {
        assert!(allowed(&buckets, &both, 1.0).await);
    }
    for _ in 0..5 {
        assert_eq!(denied(&buckets, &both, 1.0).await.0, "narrow");
        let turned = [narrow.clone(), wide.clone()];
        assert_eq!(denied(&buckets, &turned, 1.0).await.0, "narrow");
    }
    let wide = [wide];
    assert!(allowed(&buckets, &wide, 7.0).await, "what was denied took nothing from the other level");
    assert!(!allowed(&buckets, &wide, 1.0).await);
    assert_eq!(denied(&buckets, &both, 1.0).await.0, "wide", "the first of those that lack tokens");
}

/// What a call cost beyond its estimate is debited, below zero if need be, and paid off before another passes.
pub async fn a_debt_is_paid_off(fixture: impl Fixture) {
    let (buckets, a) = (fixture.buckets(), [level("a", 100.0, 10.0)]);
    let before = Instant::now();
    buckets.settle(&a, 60.0).await.expect("the buckets answer");
    let wait = denied(&buckets, &a, 1.0).await.1.expect("a debt is paid off");
    // 51 tokens at 100/s, but for what came back before the answer.
    let right = Duration::from_millis(510);
    assert!(wait <= right && wait + before.elapsed() >= right, "{wait:?}");
    tokio::time::sleep(wait + Duration::from_millis(2)).await;
    assert!(allowed(&buckets, &a, 1.0).await);
}

/// What a call cost less than its estimate is given back, up to the burst; every level is settled.
pub async fn what_was_not_used_is_given_back(fixture: impl Fixture) {
    let buckets = fixture.buckets();
    let both = [still("a", 10.0), still("b", 20.0)];
    assert!(allowed(&buckets, &both, 10.0).await);
    buckets.settle(&both, -4.0).await.expect("the buckets answer");
    assert!(allowed(&buckets, &both, 4.0).await);
    assert!(!allowed(&buckets, &both[..1], 1.0).await);
    assert!(allowed(&buckets, &both[1..], 10.0).await, "of the wider level ten were left");
    buckets.settle(&both, -1_000.0).await.expect("the buckets answer");
    assert!(allowed(&buckets, &both[..1], 10.0).await);
    assert!(!allowed(&buckets, &both[..1], 1.0).await, "never over the burst");
}

/// Many who take at once, through two nodes, together never pass the bound, and come near it.
pub async fn many_at_once_stay_within_the_bound(fixture: impl Fixture) {
    let (rate, burst, span) = (500.0, 50.0, Duration::from_secs(1));
    let nodes = [fixture.buckets(), fixture.other()];
    let levels: Arc<[Level]> = [level("all", rate, burst), level("tenant", 4.0 * rate, 4.0 * burst)].into();
    let mut takers = tokio::task::JoinSet::new();
    let start = Instant::now();
    for i in 0..64 {
        let (buckets, levels) = (nodes[i % 2].clone(), levels.clone());
        takers.spawn(async move {
            let mut passed = 0.0;
            while start.elapsed() < span {
                if allowed(&buckets, &levels, 1.0).await {
                    passed += 1.0;
                } else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            passed
        });
    }
    let passed: f64 = soon("the takers", takers.join_all()).await.iter().sum();
    let most = burst + rate * start.elapsed().as_secs_f64() + 1.0;
    assert!(passed <= most, "{passed} passed, at most {most} may");
    assert!(passed >= 0.6 * (burst + rate), "only {passed} passed");
}

/// Who says what is left says what is, of a bucket that no other node takes from.
pub async fn what_is_said_to_be_left_is_right(fixture: impl Fixture) {
    let (buckets, of) = (fixture.buckets(), [still("left", 10.0)]);
    assert!(allowed(&buckets, &of, 4.0).await);
    assert!(buckets.left(&of[0]).is_none_or(|left| (left - 6.0).abs() < 0.1), "{:?}", buckets.left(&of[0]));
    assert!(!allowed(&buckets, &of, 7.0).await);
    assert!(buckets.left(&of[0]).is_none_or(|left| (left - 6.0).abs() < 0.1), "{:?}", buckets.left(&of[0]));
}

/// Runs the contract of `TokenBuckets` as one test for each property.
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::token_buckets::Fixture).
#[macro_export]
macro_rules! token_buckets_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            token_buckets,
            [
                a_new_bucket_is_full,
                costs_are_fractions_too,
                tokens_come_back_at_the_rate,
                a_bucket_holds_no_more_than_its_burst,
                the_named_wait_is_right,
                a_cost_over_the_burst_never_passes,
                all_levels_or_none,
                a_debt_is_paid_off,
                what_was_not_used_is_given_back,
                many_at_once_stay_within_the_bound,
                what_is_said_to_be_left_is_right,
            ]
        );
    };
}
