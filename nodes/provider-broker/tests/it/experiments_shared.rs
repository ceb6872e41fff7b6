//! Experiments over several nodes, and over their lives: what came of them, and shares that an admin sets.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use crate::admin::until;
use crate::cluster::Nodes;
use crate::experiments::{half as scripted_half, of};
use crate::support::{Act, Memory, Scripted, deps};
use callboard_provider_broker::config::{Adapter, ProviderConfig};
use callboard_provider_broker::{Broker, Config, Deps, ExperimentStatus, Provider, Said, Scored};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

const OPS: Said<'static> = Said { author: "ops", reason: "a try" };

/// The same, with the providers that a reload makes of it.
fn half() -> Config {
    let providers = ["a", "b"].map(|name| ProviderConfig::named(name, Adapter::Offline));
    Config { providers: providers.into(), ..scripted_half() }
}

fn providers() -> [Arc<Scripted>; 2] {
    ["a", "b"].map(|name| Scripted::new(name, Act::Answer))
}

/// A node with a number of its own.
fn node(ledger: &Arc<Memory>, number: f64) -> Arc<Broker> {
    let deps = Deps { ledger: Arc::clone(ledger) as _, jitter: Arc::new(move || number), ..deps().0 };
    let all = providers().into_iter().map(|provider| provider as Arc<dyn Provider>).collect();
    Broker::with_providers(&half(), all, &deps)
}

async fn calls(broker: &Broker, users: std::ops::Range<usize>) {
    for user in users {
        broker.text(&of(user)).await.unwrap();
    }
}

/// How many calls of each arm were answered, over all nodes.
async fn answered(broker: &Broker) -> (u64, bool) {
    let (list, whole) = broker.experiments_of_all().await;
    (list[0].arms.iter().map(|arm| arm.tally.successes).sum(), whole)
}

#[tokio::test]
async fn what_came_of_arms_is_that_of_all_nodes_and_outlives_them() {
    let ledger = Arc::<Memory>::default();
    let nodes = [0.1, 0.2].map(|number| node(&ledger, number));
    calls(&nodes[0], 0..30).await;
    calls(&nodes[1], 30..50).await;
    nodes[1].score("prices", Scored::Arm("one"), 0.5).unwrap();
    assert_eq!(answered(&nodes[0]).await, (30, true), "what the other has not told yet is missing");
    nodes[1].exchange().await.unwrap();
    assert_eq!(answered(&nodes[0]).await, (50, true));
    assert_eq!(answered(&nodes[1]).await, (50, true));
    let shown = nodes[0].experiments_of_all().await.0.remove(0);
    assert_eq!(shown.arms[0].tally.score.count, 1);
    assert_eq!(shown.arms[0].own.score.count, 0, "what this node counted is told apart");

    // Told again, it counts once; what is counted while the ledger is away is told when it is back.
    ledger.away.store(true, Ordering::SeqCst);
    calls(&nodes[0], 0..10).await;
    assert!(nodes[0].exchange().await.is_err());
    assert_eq!(answered(&nodes[0]).await, (60, false), "this node's, and what it heard before");
    ledger.away.store(false, Ordering::SeqCst);
    nodes[0].exchange().await.unwrap();
    nodes[0].exchange().await.unwrap();
    assert_eq!(answered(&nodes[1]).await, (60, true));
    drop(nodes);
    let third = node(&ledger, 0.3);
    assert_eq!(answered(&third).await, (60, true));
    calls(&third, 0..1).await;
    assert_eq!(answered(&third).await, (61, true));
}

#[tokio::test(start_paused = true)]
async fn what_is_counted_is_told_within_a_second_by_itself() {
    let ledger = Arc::<Memory>::default();
    let nodes = [0.1, 0.2].map(|number| node(&ledger, number));
    let mut keeps = JoinSet::new();
    let first = Arc::clone(&nodes[0]);
    keeps.spawn(async move { first.keep_accounts().await });
    calls(&nodes[0], 0..7).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(answered(&nodes[1]).await, (7, true));
}

#[tokio::test]
async fn what_came_of_an_arm_is_told_also_if_a_reload_takes_it_away() {
    let ledger = Arc::<Memory>::default();
    let nodes = [0.1, 0.2].map(|number| node(&ledger, number));
    calls(&nodes[0], 0..7).await;
    let without = Config { experiments: Vec::new(), ..half() };
    nodes[0].reconfigure(&without).await.unwrap();
    nodes[0].exchange().await.unwrap();
    assert_eq!(answered(&nodes[1]).await, (7, true));
    nodes[0].reconfigure(&half()).await.unwrap();
    calls(&nodes[0], 0..1).await;
    assert_eq!(answered(&nodes[0]).await, (8, true), "and it goes on from there");
}

fn share(broker: &Broker) -> f64 {
    broker.experiments()[0].arms[1].fraction
}

/// Waits until a node has heard of it.
async fn heard(broker: &Broker, expected: f64) {
    until(|| (share(broker) - expected).abs() <= 1e-9).await;
}

async fn arms(broker: &Broker) -> Vec<bool> {
    let mut arms = Vec::new();
    for user in 0..100 {
        arms.push(broker.text(&of(user)).await.unwrap().summary.trial.unwrap().arm == "other");
    }
    arms
}

#[tokio::test(start_paused = true)]
async fn a_share_that_one_node_is_told_is_that_of_all_and_outlives_them() {
    let nodes = Nodes::default();
    let [a, b] = providers();
    let first = nodes.start(&half(), &[&a, &b]).await;
    let second = nodes.start(&half(), &[&a, &b]).await;
    let half_of_all = arms(&second.broker).await;
    let shown = first.broker.set_share("prices", None, 0.25, OPS).await.unwrap();
    let set = shown.set.unwrap();
    assert_eq!((set.author.as_str(), set.reason.as_str(), set.outdated), ("ops", "a try", false));
    heard(&second.broker, 0.25).await;
    let quarter = arms(&second.broker).await;
    assert_eq!(arms(&first.broker).await, quarter);
    let moved = half_of_all.iter().zip(&quarter).filter(|(was, is)| was != is);
    assert!(moved.clone().count() > 5 && moved.clone().all(|(was, _)| *was), "only to the first arm");

    second.broker.roll_back("prices", OPS).await.unwrap();
    heard(&first.broker, 0.0).await;
    assert!(arms(&first.broker).await.iter().all(|other| !other));
    drop((first, second));
    // A node that starts anew, with what the file says as before.
    let third = nodes.start(&half(), &[&a, &b]).await;
    assert_eq!(share(&third.broker), 0.0);
    third.broker.reconfigure(&half()).await.unwrap();
    assert_eq!(share(&third.broker), 0.0, "a reload does not undo it");
    let ExperimentStatus { set, .. } = third.broker.reset_shares("prices", OPS).await.unwrap();
    assert_eq!((set, share(&third.broker)), (None, 0.5));
    assert_eq!(arms(&third.broker).await, half_of_all);
}

#[tokio::test]
async fn shares_are_not_set_while_the_store_is_away_nor_wrong_ones() {
    let nodes = Nodes::default();
    let [a, b] = providers();
    let node = nodes.start(&half(), &[&a, &b]).await;
    let wrong = async |name, arm, share| {
        let error = node.broker.set_share(name, arm, share, OPS).await.unwrap_err();
        error.violations.first().map(|violation| violation.field.clone()).unwrap_or_default()
    };
    assert_eq!(wrong("none", None, 0.5).await, "name");
    assert_eq!(wrong("prices", Some("none"), 0.5).await, "arm");
    assert_eq!(wrong("prices", None, 1.01).await, "share");
    nodes.kept.set_away(true);
    assert_eq!(wrong("prices", None, 0.1).await, "");
    assert!(node.broker.roll_back("prices", OPS).await.is_err());
    assert_eq!((share(&node.broker), nodes.kept.len()), (0.5, 0));
}

#[tokio::test]
async fn shares_of_arms_that_are_gone_are_not_in_force_and_that_is_shown() {
    let nodes = Nodes::default();
    let [a, b] = providers();
    let node = nodes.start(&half(), &[&a, &b]).await;
    node.broker.roll_back("prices", OPS).await.unwrap();
    let mut config = half();
    config.experiments[0].arms[1].name = "third".into();
    node.broker.reconfigure(&config).await.unwrap();
    let shown = node.broker.experiments().remove(0);
    assert_eq!((shown.set.unwrap().outdated, shown.arms[1].fraction), (true, 0.5));
}
