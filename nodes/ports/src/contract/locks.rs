//! The contract of [`Locks`].

use super::{DEADLINE, soon};
use crate::locks::{Error, Locks};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fresh locks that nobody holds.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The locks, as one node sees them.
    fn locks(&self) -> Arc<dyn Locks>;

    /// The same locks, as a second node sees them.
    fn other(&self) -> Arc<dyn Locks> {
        self.locks()
    }
}

/// Longer than any property takes.
const LONG: Duration = Duration::from_secs(60);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(200);

fn held_by(holder: &str) -> Result<(), Error> {
    Err(Error::Held { holder: holder.to_owned() })
}

/// Who holds a lock keeps others out, who learn of it; each name is a lock of its own.
pub async fn one_owner_holds_a_lock(fixture: impl Fixture) {
    let (locks, other) = (fixture.locks(), fixture.other());
    assert_eq!(locks.acquire("a", "one", LONG).await, Ok(()));
    assert_eq!(other.acquire("a", "two", LONG).await, held_by("one"));
    assert_eq!(locks.acquire("a", "two", LONG).await, held_by("one"), "an owner is a name, not a connection");
    assert_eq!(other.acquire("b", "two", LONG).await, Ok(()));
}

/// The owner gets its own lock anew.
pub async fn the_owner_acquires_it_again(fixture: impl Fixture) {
    let (locks, other) = (fixture.locks(), fixture.other());
    assert_eq!(locks.acquire("a", "one", SHORT).await, Ok(()));
    assert_eq!(other.acquire("a", "one", LONG).await, Ok(()));
    tokio::time::sleep(2 * SHORT).await;
    assert_eq!(locks.acquire("a", "two", LONG).await, held_by("one"), "the newer time to live counts");
}

/// A lock that is given back is free; somebody else's cannot be given back.
pub async fn only_the_owner_releases(fixture: impl Fixture) {
    let (locks, other) = (fixture.locks(), fixture.other());
    assert_eq!(locks.acquire("a", "one", LONG).await, Ok(()));
    assert_eq!(other.release("a", "two").await, Ok(()));
    assert_eq!(other.acquire("a", "two", LONG).await, held_by("one"));
    assert_eq!(locks.release("a", "one").await, Ok(()));
    assert_eq!(locks.release("a", "one").await, Ok(()), "what is not held may be released");
    assert_eq!(other.acquire("a", "two", LONG).await, Ok(()));
    assert_eq!(locks.release("a", "one").await, Ok(()));
    assert_eq!(locks.acquire("a", "one", LONG).await, held_by("two"));
}

/// A lock runs out at its time, not before.
pub async fn a_lock_expires(fixture: impl Fixture) {
    let (locks, other) = (fixture.locks(), fixture.other());
    let start = Instant::now();
    assert_eq!(locks.acquire("a", "one", SHORT).await, Ok(()));
    soon("the lock expires", async {
        while other.acquire("a", "two", LONG).await != Ok(()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // The service may have counted from the moment the request came in: a little less than we did.
    assert!(start.elapsed() >= SHORT - Duration::from_millis(20), "{:?}", start.elapsed());
    assert!(start.elapsed() < DEADLINE / 4, "{:?}", start.elapsed());
    assert_eq!(locks.renew("a", "one", LONG).await, Err(Error::Lost));
    assert_eq!(locks.release("a", "one").await, Ok(()));
    assert_eq!(locks.acquire("a", "one", LONG).await, held_by("two"), "a late release harms nobody");
}

/// Renewing keeps a lock for another time to live.
pub async fn renewing_keeps_a_lock(fixture: impl Fixture) {
    let (locks, other) = (fixture.locks(), fixture.other());
    let ttl = 8 * SHORT;
    assert_eq!(locks.acquire("a", "one", ttl).await, Ok(()));
    for _ in 0..10 {
        tokio::time::sleep(SHORT).await;
        assert_eq!(locks.renew("a", "one", ttl).await, Ok(()));
        assert_eq!(other.acquire("a", "two", LONG).await, held_by("one"));
    }
}

/// What is not held, or held by another, cannot be renewed.
pub async fn only_the_owner_renews(fixture: impl Fixture) {
    let (locks, other) = (fixture.locks(), fixture.other());
    assert_eq!(locks.renew("a", "one", LONG).await, Err(Error::Lost), "never acquired");
    assert_eq!(locks.acquire("a", "one", LONG).await, Ok(()));
    assert_eq!(other.renew("a", "two", LONG).await, Err(Error::Lost));
    assert_eq!(locks.release("a", "one").await, Ok(()));
    assert_eq!(locks.renew("a", "one", LONG).await, Err(Error::Lost), "given back");
    assert_eq!(other.acquire("a", "two", LONG).await, Ok(()), "renewing does not acquire");
}

/// Of many who try at once, one gets it.
pub async fn one_of_many_gets_it(fixture: impl Fixture) {
    let nodes = [fixture.locks(), fixture.other()];
    let tries = (0..64).map(|i| {
        let locks = nodes[i % 2].clone();
        async move { locks.acquire("a", &format!("owner-{i}"), LONG).await }
    });
    let answers = futures::future::join_all(tries).await;
    let winners: Vec<_> = (0..64).filter(|i| answers[*i] == Ok(())).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    let holder = format!("owner-{}", winners[0]);
    assert_eq!(answers.iter().filter(|a| **a == held_by(&holder)).count(), 63, "the others learn who");
}

/// Runs the contract of `Locks` as one test for each property.
///
/// `$make` is a function without arguments to a future of a [`Fixture`](crate::contract::locks::Fixture).
#[macro_export]
macro_rules! locks_contract {
    ($make:expr) => {
        $crate::contract_tests!(
            $make,
            locks,
            [
                one_owner_holds_a_lock,
                the_owner_acquires_it_again,
                only_the_owner_releases,
                a_lock_expires,
                renewing_keeps_a_lock,
                only_the_owner_renews,
                one_of_many_gets_it,
            ]
        );
    };
}
