//! Costs, quotas and budgets.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use crate::support::{
    Act, Memory, NOW, Scripted, Seen, deps, hello, openai, outline, picture, plain, scripted_with,
};
use callboard_domain::Money;
use callboard_domain::llm::{Error, ErrorKind, Summary, TextRequest, Usage};
use callboard_ports::Clock;
use callboard_provider_broker::{
    Broker, Budget, BudgetStatus, Config, Deps, Limit, Piece, Price, Provider, Quota, QuotaStatus, Service,
};
use callboard_runtime::mesh::Context;
use callboard_testkit::fake_provider::Fault;
use callboard_testkit::{FakeProvider, ManualClock};
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn usd(text: &str) -> Money {
    Money::parse(text).unwrap()
}

/// A dollar for each token of a prompt, and two for each of an answer: sums are easy to see.
fn dear(model: &str) -> Price {
    Price {
        model: model.into(),
        input_per_million: Some(usd("1000000")),
        output_per_million: Some(usd("2000000")),
        per_image: Some(usd("40")),
        ..Price::default()
    }
}

fn priced(config: Config) -> Config {
    Config { prices: vec![dear("fake-*"), dear("scripted-*")], prices_version: "2026-11".into(), ..config }
}

fn cost(summary: &Summary) -> Option<(String, &str)> {
    summary.cost.as_ref().map(|cost| (cost.amount.to_string(), cost.prices_version.as_str()))
}

/// A fake provider `a`, behind a broker with prices.
async fn fake(config: Config) -> (FakeProvider, Arc<Broker>) {
    let fake = FakeProvider::start().await.unwrap();
    let config = priced(Config { providers: vec![openai("a", &fake)], ..config });
    let broker = Broker::new(&config, &deps().0).unwrap();
    (fake, broker)
}

fn spent(broker: &Broker) -> String {
    broker.providers()[0].spent_today.unwrap().to_string()
}

#[tokio::test]
async fn an_answer_says_what_it_cost_and_by_which_prices() {
    let (_fake, broker) = fake(plain()).await;
    let text = broker.text(&hello()).await.unwrap().summary;
    assert_eq!(text.usage, Usage { cached_input_tokens: 1, ..Usage::of(2, 3) });
    assert_eq!(cost(&text), Some(("8.00".into(), "2026-11")));
    let image = broker.image(&picture()).await.unwrap().summary;
    let dollars = 40 + image.usage.input_tokens + 2 * image.usage.output_tokens;
    assert_eq!(cost(&image), Some((format!("{dollars}.00"), "2026-11")));
    assert_eq!(spent(&broker), format!("{}.00", 8 + dollars));
    let costs = broker.counts()[0].costs.clone();
    assert_eq!(costs[1], ("fake-text".into(), usd("8")), "by model: {costs:?}");
}

#[tokio::test]
async fn what_the_provider_had_in_its_cache_has_a_price_of_its_own() {
    let fake = FakeProvider::start().await.unwrap();
    let price = Price { cached_input_per_million: Some(usd("100000")), ..dear("fake-*") };
    let config = Config { providers: vec![openai("a", &fake)], prices: vec![price], ..plain() };
    let broker = Broker::new(&config, &deps().0).unwrap();
    let text = broker.text(&hello()).await.unwrap().summary;
    // One token of the prompt at a dollar, the other at a tenth; three of the answer at two.
    assert_eq!(cost(&text), Some(("7.10".into(), "")));
    let end = crate::streams::read(broker.text_stream(&hello()).await.unwrap()).await.1.unwrap();
    assert_eq!((end.usage.cached_input_tokens, cost(&end)), (1, Some(("7.10".into(), ""))));
    assert_eq!(spent(&broker), "14.20");
}

#[tokio::test]
async fn a_model_without_a_price_has_no_cost() {
    let (_fake, broker) = fake(plain()).await;
    let request = TextRequest { model: Some("other-text".into()), ..hello() };
    assert_eq!(broker.text(&request).await.unwrap().summary.cost, None);
    assert_eq!(spent(&broker), "0.00");
}

/// What users of other gateways complain about: streamed calls billed as $0.
#[tokio::test]
async fn streamed_calls_billed_as_0_dollars() {
    let (fake, broker) = fake(plain()).await;
    let end = crate::streams::read(broker.text_stream(&hello()).await.unwrap()).await.1.unwrap();
    assert_eq!((cost(&end), end.usage_estimated), (Some(("8.00".into(), "2026-11")), false));
    // A provider that streams, and never says what it took.
    let chunk = |text: &str, finish: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let body = chunk("four", "null") + &chunk("more", "\"stop\"") + "data: [DONE]\n\n";
    fake.fault(Fault::Raw { status: 200, content_type: "text/event-stream".into(), body: body.into() });
    let end = crate::streams::read(broker.text_stream(&hello()).await.unwrap()).await.1.unwrap();
    // Nine bytes of prompt, eight of answer.
    assert_eq!((end.usage, end.usage_estimated), (Usage::of(3, 2), true));
    assert_eq!(cost(&end), Some(("7.00".into(), "2026-11")));
    assert_eq!(spent(&broker), "15.00");
    // Cut after the twelve bytes "fake: hello ".
    fake.fault(Fault::StreamCut { after_chunks: 2 });
    let (text, end) = crate::streams::read(broker.text_stream(&hello()).await.unwrap()).await;
    assert_eq!((text.len(), end.unwrap_err().kind), (12, ErrorKind::Connection));
    assert_eq!(spent(&broker), "24.00", "three for the prompt, six for what had come");
    // Given up by the caller after six bytes.
    let mut stream = broker.text_stream(&hello()).await.unwrap();
    while !matches!(stream.next().await.unwrap().unwrap(), Piece::Delta(_)) {}
    drop(stream);
    assert_eq!(spent(&broker), "31.00", "three for the prompt, four for what had come");
}

/// A broker of scripted providers on a clock that is moved, with a ledger.
struct Bench {
    broker: Arc<Broker>,
    seen: Seen,
    clock: Arc<ManualClock>,
}

fn bench(config: &Config, providers: &[&Arc<Scripted>], ledger: &Arc<Memory>, name: f64) -> Bench {
    let clock = Arc::new(ManualClock::at(NOW));
    let (deps, seen) = deps();
    let deps = Deps { clock: clock.clone(), ledger: ledger.clone(), jitter: Arc::new(move || name), ..deps };
    let providers = providers.iter().map(|p| Arc::clone(p) as Arc<dyn Provider>).collect();
    Bench { broker: Broker::with_providers(config, providers, &deps), seen, clock }
}

impl Bench {
    fn told(&self) -> Vec<(String, bool, String)> {
        let told = self.seen.take_all().into_iter();
        told.filter(|o| o.rule != "all_providers_down").map(|o| (o.subject, o.firing, o.message)).collect()
    }

    fn quota(&self) -> QuotaStatus {
        self.broker.providers()[0].quotas[0]
    }

    fn budget(&self) -> BudgetStatus {
        self.broker.budgets()[0].clone()
    }
}

fn of_a(requests: u64) -> Quota {
    Quota { provider: "a".into(), requests_per_hour: Some(requests), ..Quota::default() }
}

#[tokio::test]
async fn a_spent_quota_is_routed_around_and_not_hammered() {
    let (a, b) = (Scripted::new("a", Act::Answer), Scripted::new("b", Act::Answer));
    let config = Config { quotas: vec![of_a(4)], ..plain() };
    let bench = bench(&config, &[&a, &b], &Arc::default(), 0.1);
    for _ in 0..4 {
        assert_eq!(bench.broker.text(&hello()).await.unwrap().text, "text of a");
    }
    for _ in 0..10 {
        let answer = bench.broker.text(&hello()).await.unwrap();
        assert_eq!(outline(&answer.summary.attempts), ["a: PROVIDER_QUOTA_EXCEEDED", "b"]);
    }
    assert_eq!(a.calls.load(Ordering::SeqCst), 4);
    // Nobody else may: the error says what is spent, and when it is not any more. NOW is 22:13:20.
    let pinned = TextRequest { provider: Some("a".into()), ..hello() };
    let error = bench.broker.text(&pinned).await.unwrap_err();
    assert_eq!(
        error.message,
        "a: the configured quota of 4 requests per hour is spent: 4 are used; it begins anew at 2023-11-14T23:00Z"
    );
    assert_eq!((error.kind, error.retry_after), (ErrorKind::QuotaExceeded, Some(Duration::from_secs(2_800))));
    bench.clock.advance(Duration::from_secs(2_800));
    assert_eq!(bench.broker.text(&pinned).await.unwrap().text, "text of a");
    assert_eq!(bench.quota().used, 1);
}

#[tokio::test]
async fn a_quota_warns_at_three_quarters_and_nine_tenths_and_can_be_reset() {
    let a = Scripted::new("a", Act::Answer);
    let bench = bench(&Config { quotas: vec![of_a(20)], ..plain() }, &[&a], &Arc::default(), 0.1);
    let mut told = Vec::new();
    for call in 1..=20 {
        bench.broker.text(&hello()).await.unwrap();
        told.extend(bench.told().into_iter().map(|(subject, firing, said)| (call, subject, firing, said)));
    }
    let subject = "a: requests per hour".to_owned();
    let resets = "it begins anew at 2023-11-14T23:00Z";
    assert_eq!(
        told,
        [
            (1, subject.clone(), false, "1 of 20 are used".to_owned()),
            (15, subject.clone(), true, format!("15 of 20 are used; {resets}")),
            (18, subject.clone(), true, format!("18 of 20 are used; {resets}")),
            (20, subject.clone(), true, format!("all is used: 20 of 20 are used; {resets}")),
        ]
    );
    assert!(!bench.broker.reset_quota("nobody"));
    assert!(bench.broker.reset_quota("a"));
    assert_eq!(bench.told(), [(subject, false, "0 of 20 are used".to_owned())]);
    bench.broker.text(&hello()).await.unwrap();
    assert_eq!(bench.quota().used, 1);
}

#[tokio::test]
async fn a_quota_says_when_it_will_be_spent() {
    let a = Scripted::new("a", Act::Answer);
    let quota = Quota { provider: "a".into(), requests_per_day: Some(100), ..Quota::default() };
    let bench = bench(&Config { quotas: vec![quota], ..plain() }, &[&a], &Arc::default(), 0.1);
    for _ in 0..50 {
        bench.clock.advance(Duration::from_secs(30));
        bench.broker.text(&hello()).await.unwrap();
    }
    let status = bench.quota();
    let wait = status.spent_at.unwrap().since(bench.clock.now()).as_secs();
    assert!((1_400..=1_600).contains(&wait), "fifty more at one in 30 s: {wait} s");
    assert_eq!((status.used, status.resets.to_rfc3339()), (50, "2023-11-15T00:00:00.000000Z".into()));
}

#[tokio::test]
async fn tokens_of_a_quota_are_settled_by_what_a_call_took() {
    let fake = FakeProvider::start().await.unwrap();
    let quota = Quota { provider: "a".into(), tokens_per_day: Some(5_000), ..Quota::default() };
    let config = Config { providers: vec![openai("a", &fake)], quotas: vec![quota], ..plain() };
    let broker = Broker::new(&config, &deps().0).unwrap();
    let used = || broker.providers()[0].quotas[0].used;
    let asked = TextRequest { max_tokens: Some(1_000), ..hello() };
    broker.text(&asked).await.unwrap();
    assert_eq!(used(), 5);
    let stream = broker.text_stream(&asked).await.unwrap();
    assert!(used() > 1_000, "what it may take is debited while it runs");
    assert_eq!(stream.try_fold(0, async |count, _| Ok(count + 1)).await.unwrap(), 5);
    assert_eq!(used(), 10);
    fake.fault(Fault::Quota);
    broker.text(&asked).await.unwrap_err();
    assert_eq!(used(), 10, "what is refused takes none");
    let error = broker.text(&TextRequest { max_tokens: Some(5_000), ..hello() }).await.unwrap_err();
    assert!(error.message.contains("10 are used, and this call may take 5003;"), "{error}");
}

fn a_day(namespace: &str, usd_per_day: &str) -> Budget {
    Budget { namespace: namespace.into(), usd_per_day: usd(usd_per_day) }
}

async fn within<T>(namespace: &str, call: impl Future<Output = T>) -> T {
    Context { namespace: namespace.into(), ..Context::default() }.scope(call).await
}

#[tokio::test]
async fn a_budget_is_of_its_namespace_and_of_a_day() {
    let a = Scripted::new("a", Act::Answer);
    let config = priced(Config { budgets: vec![a_day("lab", "1100")], ..plain() });
    let bench = bench(&config, &[&a], &Arc::default(), 0.1);
    // Three tokens of prompt and 512 of answer are thought to cost 1027 dollars; what came, of nine bytes, cost nine.
    let summary = within("lab", bench.broker.text(&hello())).await.unwrap().summary;
    assert_eq!((cost(&summary), summary.usage_estimated), (Some(("9.00".into(), "2026-11")), true));
    assert_eq!(bench.budget().spent, usd("9"));
    for spent in 2..=9 {
        within("lab", bench.broker.text(&hello())).await.unwrap();
        assert_eq!(bench.budget().spent, usd(&(9 * spent).to_string()));
    }
    let error = within("lab", bench.broker.text(&hello())).await.unwrap_err();
    assert_eq!(
        error.message,
        "the budget of the namespace `lab` has no room: of $1100.00 a day $81.00 are spent, and this call may cost $1027.00; \
         it begins anew at 2023-11-15T00:00Z, or raise usd_per_day in [[broker.budgets]]"
    );
    let midnight = Duration::from_secs(2_800 + 3_600);
    assert_eq!((error.kind, error.retry_after), (ErrorKind::QuotaExceeded, Some(midnight)));
    assert_eq!(a.calls.load(Ordering::SeqCst), 9, "it was not sent");
    // A shorter one has room; and other namespaces have no budget.
    let short = TextRequest { max_tokens: Some(100), ..hello() };
    within("lab", bench.broker.text(&short)).await.unwrap();
    bench.broker.text(&hello()).await.unwrap();
    bench.clock.advance(midnight);
    within("lab", bench.broker.text(&hello())).await.unwrap();
    assert_eq!(bench.budget().spent, usd("9"));
    assert!(bench.told().iter().any(|(subject, firing, _)| subject == "lab" && *firing));
}

/// What users of other gateways complain about: budgets that a pass-through route walks around. Texts, streams and images
/// are tried here, and calls over the mesh; the endpoint is tried where it is.
#[tokio::test]
async fn budgets_that_a_pass_through_route_walks_around() {
    use callboard_contracts::mesh::v1::{self, provider_broker_service_server::ProviderBrokerService as _};
    let a = Scripted::new("a", Act::Answer);
    let config = priced(Config { budgets: vec![a_day("default", "60")], ..plain() });
    let bench = bench(&config, &[&a], &Arc::default(), 0.1);
    let broker = &bench.broker;
    // 40 for the image and 4 for its prompt.
    broker.image(&picture()).await.unwrap();
    assert_eq!(bench.budget().spent, usd("40"));
    let refused = |error: Error| {
        assert_eq!(error.kind, ErrorKind::QuotaExceeded);
        assert!(error.message.starts_with("the budget of the namespace `default`"), "{error}");
    };
    refused(broker.text(&hello()).await.unwrap_err());
    refused(broker.text_stream(&hello()).await.map(drop).unwrap_err());
    refused(broker.image(&picture()).await.unwrap_err());
    refused(broker.text(&TextRequest { provider: Some("a".into()), ..hello() }).await.unwrap_err());
    // Another model, one that nobody knows the price of: it is no way out.
    let other = TextRequest { model: Some("free?".into()), ..hello() };
    let error = broker.text(&other).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::QuotaExceeded);
    assert!(error.message.contains("the model `free?` has no price"), "{error}");
    let service = Service::new(broker.clone());
    let of_mesh = |status: tonic::Status| refused(callboard_domain::convert::error_from_status(&status));
    let request = callboard_domain::convert::text_request_to_proto(&hello());
    let call = v1::GenerateRequest { request: Some(request.clone()), ..Default::default() };
    of_mesh(service.generate(tonic::Request::new(call)).await.unwrap_err());
    let call = v1::GenerateStreamRequest { request: Some(request), ..Default::default() };
    of_mesh(service.generate_stream(tonic::Request::new(call)).await.map(drop).unwrap_err());
    let call = callboard_domain::convert::image_request_to_proto(&picture());
    of_mesh(service.generate_image(tonic::Request::new(call)).await.unwrap_err());
    assert_eq!(a.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn calls_at_once_do_not_pass_a_budget_together() {
    let a = Scripted::new("a", Act::Hang);
    let config = priced(Config { budgets: vec![a_day("default", "3500")], ..plain() });
    let bench = bench(&config, &[&a], &Arc::default(), 0.1);
    let request = hello();
    let mut calls: Vec<_> = (0..10).map(|_| Box::pin(bench.broker.text(&request))).collect();
    let mut refused = 0;
    for call in &mut calls {
        refused += usize::from(futures::poll!(call).is_ready());
    }
    assert_eq!((refused, a.calls.load(Ordering::SeqCst)), (7, 3), "1027 dollars each");
    assert_eq!(bench.budget().spent, usd("3081"));
    // Given up in the middle, they may have been billed.
    drop(calls);
    assert_eq!(bench.budget().spent, usd("3081"));
}

#[tokio::test]
async fn what_failed_without_being_billed_costs_nothing() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::Connection)), Scripted::new("b", Act::Answer));
    let config = priced(Config { budgets: vec![a_day("default", "2000")], ..plain() });
    let bench = bench(&config, &[&a, &b], &Arc::default(), 0.1);
    bench.broker.text(&hello()).await.unwrap();
    assert_eq!(bench.budget().spent, usd("9"));
    // What timed out may have been.
    a.set(Act::Fail(ErrorKind::Timeout));
    bench.broker.text(&hello()).await.unwrap();
    assert_eq!(bench.budget().spent, usd("1045"));
}

#[tokio::test]
async fn what_costs_nothing_needs_no_room() {
    let a = Scripted::new("a", Act::Answer);
    let free = Price { model: "scripted-*".into(), input_per_million: Some(Money::ZERO), ..Price::default() };
    let config = Config { budgets: vec![a_day("default", "1")], prices: vec![free], ..plain() };
    let bench = bench(&config, &[&a], &Arc::default(), 0.1);
    let summary = bench.broker.text(&hello()).await.unwrap().summary;
    assert_eq!(cost(&summary), Some(("0.00".into(), "")));
}

#[tokio::test]
async fn quotas_and_budgets_are_the_clusters_and_outlive_a_node() {
    let a = Scripted::new("a", Act::Answer);
    let config = priced(Config { quotas: vec![of_a(6)], budgets: vec![a_day("default", "2000")], ..plain() });
    let ledger = Arc::<Memory>::default();
    let nodes = [0.1, 0.2].map(|name| bench(&config, &[&a], &ledger, name));
    for node in [0, 1, 0, 1] {
        nodes[node].broker.text(&hello()).await.unwrap();
    }
    for node in [0, 1, 0] {
        nodes[node].broker.exchange().await.unwrap();
    }
    for node in &nodes {
        assert_eq!((node.quota().used, node.budget().spent), (4, usd("36")));
        assert_eq!(spent(&node.broker), "36.00");
    }
    // A third begins after both have ended.
    drop(nodes);
    let third = bench(&config, &[&a], &ledger, 0.3);
    third.broker.exchange().await.unwrap();
    assert_eq!((third.quota().used, third.budget().spent), (4, usd("36")));
    for _ in 0..2 {
        third.broker.text(&hello()).await.unwrap();
    }
    assert_eq!(third.broker.text(&hello()).await.unwrap_err().kind, ErrorKind::QuotaExceeded);
    // Reset by one, it is reset for all.
    third.broker.reset_quota("a");
    third.broker.exchange().await.unwrap();
    let fourth = bench(&config, &[&a], &ledger, 0.4);
    fourth.broker.exchange().await.unwrap();
    assert_eq!((third.quota().used, fourth.quota().used), (0, 0));
    assert_eq!(fourth.budget().spent, usd("54"), "what was spent stays spent");
}

#[tokio::test(start_paused = true)]
async fn without_the_ledger_each_node_goes_on_with_what_it_knows() {
    let a = Scripted::new("a", Act::Answer);
    let ledger = Arc::<Memory>::default();
    let config = Config { quotas: vec![of_a(10)], ..plain() };
    let nodes = [0.1, 0.2].map(|name| bench(&config, &[&a], &ledger, name));
    let keep = |node: &Bench| {
        let broker = node.broker.clone();
        async move { broker.keep_accounts().await }
    };
    let mut kept = tokio::task::JoinSet::new();
    kept.spawn(keep(&nodes[0]));
    kept.spawn(keep(&nodes[1]));
    for _ in 0..3 {
        nodes[0].broker.text(&hello()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(nodes[1].quota().used, 3, "told by the one, heard by the other");
    ledger.away.store(true, Ordering::SeqCst);
    for node in &nodes {
        for _ in 0..2 {
            node.broker.text(&hello()).await.unwrap();
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(nodes.each_ref().map(|node| node.quota().used), [5, 5], "each knows its own");
    ledger.away.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(nodes.each_ref().map(|node| node.quota().used), [7, 7], "nothing was lost");
    drop(kept);
}

#[tokio::test]
async fn a_limit_may_be_of_a_namespace() {
    let a = Scripted::new("a", Act::Answer);
    let limit = Limit {
        namespace: Some("lab".into()),
        requests_per_minute: Some(1),
        burst: Some(Duration::from_secs(60)),
        ..Limit::default()
    };
    let (broker, _) = scripted_with(&Config { limits: vec![limit], ..plain() }, &[&a], false);
    within("lab", broker.text(&hello())).await.unwrap();
    let error = within("lab", broker.text(&hello())).await.unwrap_err();
    assert_eq!(error.message, "a: the configured limit of requests a minute (namespace=lab) is reached");
    for namespace in ["", "other"] {
        within(namespace, broker.text(&hello())).await.unwrap();
    }
}

#[test]
fn what_is_wrong_with_prices_quotas_and_budgets_is_named() {
    let wrong = |text: &str| {
        let text = format!("[[providers]]\nname = \"a\"\nadapter = \"offline\"\n{text}");
        let config: Config = toml::from_str(&text).unwrap();
        config.violations().into_iter().map(|v| v.field).collect::<Vec<_>>()
    };
    assert_eq!(wrong("[[prices]]\nmodel = \"m*\"\ninput_per_million = \"0.15\""), [""; 0]);
    assert_eq!(wrong("[[prices]]\nmodel = \"m*n\""), ["prices[0].model", "prices[0].input_per_million"]);
    let price = "[[prices]]\nmodel = \"m\"\nper_image = \"1\"\n";
    assert_eq!(wrong(&(price.to_owned() + price)), ["prices[1].model"]);
    assert_eq!(wrong("[[quotas]]\nprovider = \"b\""), ["quotas[0].requests_per_day", "quotas[0].provider"]);
    assert_eq!(wrong("[[quotas]]\nprovider = \"a\"\ntokens_per_hour = 0"), ["quotas[0].tokens_per_hour"]);
    let budget = "[[budgets]]\nnamespace = \"n\"\nusd_per_day = \"0\"\n";
    assert_eq!(
        wrong(&(budget.to_owned() + budget)),
        ["budgets[0].usd_per_day", "budgets[1].usd_per_day", "budgets[1].namespace"]
    );
    let error =
        toml::from_str::<Config>("[[budgets]]\nnamespace = \"n\"\nusd_per_day = \"ten\"").unwrap_err();
    assert!(error.message().contains("`ten` is no amount of dollars"), "{error}");
}
