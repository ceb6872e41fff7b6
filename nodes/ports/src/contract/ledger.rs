//! The contract of [`Ledger`].

use super::{ManualClock, soon};
use crate::Clock as _;
use crate::ledger::{Balance, Ledger};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// An empty ledger.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The ledger, as one node sees it.
    fn ledger(&self) -> Arc<dyn Ledger>;

    /// The same ledger, as a second node sees it.
    fn other(&self) -> Arc<dyn Ledger> {
        self.ledger()
    }

    /// The same ledger, as a node sees it that starts now.
    async fn reopened(&self) -> Arc<dyn Ledger>;
}

fn balance(account: &str, total: i64) -> Balance {
    let until = ManualClock::default().now().after(Duration::from_secs(60));
    Balance { account: account.into(), total, until }
}

/// Tells totals, and reads the same accounts.
async fn tell(ledger: &Arc<dyn Ledger>, source: &str, number: u64, own: &[(&str, i64)]) -> Vec<i64> {
    let balances: Vec<_> = own.iter().map(|(account, total)| balance(account, *total)).collect();
    let read: Vec<_> = own.iter().map(|(account, _)| (*account).to_owned()).collect();
    ledger.exchange(source, number, &balances, &read).await.expect("the ledger answers")
}

async fn read(ledger: &Arc<dyn Ledger>, accounts: &[&str]) -> Vec<i64> {
    let accounts: Vec<_> = accounts.iter().map(|account| (*account).to_owned()).collect();
    ledger.exchange("reader", 1, &[], &accounts).await.expect("the ledger answers")
}

/// A sum is that of all sources, what is told with the question included; each account has one of its own.
pub async fn a_sum_is_that_of_all_sources(fixture: impl Fixture) {
    let (ledger, other) = (fixture.ledger(), fixture.other());
    assert_eq!(tell(&ledger, "one", 1, &[("a", 5), ("b", 7)]).await, [5, 7]);
    assert_eq!(tell(&other, "two", 1, &[("b", 3), ("a", 1)]).await, [10, 6]);
    assert_eq!(
        tell(&ledger, "one", 2, &[("a", 6)]).await,
        [7],
        "a total stands for all that was told before"
    );
    assert_eq!(read(&other, &["b", "a"]).await, [10, 7]);
}

/// What nobody told of is nothing; the answer is in the order of the question.
pub async fn what_nobody_told_of_is_nothing(fixture: impl Fixture) {
    let ledger = fixture.ledger();
    tell(&ledger, "one", 1, &[("b", 2)]).await;
    assert_eq!(read(&ledger, &["c", "b", "a", "b"]).await, [0, 2, 0, 2]);
    assert_eq!(read(&ledger, &[]).await, [0; 0]);
}

/// Told again, a total is not counted twice; what comes late changes nothing.
pub async fn what_is_told_again_or_late_changes_nothing(fixture: impl Fixture) {
    let (ledger, other) = (fixture.ledger(), fixture.other());
    tell(&ledger, "one", 1, &[("a", 5)]).await;
    tell(&ledger, "one", 3, &[("a", 9)]).await;
    assert_eq!(tell(&other, "one", 3, &[("a", 9)]).await, [9]);
    assert_eq!(
        tell(&other, "one", 2, &[("a", 7), ("b", 1)]).await,
        [9, 1],
        "of another account it is the newest"
    );
    assert_eq!(tell(&other, "two", 1, &[("a", 1)]).await, [10], "each source has numbers of its own");
}

/// Totals may be below zero, and a sum stays within what it can hold.
pub async fn totals_are_any_number(fixture: impl Fixture) {
    let ledger = fixture.ledger();
    assert_eq!(
        tell(&ledger, "one", 1, &[("a", -5), ("b", i64::MAX), ("c", i64::MIN)]).await,
        [-5, i64::MAX, i64::MIN]
    );
    assert_eq!(
        tell(&ledger, "two", 1, &[("a", 3), ("b", i64::MAX), ("c", i64::MIN)]).await,
        [-2, i64::MAX, i64::MIN]
    );
    assert_eq!(tell(&ledger, "two", 2, &[("b", i64::MIN)]).await, [-1]);
}

/// What was answered is there for whoever starts later, under a name of its own.
pub async fn what_was_answered_outlives_whoever_told_it(fixture: impl Fixture) {
    tell(&fixture.ledger(), "one", 4, &[("a", 5)]).await;
    let ledger = fixture.reopened().await;
    assert_eq!(tell(&ledger, "two", 1, &[("a", 2)]).await, [7]);
}

/// What need not be kept any more is forgotten, and nothing else.
pub async fn what_is_over_is_forgotten(fixture: impl Fixture) {
    let (ledger, clock) = (fixture.ledger(), ManualClock::default());
    let longer = Balance { until: clock.now().after(Duration::from_secs(120)), ..balance("b", 2) };
    ledger.exchange("one", 1, &[balance("a", 1), longer], &[]).await.expect("the ledger answers");
    ledger.forget(clock.now()).await.expect("the ledger answers");
    assert_eq!(read(&ledger, &["a", "b"]).await, [1, 2]);
    clock.advance(Duration::from_secs(61));
    ledger.forget(clock.now()).await.expect("the ledger answers");
    assert_eq!(read(&ledger, &["a", "b"]).await, [0, 2]);
}

/// Many who add at once lose nothing of each other.
pub async fn many_at_once_lose_nothing(fixture: impl Fixture) {
    let nodes = [fixture.ledger(), fixture.other()];
    let mut tellers = tokio::task::JoinSet::new();
    for teller in 0..16_usize {
        let ledger = nodes[teller % 2].clone();
        tellers.spawn(async move {
            let name = format!("teller {teller}");
            for total in 1..=10_i64 {
                let sums =
                    tell(&ledger, &name, total.unsigned_abs(), &[("all", total), ("b", 2 * total)]).await;
                assert!(sums[0] >= total && sums[0] <= 160, "{sums:?}");
            }
        });
    }
    soon("the tellers", tellers.join_all()).await;
    assert_eq!(read(&nodes[0], &["all", "b"]).await, [160, 320]);
}

/// Runs the contract of `Ledger` as one test for each property.
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::ledger::Fixture).
#[macro_export]
macro_rules! ledger_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            ledger,
            [
                a_sum_is_that_of_all_sources,
                what_nobody_told_of_is_nothing,
                what_is_told_again_or_late_changes_nothing,
                totals_are_any_number,
                what_was_answered_outlives_whoever_told_it,
                what_is_over_is_forgotten,
                many_at_once_lose_nothing,
            ]
        );
    };
}
