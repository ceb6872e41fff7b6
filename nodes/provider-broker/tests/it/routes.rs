//! Named routes, and the order in which a policy has providers tried.

use crate::support::{Act, Scripted, deps, hello, outline, picture, plain};
use callboard_domain::Money;
use callboard_domain::llm::{ErrorKind, TextRequest};
use callboard_provider_broker::config::{Breaker, Policy, RouteConfig, Routing, Target};
use callboard_provider_broker::{Broker, Config, Offline, Piece, Price, Provider};
use futures::TryStreamExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

fn target(provider: &str, model: Option<&str>) -> Target {
    Target { provider: provider.into(), model: model.map(Into::into), weight: 1, context_tokens: None }
}

fn route(name: &str, policy: Policy, providers: Vec<Target>) -> RouteConfig {
    RouteConfig { name: name.into(), policy: Some(policy), providers }
}

fn on(name: &str) -> TextRequest {
    TextRequest { model: Some(name.into()), ..hello() }
}

/// A broker of scripted providers with the offline generator in front of them, whose draws are the same in each run.
fn broker(config: &Config, providers: &[&Arc<Scripted>]) -> Arc<Broker> {
    let mut all: Vec<Arc<dyn Provider>> = vec![Arc::new(Offline::new("offline"))];
    all.extend(providers.iter().map(|p| Arc::clone(p) as Arc<dyn Provider>));
    let drawn = AtomicU64::new(0);
    // SplitMix64.
    let jitter = move || {
        let step = drawn.fetch_add(1, Ordering::SeqCst) + 1;
        let z = step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let deps = callboard_provider_broker::Deps { jitter: Arc::new(jitter), ..deps().0 };
    Broker::with_providers(config, all, &deps)
}

fn three() -> [Arc<Scripted>; 3] {
    ["a", "b", "c"].map(|name| Scripted::new(name, Act::Answer))
}

fn calls(of: &Arc<Scripted>) -> u32 {
    of.calls.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_route_leads_to_its_targets_each_with_its_model() {
    let [a, b, c] = three();
    let targets = vec![target("c", Some("small")), target("a", None), target("a", Some("large"))];
    let config = Config { routes: vec![route("fast", Policy::Priority, targets)], ..plain() };
    let broker = broker(&config, &[&a, &b, &c]);
    let answer = broker.text(&on("fast")).await.unwrap().summary;
    assert_eq!((answer.provider.as_str(), answer.model.as_str()), ("c", "small"));
    // One that does not have its model is no reason to end: the next has another one anyway.
    c.set(Act::Fail(ErrorKind::ModelNotFound));
    let answer = broker.text(&on("fast")).await.unwrap().summary;
    assert_eq!(outline(&answer.attempts), ["c: PROVIDER_MODEL_NOT_FOUND", "a"]);
    assert_eq!((answer.attempts[0].model.as_str(), answer.model.as_str()), ("small", "scripted-text"));
    a.set(Act::Fail(ErrorKind::Overloaded));
    let error = broker.text(&on("fast")).await.unwrap_err();
    assert_eq!(
        error.attempts.iter().map(|a| a.model.as_str()).collect::<Vec<_>>(),
        ["small", "scripted-text", "large"]
    );
    // Neither those that are not on it, nor the stand-in.
    assert_eq!(calls(&b), 0);
    // Any other name is that of a model, at the providers as always.
    assert_eq!(broker.text(&on("faster")).await.unwrap().summary.provider, "offline");
}

#[tokio::test]
async fn a_stream_goes_by_the_route_too() {
    let [a, b, c] = three();
    let config = Config {
        routes: vec![route("fast", Policy::Priority, vec![target("b", Some("small")), target("c", None)])],
        ..plain()
    };
    let broker = broker(&config, &[&a, &b, &c]);
    let mut stream = broker.text_stream(&on("fast")).await.unwrap();
    let Some(Piece::Begin(summary)) = stream.try_next().await.unwrap() else { panic!("no beginning") };
    assert_eq!((summary.provider.as_str(), summary.model.as_str()), ("b", "small"));
}

#[tokio::test]
async fn a_pin_holds_on_a_route() {
    let [a, b, c] = three();
    let targets = vec![target("a", Some("x")), target("b", Some("y"))];
    let config = Config { routes: vec![route("fast", Policy::Weighted, targets)], ..plain() };
    let broker = broker(&config, &[&a, &b, &c]);
    let pinned = |provider: &str| TextRequest { provider: Some(provider.into()), ..on("fast") };
    for _ in 0..20 {
        let answer = broker.text(&pinned("b")).await.unwrap().summary;
        assert_eq!((answer.provider.as_str(), answer.model.as_str()), ("b", "y"));
    }
    let error = broker.text(&pinned("c")).await.unwrap_err();
    assert_eq!(error.message, "the route `fast` does not lead to c");
    assert_eq!((error.kind, calls(&a), calls(&c)), (ErrorKind::InvalidRequest, 0, 0));
}

#[tokio::test]
async fn weights_share_out_calls_and_the_stand_in_is_last() {
    let [a, b, c] = three();
    let weights = [("a", 6), ("b", 3), ("c", 0)].map(|(name, weight)| (name.to_owned(), weight)).into();
    let config = Config { routing: Routing { policy: Policy::Weighted, weights }, ..plain() };
    let broker = broker(&config, &[&a, &b, &c]);
    for _ in 0..900 {
        let answer = broker.text(&hello()).await.unwrap().summary;
        assert_eq!(answer.degraded, None, "another order is not a lesser answer");
    }
    assert!(calls(&a).abs_diff(600) < 60, "{} of 600", calls(&a));
    assert_eq!((calls(&a) + calls(&b), calls(&c)), (900, 0));
    // Images are shared out as texts are.
    for _ in 0..90 {
        broker.image(&picture()).await.unwrap();
    }
    assert!(calls(&b).abs_diff(330) < 45, "{} of 330", calls(&b));
    for provider in [&a, &b] {
        provider.set(Act::Fail(ErrorKind::ServerFault));
    }
    // One without weight is there for when the others fail.
    assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "c");
    c.set(Act::Fail(ErrorKind::ServerFault));
    let answer = broker.text(&hello()).await.unwrap().summary;
    assert_eq!((answer.provider.as_str(), answer.attempts.len()), ("offline", 4));
}

#[tokio::test(start_paused = true)]
async fn the_faster_one_gets_most_and_one_that_got_slow_few() {
    let [a, b, _] = three();
    let ms = Duration::from_millis;
    let config =
        Config { routing: Routing { policy: Policy::LeastLatency, ..Routing::default() }, ..plain() };
    let broker = broker(&config, &[&a, &b]);
    a.set(Act::Late(ms(400)));
    b.set(Act::Late(ms(50)));
    for _ in 0..200 {
        broker.text(&hello()).await.unwrap();
    }
    // Each was tried, and the slow one again after a while.
    assert!((1..20).contains(&calls(&a)), "{}", calls(&a));
    b.set(Act::Late(ms(2_000)));
    a.set(Act::Late(ms(100)));
    let (before, slow) = (calls(&a), calls(&b));
    for _ in 0..200 {
        broker.text(&hello()).await.unwrap();
    }
    assert!(calls(&a) - before > 170, "{} {}", calls(&a) - before, calls(&b) - slow);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_counts_as_slow() {
    let [a, b, _] = three();
    let config =
        Config { routing: Routing { policy: Policy::LeastLatency, ..Routing::default() }, ..plain() };
    let broker = broker(&config, &[&a, &b]);
    a.set(Act::Fail(ErrorKind::Overloaded));
    b.set(Act::Late(Duration::from_millis(300)));
    for _ in 0..50 {
        assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "b");
    }
    assert_eq!(calls(&a), 1, "it failed at once, and was not taken for fast");
}

#[tokio::test]
async fn an_open_breaker_sends_sticky_subjects_to_the_next_and_back() {
    let [a, b, c] = three();
    let targets = ["a", "b", "c"].map(|name| target(name, Some("m"))).to_vec();
    let config = Config {
        routes: vec![route("chat", Policy::Sticky, targets)],
        breaker: Breaker { failures: 1, ..Breaker::default() },
        ..plain()
    };
    let broker = broker(&config, &[&a, &b, &c]);
    let of = async |subject: &str| {
        let request = TextRequest { subject: Some(subject.into()), ..on("chat") };
        broker.text(&request).await.unwrap().summary
    };
    let subjects: Vec<_> = (0..60).map(|n| format!("user-{n}")).collect();
    let mut before = Vec::new();
    for subject in &subjects {
        before.push(of(subject).await.provider);
        assert_eq!(before.last(), Some(&of(subject).await.provider));
    }
    for name in ["a", "b", "c"] {
        assert!(before.iter().filter(|at| *at == name).count() > 8, "{before:?}");
    }
    a.set(Act::Fail(ErrorKind::ServerFault));
    let (mut moved, asked) = (Vec::new(), calls(&a));
    for (subject, before) in subjects.iter().zip(&before) {
        let now = of(subject).await.provider;
        match before.as_str() {
            "a" => moved.push(now),
            _ => assert_eq!(&now, before),
        }
    }
    // The breaker has opened at the first, and its subjects are spread over the others.
    assert_eq!(calls(&a), asked + 1);
    assert!(moved.contains(&"b".to_owned()) && moved.contains(&"c".to_owned()), "{moved:?}");
}

#[tokio::test]
async fn what_takes_too_few_tokens_is_tried_after_the_others() {
    let [a, b, c] = three();
    let targets = vec![Target { context_tokens: Some(100), ..target("a", None) }, target("b", None)];
    let config = Config { routes: vec![route("fit", Policy::Cheapest, targets)], ..plain() };
    let broker = broker(&config, &[&a, &b, &c]);
    let ask = async |tokens: u32| {
        let request = TextRequest { max_tokens: Some(tokens), ..on("fit") };
        broker.text(&request).await.unwrap().summary.provider
    };
    assert_eq!((ask(50).await.as_str(), ask(200).await.as_str()), ("a", "b"));
}

#[tokio::test]
async fn the_cheapest_for_the_call_is_first_and_what_has_no_price_last() {
    let [a, b, c] = three();
    let price = |provider: &str, input: &str, output: &str| Price {
        model: "m".into(),
        provider: Some(provider.into()),
        input_per_million: Money::parse(input),
        output_per_million: Money::parse(output),
        ..Price::default()
    };
    let targets = ["a", "b", "c"].map(|name| target(name, Some("m"))).to_vec();
    let config = Config {
        routes: vec![route("batch", Policy::Cheapest, targets)],
        // One is cheap to read, the other to write.
        prices: vec![price("b", "10", "1"), price("c", "1", "10")],
        prices_version: "2026-11".into(),
        ..plain()
    };
    let broker = broker(&config, &[&a, &b, &c]);
    let ask = async |prompt: usize, tokens: u32| {
        let request = TextRequest::prompt("x".repeat(prompt));
        let request = TextRequest { model: Some("batch".into()), max_tokens: Some(tokens), ..request };
        broker.text(&request).await.unwrap().summary.provider
    };
    assert_eq!((ask(40_000, 10).await.as_str(), ask(40, 1_000).await.as_str()), ("c", "b"));
    for provider in [&b, &c] {
        provider.set(Act::Fail(ErrorKind::Overloaded));
    }
    assert_eq!(ask(40, 1_000).await, "a");
}

#[tokio::test]
async fn the_list_shows_routes_and_policies() {
    let [a, b, c] = three();
    let config = Config {
        routing: Routing { policy: Policy::Weighted, ..Routing::default() },
        routes: vec![RouteConfig {
            name: "usual".into(),
            policy: None,
            providers: vec![target("b", None), Target { weight: 3, ..target("a", Some("m")) }],
        }],
        ..plain()
    };
    let (policy, routes) = broker(&config, &[&a, &b, &c]).routes();
    assert_eq!(
        (policy, routes[0].policy, routes[0].name.as_str()),
        (Policy::Weighted, Policy::Weighted, "usual")
    );
    let targets = routes[0].targets.iter().map(|t| (t.provider.as_str(), t.model.as_str(), t.weight));
    assert_eq!(targets.collect::<Vec<_>>(), [("b", "scripted-text", 1), ("a", "m", 3)]);
}

#[test]
fn what_is_wrong_with_routes_is_named() {
    let routing = "[routing]\npolicy = \"weighted\"\nweights = { offline = 2000, gone = 1 }\n";
    let routes = "[[routes]]\nname = \"Big\"\nproviders = []\n[[routes]]\nname = \"auto\"\n\
        providers = [{ provider = \"gone\", model = \"\", weight = 1001, context_tokens = 0 }, { provider = \"offline\" }, \
        { provider = \"offline\" }]\n";
    let config: Config = toml::from_str(&format!("{routing}{routes}")).unwrap();
    let fields: Vec<_> = config.violations().into_iter().map(|v| v.field).collect();
    assert_eq!(
        fields,
        [
            "routing.weights.gone",
            "routing.weights.offline",
            "routes[0].name",
            "routes[0].providers",
            "routes[1].name",
            "routes[1].providers[0].provider",
            "routes[1].providers[0].model",
            "routes[1].providers[0].weight",
            "routes[1].providers[0].context_tokens",
            "routes[1].providers[2].model",
        ]
    );
    assert!(toml::from_str::<Config>("[routing]\npolicy = \"fastest\"").is_err());
}

#[tokio::test]
async fn calls_without_a_subject_are_their_kinds() {
    let [a, b, c] = three();
    let config = Config { routing: Routing { policy: Policy::Sticky, ..Routing::default() }, ..plain() };
    let broker = broker(&config, &[&a, &b, &c]);
    let seen = Mutex::new(std::collections::BTreeMap::new());
    for n in 0..40 {
        let kind = format!("kind-{}", n % 10);
        let context = callboard_runtime::mesh::Context { kind: kind.clone(), ..Default::default() };
        let answer = context.scope(broker.text(&hello())).await.unwrap().summary.provider;
        let mut seen = seen.lock().unwrap();
        assert_eq!(seen.entry(kind).or_insert_with(|| answer.clone()), &answer);
    }
    let providers: std::collections::BTreeSet<_> = seen.into_inner().unwrap().into_values().collect();
    assert!(providers.len() > 1, "{providers:?}");
}

#[tokio::test]
async fn a_route_leaves_out_what_is_switched_off_and_begins_with_the_primary() {
    let [a, b, c] = three();
    let targets = vec![target("a", None), target("b", None), target("c", None)];
    let config = Config { routes: vec![route("fast", Policy::Priority, targets)], ..plain() };
    let broker = broker(&config, &[&a, &b, &c]);
    let said = callboard_provider_broker::Said::default();
    broker.switch("a", callboard_provider_broker::SwitchState::Disabled, said).await.unwrap();
    assert_eq!(broker.text(&on("fast")).await.unwrap().summary.provider, "b");
    broker.set_primary("c", said).await.unwrap();
    assert_eq!(broker.text(&on("fast")).await.unwrap().summary.provider, "c");
    assert_eq!(calls(&a), 0);
}

#[tokio::test]
async fn a_route_of_which_nobody_answers_is_an_outage_of_its_own_until_somebody_does() {
    let [a, b, c] = three();
    let targets = vec![target("a", None), target("b", Some("x")), target("b", Some("y"))];
    let config = Config { routes: vec![route("fast", Policy::Priority, targets)], ..plain() };
    let (broker, seen) = crate::support::scripted_with(&config, &[&a, &b, &c], false);
    let told = || {
        let all = seen.take_all().into_iter().filter(|seen| seen.subject != "providers");
        all.map(|seen| (seen.rule, seen.subject, seen.firing)).collect::<Vec<_>>()
    };
    let fast = |firing| ("all_providers_down".to_owned(), "route fast".to_owned(), firing);
    a.set(Act::Fail(ErrorKind::ServerFault));
    broker.text(&on("fast")).await.unwrap();
    assert_eq!(told(), [fast(false)]);
    b.set(Act::Fail(ErrorKind::Overloaded));
    for _ in 0..3 {
        broker.text(&on("fast")).await.unwrap_err();
    }
    assert_eq!(told(), [fast(true)], "told once");
    broker.text(&hello()).await.unwrap();
    broker.text(&TextRequest { provider: Some("b".into()), ..on("fast") }).await.unwrap_err();
    assert_eq!(told(), [], "other calls say nothing of it");
    a.set(Act::Answer);
    broker.text(&on("fast")).await.unwrap();
    assert_eq!(told(), [fast(false)]);
    // The outage of all is told beside it.
    for provider in [&a, &b, &c] {
        provider.set(Act::Fail(ErrorKind::ServerFault));
    }
    broker.text(&on("fast")).await.unwrap_err();
    assert_eq!(told(), [fast(true)]);
    // The route is gone: nothing will be heard of it any more.
    broker.text(&hello()).await.unwrap_err();
    broker.reconfigure(&plain()).await.unwrap();
    assert_eq!(told(), [fast(false)]);
}

/// It was on its way when the route was taken out of the configuration, and fails after.
#[tokio::test(start_paused = true)]
async fn a_call_that_still_goes_a_route_that_is_gone_reports_no_outage_of_it() {
    let [a, b, c] = three();
    a.set(Act::Late(Duration::from_secs(3_600)));
    let config = Config {
        routes: vec![route("fast", Policy::Priority, vec![target("a", None)])],
        attempt_timeout: Duration::from_secs(5),
        ..plain()
    };
    let (broker, seen) = crate::support::scripted_with(&config, &[&a, &b, &c], false);
    let caller = Arc::clone(&broker);
    let mut calls = JoinSet::new();
    calls.spawn(async move { caller.text(&on("fast")).await });
    while broker.providers()[0].in_flight == 0 {
        tokio::task::yield_now().await;
    }
    broker.reconfigure(&plain()).await.unwrap();
    calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(seen.take_all().iter().all(|seen| !seen.subject.starts_with("route")));
}
