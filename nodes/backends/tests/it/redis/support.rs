use callboard_backends::redis_link::{Link, Options};
use callboard_backends::token_buckets::redis;
use callboard_ports::token_buckets::{Decision, Level, TokenBuckets};
use std::time::Duration;

/// The longest that anything is waited for.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// The address of a Redis, and a prefix of one's own.
pub(super) async fn shared() -> Options {
    // Starting a server takes a while: not on a thread of the runtime.
    let shared = tokio::task::spawn_blocking(callboard_testkit::services::shared::redis);
    let (url, prefix) = shared.await.expect("it does not panic").expect("there is a Redis");
    Options::new(url, prefix)
}

pub(super) fn link(options: &Options) -> Link {
    Link::new(options).expect("the address is one")
}

/// A connection to a Redis that has known our keys for ever: buckets that nobody has used are full.
pub(super) async fn old_life(options: &Options) -> Link {
    let client = ::redis::Client::open(options.url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let life = format!("{{{}}}:v1:life:", options.prefix);
    let () = ::redis::cmd("SET").arg(life).arg(1).query_async(&mut connection).await.unwrap();
    link(options)
}

pub(super) fn level(key: &str, rate: f64, burst: f64) -> Level {
    Level { key: key.to_owned(), rate, burst }
}

pub(super) async fn passes(buckets: &redis::TokenBuckets, levels: &[Level], cost: f64) -> bool {
    buckets.take(levels, cost).await.expect("the buckets answer") == Decision::Allowed
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "not within {DEADLINE:?}: {what}");
}
