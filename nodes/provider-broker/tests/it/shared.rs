//! Trips that nodes tell each other, and that outlive them.

use crate::admin::until;
use crate::cluster::{Node, Nodes};
use crate::support::{Act, Scripted, hello};
use callboard_domain::Timestamp;
use callboard_domain::llm::ErrorKind;
use callboard_ports::Clock as _;
use callboard_provider_broker::config::{Breaker, Retry};
use callboard_provider_broker::{BreakerState, Config};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn config() -> Config {
    Config {
        retry: Retry { max: 0, ..Retry::default() },
        breaker: Breaker { failures: 2, ..Breaker::default() },
        single_flight: false,
        ..Config::default()
    }
}

fn state(node: &Node) -> BreakerState {
    node.broker.counts()[0].breaker
}

/// Whether two moments are the same, but for the steps of the clock that sleeps go by.
fn close(a: Timestamp, b: Timestamp) -> bool {
    a.since(b).max(b.since(a)) < Duration::from_secs(1)
}

#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
async fn fail(node: &Node, times: u32) {
    for _ in 0..times {
        let answered = node.broker.text(&hello()).await.unwrap();
        assert_eq!(answered.summary.provider, "b");
    }
}

async fn three(nodes: &Nodes, a: &Arc<Scripted>, b: &Arc<Scripted>) -> [Node; 3] {
    [
        nodes.start(&config(), &[a, b]).await,
        nodes.start(&config(), &[a, b]).await,
        nodes.start(&config(), &[a, b]).await,
    ]
}

#[tokio::test(start_paused = true)]
async fn a_trip_is_told_to_every_node_and_its_end_too() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::ServerFault)), Scripted::new("b", Act::Answer));
    let nodes = Nodes::default();
    let [one, two, three] = three(&nodes, &a, &b).await;
    fail(&one, 2).await;
    until(|| state(&two) == BreakerState::Open && state(&three) == BreakerState::Open).await;
    let told = &three.broker.providers()[0].breakers[0];
    assert_eq!((told.cause, told.trips), (Some(ErrorKind::ServerFault), 0), "it did not find out by itself");
    let calls = a.calls.load(Ordering::SeqCst);
    fail(&three, 5).await;
    assert_eq!(a.calls.load(Ordering::SeqCst), calls, "no node touches it");

    // Each node tries it once the time is over; the first that is answered tells the others.
    tokio::time::advance(Duration::from_secs(300)).await;
    nodes.clock.advance(Duration::from_secs(300));
    assert_eq!(state(&two), BreakerState::HalfOpen);
    a.set(Act::Answer);
    assert_eq!(two.broker.text(&hello()).await.unwrap().summary.provider, "a");
    until(|| state(&one) == BreakerState::Closed && state(&three) == BreakerState::Closed).await;
}

#[tokio::test(start_paused = true)]
async fn a_trip_outlives_every_node_for_as_long_as_it_holds() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::QuotaExceeded)), Scripted::new("b", Act::Answer));
    let nodes = Nodes::default();
    let one = nodes.start(&config(), &[&a, &b]).await;
    fail(&one, 1).await;
    until(|| nodes.kept.len() == 1).await;
    let end = |node: &Node| node.broker.providers()[0].breakers[0].until.unwrap();
    let before = end(&one);
    drop(one);
    let again = nodes.start(&config(), &[&a, &b]).await;
    assert_eq!(state(&again), BreakerState::Open);
    assert!(close(end(&again), before));
    drop(again);
    // Long after: nobody knows anything of it any more.
    nodes.clock.advance(Duration::from_secs(48 * 3600));
    let later = nodes.start(&config(), &[&a, &b]).await;
    assert_eq!(state(&later), BreakerState::Closed);
}

/// The first finds that the quota is spent, for long; then a call of another node that was under way fails for less.
#[tokio::test(start_paused = true)]
async fn complaint_a_cool_down_shortened_by_a_later_failure_nor_by_one_of_another_node() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::QuotaExceeded)), Scripted::new("b", Act::Answer));
    let lasting = Breaker { hard_cool_down: Duration::from_secs(1_000), ..config().breaker };
    let (quick, slow) = (config(), Config { breaker: lasting, ..config() });
    let nodes = Nodes::default();
    let (one, two) = (nodes.start(&slow, &[&a, &b]).await, nodes.start(&quick, &[&a, &b]).await);
    fail(&one, 1).await;
    until(|| state(&two) == BreakerState::Open).await;
    let end = |node: &Node| node.broker.providers()[0].breakers[0].until.unwrap();
    let before = end(&one);
    assert!(close(before, nodes.clock.now().after(Duration::from_secs(1_000))) && close(end(&two), before));
    // A test of an admin is as good as a call that was under way.
    two.broker.test("a", None).await.unwrap();
    assert!(close(end(&two), before) && close(end(&one), before));
}

#[tokio::test(start_paused = true)]
async fn without_store_a_trip_is_told_all_the_same_and_saved_once_it_is_back() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::ServerFault)), Scripted::new("b", Act::Answer));
    let nodes = Nodes::default();
    let [one, two, _three] = three(&nodes, &a, &b).await;
    nodes.kept.set_away(true);
    fail(&one, 2).await;
    until(|| state(&two) == BreakerState::Open).await;
    assert_eq!(nodes.kept.len(), 0);
    nodes.kept.set_away(false);
    until(|| nodes.kept.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_node_was_not_told_it_reads() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::ServerFault)), Scripted::new("b", Act::Answer));
    let (nodes, others) = (Nodes::default(), Nodes::default());
    let one = nodes.start(&config(), &[&a, &b]).await;
    // The same store, and nobody who tells.
    let apart = Nodes { kept: Arc::clone(&nodes.kept), clock: Arc::clone(&nodes.clock), ..others };
    let two = apart.start(&config(), &[&a, &b]).await;
    fail(&one, 2).await;
    until(|| state(&two) == BreakerState::Open).await;
}
