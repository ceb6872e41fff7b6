//! Weights that an admin sets, above those of the configuration.

use crate::admin::until;
use crate::cluster::Nodes;
use crate::keys::{key, keyed};
use crate::support::{Act, Scripted, hello, plain, scripted, scripted_with};
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::administer_request::Action;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerService;
use callboard_contracts::v1;
use callboard_domain::llm::TextRequest;
use callboard_provider_broker::config::{KeyConfig, Policy, RouteConfig, Routing, Target};
use callboard_provider_broker::{Broker, Config, Said, Service};
use callboard_testkit::FakeProvider;
use std::sync::Arc;

const OPS: Said<'static> = Said { author: "ops", reason: "a larger quota" };

fn weighted() -> Config {
    let target = |provider: &str, weight| Target {
        provider: provider.into(),
        model: None,
        weight,
        context_tokens: None,
    };
    let route = RouteConfig {
        name: "fast".into(),
        policy: Some(Policy::Weighted),
        providers: vec![target("a", 1), target("b", 1)],
    };
    Config {
        routing: Routing { policy: Policy::Weighted, ..Routing::default() },
        routes: vec![route],
        ..plain()
    }
}

fn two() -> (Arc<Scripted>, Arc<Scripted>) {
    (Scripted::new("a", Act::Answer), Scripted::new("b", Act::Answer))
}

/// How many of 40 calls each answers.
#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
async fn shares(broker: &Broker, model: Option<&str>) -> [usize; 2] {
    let mut had = [0; 2];
    for _ in 0..40 {
        let request = TextRequest { model: model.map(Into::into), ..hello() };
        had[usize::from(broker.text(&request).await.unwrap().summary.provider == "b")] += 1;
    }
    had
}

fn of_routes(broker: &Broker) -> Vec<u32> {
    broker.routes().1.into_iter().flat_map(|route| route.targets).map(|target| target.weight).collect()
}

#[tokio::test]
async fn a_weight_counts_on_routes_and_without_one_until_it_is_as_configured() {
    let (a, b) = two();
    let (broker, _) = scripted_with(&weighted(), &[&a, &b], false);
    let (shown, used) = broker.set_weight("a", "", Some(0), OPS).await.unwrap();
    assert!(used);
    let set = &shown.weights[0];
    assert_eq!((set.weight, set.configured, set.key.as_str()), (0, 1, ""));
    assert_eq!((set.by.author.as_str(), set.by.reason.as_str()), ("ops", "a larger quota"));
    assert_eq!(of_routes(&broker), [0, 1], "the list shows what counts");
    assert_eq!((shares(&broker, None).await, shares(&broker, Some("fast")).await), ([0, 40], [0, 40]));

    broker.set_weight("a", "", Some(1_000), OPS).await.unwrap();
    broker.set_weight("b", "", Some(0), OPS).await.unwrap();
    assert_eq!(shares(&broker, Some("fast")).await, [40, 0]);

    let (shown, _) = broker.set_weight("a", "", None, OPS).await.unwrap();
    assert_eq!(shown.weights, []);
    assert_eq!(broker.reset("b", OPS).await.unwrap().weights, []);
    assert_eq!(of_routes(&broker), [1, 1]);
}

#[tokio::test]
async fn it_is_said_if_no_policy_looks_at_a_weight() {
    let (a, b) = two();
    let (broker, _) = scripted(&[&a, &b], false);
    assert!(!broker.set_weight("a", "", Some(7), OPS).await.unwrap().1);
    let only =
        |provider: &str| Target { provider: provider.into(), model: None, weight: 1, context_tokens: None };
    let routes =
        vec![RouteConfig { name: "one".into(), policy: Some(Policy::Sticky), providers: vec![only("b")] }];
    let (broker, _) = scripted_with(&Config { routes, ..plain() }, &[&a, &b], false);
    assert!(!broker.set_weight("a", "", Some(7), OPS).await.unwrap().1);
    assert!(broker.set_weight("b", "", Some(7), OPS).await.unwrap().1);
}

#[tokio::test]
async fn the_weight_of_a_key_is_its_share_of_the_calls_and_lasts_over_a_reload() {
    let fake = FakeProvider::start().await.unwrap();
    let mut provider = keyed("main", &fake, &["x", "y"]);
    let config = |provider| Config { providers: vec![provider], ..plain() };
    let broker = crate::keys::broker(&config(provider.clone()));
    let (shown, used) = broker.set_weight("main", "y", Some(9), OPS).await.unwrap();
    assert!(used, "every policy shares out among keys");
    let weights: Vec<_> = shown.keys.iter().map(|key| (key.id.as_str(), key.weight)).collect();
    assert_eq!(weights, [("x", 1), ("y", 9)]);
    for _ in 0..20 {
        broker.text(&hello()).await.unwrap();
    }
    let used = crate::keys::used(&fake);
    let mut counts: Vec<_> = used.values().copied().collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 18]);

    // Another ring of keys.
    provider.keys[0] = KeyConfig { weight: 4, ..key("x") };
    broker.reconfigure(&config(provider)).await.unwrap();
    let weights: Vec<_> = broker.providers()[0].keys.iter().map(|key| key.weight).collect();
    assert_eq!(weights, [4, 9]);
    let shown = broker.reset("main", OPS).await.unwrap();
    assert_eq!((shown.keys[1].weight, shown.weights.len()), (1, 0));
}

#[tokio::test]
async fn a_weight_reaches_every_node_and_survives_a_restart() {
    let (a, b) = two();
    let nodes = Nodes::default();
    let one = nodes.start(&weighted(), &[&a, &b]).await;
    let two = nodes.start(&weighted(), &[&a, &b]).await;
    one.broker.set_weight("a", "", Some(0), OPS).await.unwrap();
    until(|| of_routes(&two.broker) == [0, 1]).await;
    drop((one, two));
    let again = nodes.start(&weighted(), &[&a, &b]).await;
    assert_eq!(shares(&again.broker, None).await, [0, 40], "in force before the first call");
    again.broker.reset("a", OPS).await.unwrap();
    drop(again);
    let again = nodes.start(&weighted(), &[&a, &b]).await;
    assert_eq!(of_routes(&again.broker), [1, 1], "the file counts again, after a restart too");
}

#[tokio::test]
async fn a_wrong_weight_is_answered_with_what_it_may_be() {
    let fake = FakeProvider::start().await.unwrap();
    let provider = keyed("main", &fake, &["x", "y"]);
    let config = Config {
        providers: vec![provider, callboard_provider_broker::config::ProviderConfig::offline()],
        ..plain()
    };
    let service = Service::new(crate::keys::broker(&config));
    let asked = |name: &str, key: &str, weight| v1::SetProviderWeightRequest {
        name: name.into(),
        key: key.into(),
        weight: Some(weight),
        reason: String::new(),
    };
    for (request, text) in [
        (asked("none", "", 1), "no provider is called `none`; there are: main"),
        (asked("main", "z", 1), "no key of `main` is called `z`; there are: x, y"),
        (asked("offline", "z", 1), "`offline` has no keys"),
        (asked("main", "", 1_001), "must be 0 to 1000"),
        (asked("main", "x", 0), "must be 1 to 1000"),
    ] {
        let request =
            mesh::AdministerRequest { action: Some(Action::SetWeight(request)), ..Default::default() };
        let refused = service.administer(tonic::Request::new(request)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(format!("{refused:?}").contains(text), "{refused:?}");
    }
}
