use super::support::{level, link, old_life, passes, shared, until};
use callboard_backends::redis_link;
use callboard_backends::token_buckets::redis::{self, LEVELS, Lease, Options};
use callboard_ports::TokenBuckets;
use callboard_ports::contract::token_buckets::Fixture;
use callboard_ports::token_buckets::{Decision, Error};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Two nodes, each with a connection of its own, on a Redis that has known our keys for ever.
struct Redis([Arc<redis::TokenBuckets>; 2]);

impl Fixture for Redis {
    fn buckets(&self) -> Arc<dyn TokenBuckets> {
        self.0[0].clone()
    }

    fn other(&self) -> Arc<dyn TokenBuckets> {
        self.0[1].clone()
    }
}

async fn node(options: &redis_link::Options, lease: Option<Lease>) -> Arc<redis::TokenBuckets> {
    let options = (old_life(options).await, Options { lease, ..Options::new(|| 2) });
    Arc::new(redis::TokenBuckets::new(options.0, options.1))
}

mod plain {
    use super::{Redis, node, shared};

    async fn make() -> Redis {
        let options = shared().await;
        Redis([node(&options, None).await, node(&options, None).await])
    }

    callboard_ports::token_buckets_contract!(make);
}

/// The same promises hold where every bucket is leased in chunks.
mod leased {
    use super::{Lease, Redis, node, shared};
    use std::time::Duration;

    async fn make() -> Redis {
        let options = shared().await;
        let lease = || Some(Lease { prefixes: vec![String::new()], span: Duration::from_millis(50) });
        Redis([node(&options, lease()).await, node(&options, lease()).await])
    }

    callboard_ports::token_buckets_contract!(make);
}

#[tokio::test]
async fn what_is_left_is_known_of_leased_buckets_without_asking() {
    let options = shared().await;
    let lease = Lease { prefixes: vec!["hot".into()], span: Duration::from_millis(50) };
    let node = node(&options, Some(lease)).await;
    let (hot, cold) = (level("hot/left", 100.0, 50.0), level("cold/left", 100.0, 50.0));
    assert_eq!(node.left(&hot), None, "nothing was taken yet");
    for of in [&hot, &cold] {
        assert_eq!(node.take(std::slice::from_ref(of), 40.0).await.unwrap(), Decision::Allowed);
    }
    let left = node.left(&hot).unwrap();
    assert!((10.0..=50.0).contains(&left), "{left}");
    assert_eq!(node.left(&cold), None);
}

/// How many calls passed, of workers on two nodes that never rest longer than they are told, and how long it took.
async fn flood(
    nodes: [Arc<redis::TokenBuckets>; 2],
    rate: f64,
    burst: f64,
    span: Duration,
) -> (f64, Duration) {
    let mut workers = tokio::task::JoinSet::new();
    let start = Instant::now();
    for worker in 0..64 {
        let node = nodes[worker % 2].clone();
        workers.spawn(async move {
            let (hot, mut passed) = ([level("hot", rate, burst)], 0.0);
            while start.elapsed() < span {
                match node.take(&hot, 1.0).await.expect("the buckets answer") {
                    Decision::Allowed => passed += 1.0,
                    Decision::Denied { retry_after, .. } => {
                        tokio::time::sleep(retry_after.expect("a token comes back")).await;
                    }
                }
            }
            passed
        });
    }
    let passed = workers.join_all().await.iter().sum();
    (passed, start.elapsed())
}

async fn stays_within_the_bound(lease: Option<Lease>) {
    let options = shared().await;
    let nodes = [node(&options, lease.clone()).await, node(&options, lease).await];
    let (rate, burst) = (1_000.0, 100.0);
    let (passed, span) = flood(nodes.clone(), rate, burst, Duration::from_secs(5)).await;
    let bound = burst + rate * span.as_secs_f64();
    assert!(passed <= bound + 1.0, "{passed} passed, the bound is {bound}");
    assert!(passed >= 0.99 * (burst + rate * 5.0), "{passed} passed, the bound is {bound}");
    assert!(nodes.iter().all(|node| node.counts().by_share == 0), "{:?}", nodes[0].counts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_pass_what_the_limit_allows_and_no_more() {
    stays_within_the_bound(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_on_leased_chunks_do_too() {
    stays_within_the_bound(Some(Lease { prefixes: vec!["hot".into()], span: Duration::from_millis(50) }))
        .await;
}

#[tokio::test]
async fn a_leased_level_is_rarely_asked_for_and_named_in_its_order() {
    let options = shared().await;
    let lease = Lease { prefixes: vec!["all".into()], span: Duration::from_millis(100) };
    let node = node(&options, Some(lease)).await;
    let (all, tenant) = (level("all", 100_000.0, 100_000.0), level("tenant", 0.001, 200.0));
    let both = [all.clone(), tenant.clone()];
    let start = Instant::now();
    for call in 0..200 {
        assert!(passes(&node, &both, 1.0).await, "call {call}");
    }
    let chunks = node.counts().chunks;
    let spans = u64::try_from(start.elapsed().as_millis() / 100).unwrap();
    assert!((1..=spans + 1).contains(&chunks), "{chunks} chunks for 200 calls in {:?}", start.elapsed());
    let denied = |decision: Decision| match decision {
        Decision::Denied { level, .. } => level,
        Decision::Allowed => panic!("it passed"),
    };
    assert_eq!(denied(node.take(&both, 1.0).await.unwrap()), "tenant");
    let dry = level("all/dry", 0.001, 1.0);
    assert!(passes(&node, std::slice::from_ref(&dry), 1.0).await);
    assert_eq!(denied(node.take(&[dry.clone(), tenant.clone()], 1.0).await.unwrap()), "all/dry");
    assert_eq!(
        denied(node.take(&[tenant, dry], 1.0).await.unwrap()),
        "tenant",
        "though the leased one is known to lack"
    );
}

#[tokio::test]
async fn what_was_leased_and_not_used_is_given_back() {
    let options = shared().await;
    let lease = Lease { prefixes: vec!["all".into()], span: Duration::from_millis(50) };
    let (leasing, other) = (node(&options, Some(lease)).await, node(&options, None).await);
    // So slow that nothing comes back by itself while this runs.
    let (all, tenant) = (level("all", 0.001, 1.0), level("tenant", 0.001, 1.0));
    assert!(passes(&leasing, std::slice::from_ref(&tenant), 1.0).await);
    assert!(!passes(&leasing, &[all.clone(), tenant], 1.0).await);
    assert_eq!(leasing.counts().chunks, 1, "and then the other level lacked");
    until("the chunk is given back", async || passes(&other, std::slice::from_ref(&all), 1.0).await).await;
}

#[tokio::test]
async fn after_a_flush_buckets_start_empty() {
    let options = shared().await;
    let node = node(&options, None).await;
    let (a, b) = ([level("a", 10.0, 10.0)], [level("b", 10.0, 10.0)]);
    assert!(passes(&node, &a, 10.0).await);
    forget(&options).await;
    let start = Instant::now();
    // Neither the one that was in use nor one that was not: nobody knows that any more.
    for bucket in [&a, &b] {
        let Decision::Denied { retry_after: Some(wait), .. } = node.take(bucket, 10.0).await.unwrap() else {
            panic!("a bucket of a new life is full");
        };
        assert!(
            wait <= Duration::from_secs(1) && wait + start.elapsed() >= Duration::from_secs(1),
            "{wait:?}"
        );
    }
    until("it fills up", async || passes(&node, &b, 10.0).await).await;
    assert!(start.elapsed() >= Duration::from_millis(995), "{:?}", start.elapsed());
}

/// As `FLUSHALL` does, for our keys alone: others use the same server.
async fn forget(options: &redis_link::Options) {
    let client = ::redis::Client::open(options.url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let ours = format!("{{{}}}:*", options.prefix);
    let keys: Vec<String> = ::redis::cmd("KEYS").arg(ours).query_async(&mut connection).await.unwrap();
    assert!(keys.len() >= 2, "{keys:?}");
    let () = ::redis::cmd("DEL").arg(keys).query_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_bucket_that_is_full_is_not_kept_for_ever() {
    let options = shared().await;
    let node = node(&options, None).await;
    assert!(passes(&node, &[level("a", 1.0, 100.0)], 10.0).await);
    let client = ::redis::Client::open(options.url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{{{}}}:v1:bucket:a", options.prefix);
    let left: i64 = ::redis::cmd("PTTL").arg(key).query_async(&mut connection).await.unwrap();
    assert!((9_000..=11_000).contains(&left), "{left} ms until ten tokens have come back");
}

#[tokio::test]
async fn rounding_never_adds_up() {
    let options = shared().await;
    let node = node(&options, None).await;
    // 7 tokens in 1,000 s: seven millionths a millisecond, asked far more often than one comes back.
    let slow = [level("slow", 0.7, 1.0)];
    let start = Instant::now();
    assert!(passes(&node, &slow, 1.0).await);
    let mut asked = 0;
    while !passes(&node, &slow, 0.5).await {
        asked += 1;
    }
    let right = Duration::from_secs_f64(0.5 / 0.7);
    let took = start.elapsed();
    assert!(took >= right && took < right + Duration::from_millis(100), "{took:?} after {asked} calls");
}

#[tokio::test]
async fn nonsense_is_denied_and_changes_nothing() {
    let options = shared().await;
    let node = node(&options, None).await;
    let a = [level("a", 0.001, 10.0)];
    let never = Decision::Denied { level: "a".into(), retry_after: None };
    for cost in [f64::NAN, f64::INFINITY, 10.1] {
        assert_eq!(node.take(&a, cost).await, Ok(never.clone()), "{cost}");
    }
    for cost in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(node.settle(&a, cost).await, Ok(()), "{cost}");
    }
    let many: Vec<_> = (0..=LEVELS).map(|i| level(&i.to_string(), 1.0, 1.0)).collect();
    assert!(matches!(node.take(&many, 1.0).await, Err(Error::Unavailable(_))));
    assert!(passes(&node, &many[1..], 1.0).await);
    assert!(passes(&node, &a, 10.0).await);
}

/// Some proxies and access lists refuse calls of scripts by hash.
#[tokio::test]
async fn a_server_that_forgets_scripts_is_sent_them_again() {
    let options = shared().await;
    let node = redis::TokenBuckets::new(link(&options), Options::new(|| 1));
    let client = ::redis::Client::open(options.url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for _ in 0..3 {
        let () = ::redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await.unwrap();
        node.settle(&[level("a", 1.0, 1.0)], 1.0).await.unwrap();
    }
    assert_eq!(node.counts().lost, 0);
}
