//! What an admin switches, above the configuration.

use crate::cluster::Nodes;
use crate::support::{Act, Scripted, hello, one, plain, scripted};
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::administer_request::Action;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerService;
use callboard_contracts::v1;
use callboard_domain::llm::{ErrorKind, TextRequest};
use callboard_domain::provider_record::Topic;
use callboard_ports::ProviderRecords;
use callboard_provider_broker::config::{Adapter, Breaker, ProviderConfig, Retry};
use callboard_provider_broker::{BreakerState, Broker, Cleared, Config, Said, Service, SwitchState};
use callboard_testkit::fake_provider::Fault;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

fn no_retries() -> Retry {
    Retry { max: 0, ..Retry::default() }
}

const OPS: Said<'static> = Said { author: "ops", reason: "the bill" };

async fn answers(broker: &Broker) -> Result<String, ErrorKind> {
    broker.text(&hello()).await.map(|answer| answer.summary.provider).map_err(|error| error.kind)
}

fn two() -> (Arc<Scripted>, Arc<Scripted>) {
    (Scripted::new("a", Act::Answer), Scripted::new("b", Act::Answer))
}

#[tokio::test]
async fn no_call_goes_to_a_disabled_provider_until_it_is_enabled() {
    let (a, b) = two();
    let (broker, _) = scripted(&[&a, &b], false);
    let shown = broker.switch("a", SwitchState::Disabled, OPS).await.unwrap();
    let switch = shown.switch.unwrap();
    assert_eq!((switch.state, &*switch.author, &*switch.reason), (SwitchState::Disabled, "ops", "the bill"));
    let answer = broker.text(&hello()).await.unwrap().summary;
    assert_eq!((answer.provider.as_str(), answer.degraded), ("b", None), "it was meant so");
    let pinned = broker.text(&TextRequest { provider: Some("a".into()), ..hello() }).await.unwrap_err();
    assert_eq!(pinned.kind, ErrorKind::Disabled);
    assert_eq!(pinned.message, "a is disabled by ops: the bill");
    assert_eq!(a.calls.load(Ordering::SeqCst), 0);

    broker.switch("b", SwitchState::Draining, Said::default()).await.unwrap();
    let nobody = broker.text(&hello()).await.unwrap_err();
    assert_eq!((nobody.kind, nobody.kind.is_retryable()), (ErrorKind::Disabled, true));
    assert_eq!(nobody.message, "a is disabled by ops: the bill; b is draining");

    assert_eq!(broker.switch("a", SwitchState::Enabled, OPS).await.unwrap().switch, None);
    assert_eq!(answers(&broker).await, Ok("a".into()));
}

#[tokio::test]
async fn the_offline_generator_says_that_the_others_are_switched_off() {
    let (a, _) = two();
    let (broker, _) = scripted(&[&a], true);
    broker.switch("a", SwitchState::Disabled, OPS).await.unwrap();
    let summary = broker.text(&hello()).await.unwrap().summary;
    let why = "every provider is switched off but the offline generator, which answered";
    assert_eq!((summary.provider.as_str(), summary.degraded.as_deref()), ("offline", Some(why)));
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_end_while_a_provider_drains() {
    let a = Scripted::new("a", Act::Late(Duration::from_secs(5)));
    let b = Scripted::new("b", Act::Answer);
    let (broker, _) = scripted(&[&a, &b], false);
    let call = {
        let broker = Arc::clone(&broker);
        async move { answers(&broker).await }
    };
    let mut calls = JoinSet::new();
    calls.spawn(call);
    while broker.providers()[0].in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let shown = broker.switch("a", SwitchState::Draining, OPS).await.unwrap();
    assert_eq!(shown.in_flight, 1);
    assert_eq!(answers(&broker).await, Ok("b".into()));
    assert_eq!(calls.join_next().await.unwrap().unwrap(), Ok("a".into()), "what was under way is answered");
    assert_eq!(broker.providers()[0].in_flight, 0);
}

/// It was given its way before the switch, and comes to the provider after it.
#[tokio::test(start_paused = true)]
async fn a_call_that_fails_elsewhere_does_not_go_on_to_a_provider_that_was_switched_off_meanwhile() {
    let a = Scripted::new("a", Act::Late(Duration::from_secs(3_600)));
    let b = Scripted::new("b", Act::Answer);
    let config = Config { attempt_timeout: Duration::from_secs(5), retry: no_retries(), ..plain() };
    let (broker, _) = crate::support::scripted_with(&config, &[&a, &b], false);
    let mut calls = JoinSet::new();
    let caller = Arc::clone(&broker);
    calls.spawn(async move { caller.text(&hello()).await });
    while broker.providers()[0].in_flight == 0 {
        tokio::task::yield_now().await;
    }
    // A reload in between makes no difference.
    let providers = ["a", "b"].map(|name| ProviderConfig::named(name, Adapter::Offline));
    broker.reconfigure(&Config { providers: providers.into(), ..config }).await.unwrap();
    broker.switch("b", SwitchState::Draining, OPS).await.unwrap();
    let error = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(error.message.contains("b is draining by ops: the bill"), "{error:?}");
    assert_eq!(b.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_primary_is_tried_first_until_it_is_reset() {
    let (a, b) = two();
    let (broker, _) = scripted(&[&a, &b], false);
    let shown = broker.set_primary("b", OPS).await.unwrap();
    assert_eq!((shown.place, shown.primary.unwrap().author.as_str()), (2, "ops"));
    assert_eq!(answers(&broker).await, Ok("b".into()));
    let order = |broker: &Broker| broker.providers().into_iter().map(|p| p.name).collect::<Vec<_>>();
    assert_eq!(order(&broker), ["b", "a"]);
    broker.reset("a", OPS).await.unwrap();
    assert_eq!(order(&broker), ["b", "a"], "the reset of another one changes nothing");
    assert_eq!(broker.reset("b", OPS).await.unwrap().primary, None);
    assert_eq!(answers(&broker).await, Ok("a".into()));
}

#[tokio::test]
async fn a_wrong_name_is_answered_with_those_that_there_are() {
    let (a, b) = two();
    let (broker, _) = scripted(&[&a, &b], false);
    let service = Service::new(broker);
    let named = |name: &str| v1::SwitchProviderRequest { name: name.into(), state: 2, reason: String::new() };
    let actions = [
        Action::Switch(named("c")),
        Action::SetPrimary(v1::SetPrimaryProviderRequest { name: "c".into(), reason: String::new() }),
        Action::Reset(v1::ResetProviderRequest { name: "c".into() }),
        Action::Test(v1::TestProviderRequest { name: "c".into(), model: String::new() }),
        Action::CloseBreakers(v1::CloseBreakersRequest { name: "c".into() }),
    ];
    for action in actions {
        let request = mesh::AdministerRequest { action: Some(action), ..Default::default() };
        let refused = service.administer(tonic::Request::new(request)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains("no provider is called `c`; there are: a, b"), "{refused:?}");
    }
    for wrong in [
        v1::SwitchProviderRequest { state: 0, ..named("a") },
        v1::SwitchProviderRequest { reason: "x".repeat(201), ..named("a") },
    ] {
        let request = mesh::AdministerRequest { action: Some(Action::Switch(wrong)), ..Default::default() };
        let refused = service.administer(tonic::Request::new(request)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_test_is_a_call_of_one_token_that_counts_in_health_and_not_in_the_breaker() {
    let (fake, broker) = one().await;
    let attempt = broker.test("main", None).await.unwrap();
    assert_eq!((attempt.model.as_str(), attempt.error), ("fake-text", None));
    let asked = fake.requests().pop().unwrap();
    assert_eq!(asked.body["max_tokens"].as_u64().or(asked.body["max_completion_tokens"].as_u64()), Some(1));
    broker.switch("main", SwitchState::Disabled, OPS).await.unwrap();
    fake.fault(Fault::ServerFault { status: 500 });
    let failed = broker.test("main", Some("other".into())).await.unwrap();
    assert_eq!((failed.model.as_str(), failed.error.unwrap().0), ("other", ErrorKind::ServerFault));
    let status = &broker.providers()[0];
    assert_eq!((status.successes, status.failures), (1, 1));
}

#[tokio::test]
async fn only_a_hard_failure_of_a_test_opens_the_breaker_and_an_admin_closes_it() {
    let (a, b) = two();
    let config = Config { breaker: Breaker { failures: 1, ..Breaker::default() }, ..plain() };
    let (broker, _) = crate::support::scripted_with(&config, &[&a, &b], false);
    let state = || broker.counts()[0].breaker;
    a.set(Act::Fail(ErrorKind::ServerFault));
    broker.test("a", None).await.unwrap();
    assert_eq!(state(), BreakerState::Closed);
    a.set(Act::Fail(ErrorKind::QuotaExceeded));
    broker.test("a", None).await.unwrap();
    assert_eq!(state(), BreakerState::Open);
    a.set(Act::Answer);
    broker.test("a", None).await.unwrap();
    assert_eq!(state(), BreakerState::Open, "one token proves little");
    assert_eq!(answers(&broker).await, Ok("b".into()));
    broker.close_breakers("a").unwrap();
    assert_eq!((state(), answers(&broker).await), (BreakerState::Closed, Ok("a".into())));
}

#[tokio::test]
async fn what_is_switched_reaches_every_node_and_survives_a_restart() {
    let (a, b) = two();
    let nodes = Nodes::default();
    let one = nodes.start(&plain(), &[&a, &b]).await;
    let two = nodes.start(&plain(), &[&a, &b]).await;
    one.broker.switch("a", SwitchState::Disabled, OPS).await.unwrap();
    until(|| two.broker.providers()[0].switch.is_some()).await;
    assert_eq!(answers(&two.broker).await, Ok("b".into()));
    drop(one);
    // Switched on a node that has heard nothing yet: it outdoes what was.
    let again = nodes.start(&plain(), &[&a, &b]).await;
    assert_eq!(answers(&again.broker).await, Ok("b".into()), "in force before the first call");
    again.broker.switch("a", SwitchState::Enabled, OPS).await.unwrap();
    until(|| two.broker.providers()[0].switch.is_none()).await;
}

/// A configuration file that is ignored once a database holds the same key: the file's value is shown beside what was
/// switched, and one call has the file count again.
#[tokio::test]
async fn complaint_a_file_that_is_ignored_once_a_database_holds_the_same_key() {
    let (a, b) = two();
    let nodes = Nodes::default();
    let node = nodes.start(&plain(), &[&a, &b]).await;
    node.broker.set_primary("b", OPS).await.unwrap();
    node.broker.switch("a", SwitchState::Disabled, OPS).await.unwrap();
    drop(node);
    // The file has changed: `b` is not in it any more, `c` is.
    let c = Scripted::new("c", Act::Answer);
    let node = nodes.start(&plain(), &[&c, &a]).await;
    let shown: Vec<_> =
        node.broker.providers().into_iter().map(|p| (p.name, p.place, p.switch.is_some())).collect();
    assert_eq!(
        shown,
        [("c".into(), 1, false), ("a".into(), 2, true)],
        "a primary that is gone changes nothing"
    );
    node.broker.reset("a", OPS).await.unwrap();
    drop(node);
    let node = nodes.start(&plain(), &[&a, &c]).await;
    assert_eq!(answers(&node.broker).await, Ok("a".into()), "the file counts again, after a restart too");
}

#[tokio::test]
async fn without_the_store_nothing_is_switched_and_that_is_said() {
    let (a, b) = two();
    let nodes = Nodes::default();
    let node = nodes.start(&plain(), &[&a, &b]).await;
    nodes.kept.set_away(true);
    let refused = node.broker.switch("a", SwitchState::Disabled, OPS).await.unwrap_err();
    assert_eq!(refused.code, callboard_domain::Code::StoreUnavailable);
    assert_eq!(answers(&node.broker).await, Ok("a".into()));
    assert_eq!(nodes.kept.len(), 0);
}

#[tokio::test]
async fn a_cache_is_cleared_on_every_node() {
    let a = Scripted::new("a", Act::Answer);
    let mut config = plain();
    config.cache.enabled = true;
    let nodes = Nodes::default();
    let (one, two) = (nodes.start(&config, &[&a]).await, nodes.start(&config, &[&a]).await);
    let calls = || a.calls.load(Ordering::SeqCst);
    let cached = hello();
    for _ in 0..2 {
        two.broker.text(&cached).await.unwrap();
    }
    assert_eq!(calls(), 1);
    assert_eq!(one.broker.clear_caches(&Cleared::default(), OPS).await, Ok(true));
    until(|| two.broker.stage_counts().cached.0 == 0).await;
    two.broker.text(&cached).await.unwrap();
    assert_eq!(calls(), 2);
}

#[tokio::test]
async fn a_clear_is_in_force_while_the_store_is_away_and_is_written_later() {
    let a = Scripted::new("a", Act::Answer);
    let mut config = plain();
    config.cache.enabled = true;
    let nodes = Nodes::default();
    let (one, two) = (nodes.start(&config, &[&a]).await, nodes.start(&config, &[&a]).await);
    for node in [&one, &two] {
        node.broker.text(&hello()).await.unwrap();
    }
    nodes.kept.set_away(true);
    assert_eq!(one.broker.clear_caches(&Cleared::default(), OPS).await, Ok(false), "it is not written down");
    assert_eq!(one.broker.stage_counts().cached.0, 0);
    until(|| two.broker.stage_counts().cached.0 == 0).await;
    assert_eq!(nodes.kept.len(), 0);
    nodes.kept.set_away(false);
    until(|| nodes.kept.len() == 1).await;
    let record = &nodes.kept.provider_records().await.unwrap()[0];
    assert_eq!((record.subject.topic, record.author.as_str()), (Topic::Cache, "ops"));
}

#[tokio::test]
async fn clears_are_bounded_in_what_they_leave_behind() {
    let (broker, _) = scripted(&[&Scripted::new("a", Act::Answer)], false);
    let of = |kind: String| Cleared { namespace: Some("x".into()), kind: Some(kind) };
    let long = broker.clear_caches(&of("k".repeat(512)), OPS).await.unwrap_err();
    assert!(long.to_string().contains("512 bytes"), "{long}");
    for i in 0..1_024 {
        broker.clear_caches(&of(format!("k{i}")), OPS).await.unwrap();
    }
    let many = broker.clear_caches(&of("another".into()), OPS).await.unwrap_err();
    assert!(many.to_string().contains("clear all"), "{many}");
    assert_eq!(broker.clear_caches(&of("k1".into()), OPS).await, Ok(true), "once more is no more");
    assert_eq!(broker.clear_caches(&Cleared::default(), OPS).await, Ok(true));
}

/// Waits for what another node is told.
#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
pub(crate) async fn until(holds: impl Fn() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, waits).await.unwrap();
}
