//! Another configuration while calls are under way.

use crate::support::{deps, hello, openai, plain};
use callboard_domain::llm::{CacheSource, TextRequest};
use callboard_provider_broker::config::{ArmConfig, Breaker, Cache, Experiment, ProviderConfig, Subject};
use callboard_provider_broker::{BreakerState, Broker, Config, Deps, Reloaded, SwitchState};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::Fault;
use std::sync::{Arc, Mutex};
use tokio::task::JoinSet;

fn pinned(name: &str) -> TextRequest {
    TextRequest { provider: Some(name.into()), ..hello() }
}

#[tokio::test]
async fn providers_come_and_go_and_what_is_known_of_those_that_stay_is_kept() {
    let (a, b, c) = (
        FakeProvider::start().await.unwrap(),
        FakeProvider::start().await.unwrap(),
        FakeProvider::start().await.unwrap(),
    );
    let breaker = Breaker { failures: 2, ..Breaker::default() };
    let first = Config { providers: vec![openai("a", &a), openai("b", &b)], breaker, ..plain() };
    let broker = Broker::new(&first, &deps().0).unwrap();
    b.fault(Fault::ServerFault { status: 500 });
    broker.text(&hello()).await.unwrap();
    for _ in 0..2 {
        broker.text(&pinned("b")).await.unwrap_err();
    }
    let second = Config { providers: vec![openai("c", &c), openai("b", &b)], ..first };
    let done = broker.reconfigure(&second).await.unwrap();
    assert_eq!(
        done,
        Reloaded {
            providers: vec!["c".into(), "b".into()],
            changed: done.changed.clone(),
            after_restart: vec![]
        }
    );
    assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "c");
    assert!(broker.text(&pinned("a")).await.unwrap_err().message.contains("there are: c, b"));
    let counts: Vec<_> =
        broker.counts().into_iter().map(|n| (n.name, n.successes, n.breaker, n.trips)).collect();
    assert_eq!(
        counts,
        [("c".into(), 1, BreakerState::Closed, 0), ("b".into(), 0, BreakerState::Open, 1)],
        "what is known of one that stays is kept"
    );
    let (status, received) = (broker.providers(), b.counts().received);
    assert_eq!(status[1].failures, 2);
    broker.text(&pinned("b")).await.unwrap_err();
    assert_eq!(b.counts().received, received, "it is left out still");
}

#[tokio::test]
async fn calls_under_way_end_with_what_they_began_with() {
    let (a, b) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    let first = Config { providers: vec![openai("a", &a)], ..plain() };
    let broker = Broker::new(&first, &deps().0).unwrap();
    a.fault(Fault::Delay { ms: 300 });
    let mut calls = JoinSet::new();
    let caller = Arc::clone(&broker);
    calls.spawn(async move { caller.text(&hello()).await });
    while a.counts().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    broker.reconfigure(&Config { providers: vec![openai("b", &b)], ..first }).await.unwrap();
    assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "b");
    // It is in the configuration again, with other keys: the call is still at it, whoever waits for it to be drained.
    let again = ProviderConfig { text_model: Some("other".into()), ..openai("a", &a) };
    broker.reconfigure(&Config { providers: vec![again.clone()], ..plain() }).await.unwrap();
    assert_eq!(broker.providers()[0].in_flight, 1);
    broker
        .reconfigure(&Config { providers: vec![again], prices_version: "2".into(), ..plain() })
        .await
        .unwrap();
    assert_eq!(broker.providers()[0].in_flight, 1, "counted once");
    assert_eq!(calls.join_next().await.unwrap().unwrap().unwrap().summary.provider, "a");
}

#[tokio::test]
async fn a_wrong_configuration_changes_nothing_and_is_told() {
    let a = FakeProvider::start().await.unwrap();
    let first = Config { providers: vec![openai("a", &a)], ..plain() };
    let file: Arc<Mutex<Result<Config, String>>> = Arc::new(Mutex::new(Ok(first.clone())));
    let read = Arc::clone(&file);
    let deps = Deps { read_config: Some(Arc::new(move || read.lock().unwrap().clone())), ..deps().0 };
    let broker = Broker::new(&first, &deps).unwrap();
    let mut twice = first.clone();
    twice.providers.push(openai("a", &a));
    let mut keyless = first.clone();
    keyless.providers[0].api_key_env = Some("NOT_SET".into());
    for (wrong, told) in [
        (Err("line 7: no such key".to_owned()), "line 7: no such key"),
        (Ok(twice), "providers[1].name must be unique"),
        (Ok(keyless), "NOT_SET"),
    ] {
        *file.lock().unwrap() = wrong;
        let error = broker.reload().await.unwrap_err();
        assert!(error.message.contains(told), "{error}");
        assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "a");
    }
    let mut later = first;
    (later.cache.enabled, later.single_flight) = (true, true);
    *file.lock().unwrap() = Ok(later);
    let done = broker.reload().await.unwrap();
    assert_eq!(done.after_restart, ["broker.single_flight", "broker.cache"]);
    assert_eq!(done.changed, ["broker.cache", "broker.single_flight"]);
    assert_eq!(broker.reload().await.unwrap().changed, [""; 0], "nothing has, this time");
}

#[tokio::test]
async fn after_a_reload_with_another_model_the_cache_does_not_answer_with_the_old_ones() {
    let a = FakeProvider::start().await.unwrap();
    let cache = Cache { enabled: true, ..Cache::default() };
    let first = Config { providers: vec![openai("a", &a)], cache, ..plain() };
    let broker = Broker::new(&first, &deps().0).unwrap();
    let keyed = TextRequest { idempotency_key: Some("k".into()), ..hello() };
    for request in [hello(), hello(), keyed.clone()] {
        broker.text(&request).await.unwrap();
    }
    assert_eq!(a.counts().received, 1);
    let mut second = first;
    second.providers[0].text_model = Some("another".into());
    broker.reconfigure(&second).await.unwrap();
    assert_eq!(broker.text(&hello()).await.unwrap().summary.from_cache, None);
    assert_eq!(broker.text(&keyed).await.unwrap().summary.from_cache, Some(CacheSource::Replayed));
    assert_eq!(a.counts().received, 2);
}

#[tokio::test]
async fn a_reload_says_what_changed() {
    let a = FakeProvider::start().await.unwrap();
    let config =
        |names: &[&str]| Config { providers: names.iter().map(|name| openai(name, &a)).collect(), ..plain() };
    let broker = Broker::new(&config(&["a", "b"]), &deps().0).unwrap();
    let changed = async |config: Config| broker.reconfigure(&config).await.unwrap().changed;
    assert_eq!(changed(config(&["b", "a"])).await, ["broker.providers (their order)"]);
    let mut other = config(&["c", "a"]);
    other.providers[1].text_model = Some("other".into());
    other.retry.max = 7;
    assert_eq!(
        changed(other).await,
        ["broker.providers.c (new)", "broker.providers.a", "broker.providers.b (gone)", "broker.retry"]
    );
}

#[tokio::test]
async fn what_an_admin_has_switched_stands_above_the_new_file_too() {
    let (a, b) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    let first = Config { providers: vec![openai("a", &a), openai("b", &b)], ..plain() };
    let broker = Broker::new(&first, &deps().0).unwrap();
    let said = callboard_provider_broker::Said::default();
    broker.switch("a", SwitchState::Disabled, said).await.unwrap();
    let second = Config { providers: vec![openai("b", &b), openai("a", &a)], ..first };
    broker.reconfigure(&second).await.unwrap();
    let shown = broker.providers();
    assert_eq!((shown[1].place, shown[1].switch.is_some()), (2, true));
    broker.text(&pinned("a")).await.unwrap_err();
}

#[tokio::test]
async fn the_share_of_an_arm_changes_and_what_came_of_it_stays() {
    let (a, b) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    let arm = |name: &str, share: u32| ArmConfig {
        name: name.into(),
        share,
        provider: Some(name.into()),
        ..ArmConfig::default()
    };
    let shares = |of_a: u32, of_b: u32| Config {
        providers: vec![openai("a", &a), openai("b", &b)],
        experiments: vec![Experiment {
            name: "which".into(),
            subject: Subject::User,
            arms: vec![arm("a", of_a), arm("b", of_b)],
        }],
        ..plain()
    };
    let call = TextRequest { model: Some("which".into()), subject: Some("somebody".into()), ..hello() };
    let broker = Broker::new(&shares(1, 0), &deps().0).unwrap();
    for _ in 0..3 {
        assert_eq!(broker.text(&call).await.unwrap().summary.provider, "a");
    }
    broker.reconfigure(&shares(0, 1)).await.unwrap();
    assert_eq!(broker.text(&call).await.unwrap().summary.provider, "b");
    let seen: Vec<_> = broker.experiments()[0]
        .arms
        .iter()
        .map(|arm| (arm.name.clone(), arm.share, arm.tally.successes))
        .collect();
    assert_eq!(seen, [("a".into(), 0, 3), ("b".into(), 1, 1)]);
}
