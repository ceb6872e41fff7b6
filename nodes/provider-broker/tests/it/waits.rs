//! The waits that a provider names to one node, as the others hold to them.

use crate::admin::until;
use crate::cluster::{Node, Nodes};
use crate::keys::keyed;
use crate::support::{hello, openai, plain};
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerService;
use callboard_domain::llm::TextRequest;
use callboard_provider_broker::config::Breaker;
use callboard_provider_broker::{Broker, Config};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::{Allowance, Fault};
use std::time::Duration;

#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
async fn answers(broker: &Broker) -> String {
    broker.text(&hello()).await.unwrap().summary.provider
}

/// How many waits a node knows from headers.
fn spent(node: &Node) -> usize {
    node.broker.providers()[0].keys.iter().map(|key| key.spent.len()).sum()
}

#[tokio::test]
async fn what_headers_say_is_left_of_a_key_is_known_on_every_node() {
    let (fake, other) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    fake.allow(Allowance { requests: 2, window: Duration::from_secs(50) });
    let config = Config { providers: vec![openai("main", &fake), openai("other", &other)], ..plain() };
    let nodes = Nodes::default();
    let (one, two) = (nodes.open(&config).await, nodes.open(&config).await);
    assert_eq!(answers(&one.broker).await, "main");
    assert_eq!(spent(&two), 0, "one is left: the other node may have it");
    assert_eq!(answers(&one.broker).await, "main");
    until(|| spent(&two) == 1).await;
    assert_eq!(answers(&two.broker).await, "other");
    assert_eq!((fake.counts().received, fake.refused()), (2, 0), "nothing was sent that it would refuse");
    let pinned = TextRequest { provider: Some("main".into()), ..hello() };
    let wait = two.broker.text(&pinned).await.unwrap_err().retry_after.unwrap();
    assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(52), "{wait:?}");
    // Another model has limits of its own.
    let another = TextRequest { model: Some("another".into()), ..hello() };
    assert_eq!(two.broker.text(&another).await.unwrap().summary.provider, "main");
}

#[tokio::test]
async fn the_wait_of_a_refusal_is_known_on_every_node_for_that_key_alone() {
    let fake = FakeProvider::start().await.unwrap();
    let config = Config {
        providers: vec![keyed("main", &fake, &["KEY", "B"])],
        breaker: Breaker::default(),
        ..plain()
    };
    let nodes = Nodes::default();
    let (one, two) = (nodes.open(&config).await, nodes.open(&config).await);
    fake.fault(Fault::RateLimit { retry_after: Some(40) });
    one.broker.text(&hello()).await.unwrap_err();
    fake.heal();
    let waits = |node: &Node| {
        let breakers = node.broker.providers().remove(0).breakers.into_iter();
        breakers.filter(|breaker| breaker.until.is_some()).map(|breaker| breaker.key).collect::<Vec<_>>()
    };
    assert_eq!(waits(&one), ["b", "key"]);
    until(|| waits(&two) == ["b", "key"]).await;
    let received = fake.counts().received;
    let error = two.broker.text(&hello()).await.unwrap_err();
    let wait = error.retry_after.unwrap();
    assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(41), "{wait:?}");
    assert_eq!(fake.counts().received, received);
    assert_eq!(nodes.kept.len(), 0, "they are kept nowhere");
}

#[tokio::test]
async fn a_wait_that_is_told_shortens_none_and_one_of_somebody_else_is_left_alone() {
    let fake = FakeProvider::start().await.unwrap();
    let config = Config { providers: vec![openai("main", &fake)], breaker: Breaker::default(), ..plain() };
    let nodes = Nodes::default();
    let one = nodes.open(&config).await;
    let tell = async |key: &str, of: mesh::ProviderWaitOf, seconds: u64| {
        let wait = mesh::ProviderWait {
            provider: "main".into(),
            key: key.into(),
            model: "fake-text".into(),
            of: of.into(),
            left_us: seconds * 1_000_000,
        };
        let stranger = mesh::ProviderWait { provider: "stranger".into(), ..wait.clone() };
        let request = mesh::TellRecordsRequest { waits: vec![stranger, wait], ..Default::default() };
        let service = nodes.told.lock().unwrap()[0].clone();
        service.tell_records(tonic::Request::new(request)).await.unwrap();
        one.broker.text(&hello()).await.err().and_then(|error| error.retry_after)
    };
    let (calls, requests) = (mesh::ProviderWaitOf::Calls, mesh::ProviderWaitOf::Requests);
    assert_eq!(tell("key-2", calls, 30).await, None, "this node has no such key");
    let is = |wait: Option<Duration>, seconds: u64| {
        let wait = wait.unwrap();
        assert!(wait <= Duration::from_secs(seconds) && wait > Duration::from_secs(seconds - 5), "{wait:?}");
    };
    is(tell("key-1", requests, 30).await, 30);
    is(tell("key-1", requests, 10).await, 30);
    // A minute is believed of headers, whoever has told.
    is(tell("key-1", requests, 86_400).await, 60);
    is(tell("key-1", calls, 120).await, 120);
    is(tell("key-1", calls, 20).await, 120);
    assert_eq!(fake.counts().received, 1);
}
