//! Frequent answers are kept warm only where nobody is in the way.

use crate::support::{Act, Scripted, deps, hello, plain};
use callboard_domain::Money;
use callboard_domain::llm::{ErrorKind, TextRequest};
use callboard_provider_broker::config::{Breaker, Cache, Policy};
use callboard_provider_broker::{Broker, Budget, Config, Price, Provider, Quota, Said, SwitchState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// With two providers, after a prompt was asked twice, shortly before its answer ends.
#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
async fn due(change: impl FnOnce(&mut Config)) -> (Arc<Scripted>, Arc<Scripted>, Arc<Broker>) {
    let mut config = plain();
    config.cache = Cache {
        enabled: true,
        ttl: Duration::from_secs(100),
        warm_top: 1,
        warm_namespaces: vec!["*".into()],
        ..Cache::default()
    };
    change(&mut config);
    let [a, b] = ["a", "b"].map(|name| Scripted::new(name, Act::Answer));
    let all = [&a, &b].map(|p| Arc::clone(p) as Arc<dyn Provider>).to_vec();
    let broker = Broker::with_providers(&config, all, &deps().0);
    for _ in 0..2 {
        broker.text(&TextRequest { max_tokens: Some(1), ..hello() }).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(95)).await;
    (a, b, broker)
}

fn calls(of: &Scripted) -> u32 {
    of.calls.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_frequent_answer_is_asked_for_anew_of_the_first_provider() {
    let (a, b, broker) = due(|_| {}).await;
    broker.warm().await;
    assert_eq!((calls(&a), calls(&b), broker.stage_counts().warmed), (2, 0, 1));
    broker.warm().await;
    assert_eq!(calls(&a), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_goes_on_to_no_other_provider() {
    let (a, b, broker) = due(|_| {}).await;
    a.set(Act::Fail(ErrorKind::ServerFault));
    broker.warm().await;
    assert_eq!((calls(&a), calls(&b), broker.stage_counts().not_warmed), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_where_a_breaker_is_not_closed_or_the_provider_is_switched_off() {
    let (a, b, broker) = due(|config| {
        config.breaker = Breaker { failures: 1, ..Breaker::default() };
    })
    .await;
    a.set(Act::Fail(ErrorKind::ServerFault));
    broker.text(&TextRequest { temperature: Some(1.0), ..TextRequest::prompt("another") }).await.unwrap();
    let before = (calls(&a), calls(&b));
    broker.warm().await;
    assert_eq!((calls(&a), calls(&b)), before);
    assert_eq!(broker.stage_counts().held, 1);
    let (a, b, broker) = due(|_| {}).await;
    for name in ["a", "b"] {
        broker.switch(name, SwitchState::Disabled, Said::default()).await.unwrap();
    }
    broker.warm().await;
    assert_eq!((calls(&a), calls(&b), broker.stage_counts().held), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_switched_off_keeps_none_of_the_others_from_being_asked() {
    let (a, b, broker) = due(|config| config.routing.policy = Policy::Weighted).await;
    broker.switch("a", SwitchState::Disabled, Said::default()).await.unwrap();
    let before = (calls(&a), calls(&b));
    broker.warm().await;
    assert_eq!((calls(&a), calls(&b)), (before.0, before.1 + 1));
    assert_eq!((broker.stage_counts().warmed, broker.stage_counts().held), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_last_quarter_of_a_quota_or_a_budget_is_for_those_who_wait() {
    for (limit, warmed) in [(4, 0), (8, 1)] {
        let (a, _, broker) = due(|config| {
            let quota = Quota { provider: "a".into(), requests_per_day: Some(limit), ..Quota::default() };
            config.quotas = vec![quota];
        })
        .await;
        // One call for the answer that is kept, and two that are not.
        for prompt in ["b", "c"] {
            broker.text(&TextRequest::prompt(prompt)).await.unwrap();
        }
        broker.warm().await;
        assert_eq!(calls(&a), 3 + warmed, "{limit}");
    }
    // The call costs a dollar for each of its tokens.
    let dear = Money::parse("1000000");
    for (usd, warmed) in [("8", 0), ("100", 1)] {
        let (a, _, broker) = due(|config| {
            let price = Price {
                model: "*".into(),
                input_per_million: dear,
                output_per_million: dear,
                ..Price::default()
            };
            config.prices = vec![price];
            config.budgets =
                vec![Budget { namespace: "default".into(), usd_per_day: Money::parse(usd).unwrap() }];
        })
        .await;
        let spent = broker.budgets()[0].spent.dollars();
        assert!((6.0..8.0).contains(&spent), "{spent}");
        broker.warm().await;
        assert_eq!((calls(&a), broker.stage_counts().held), (1 + warmed, u64::from(1 - warmed)), "{usd}");
    }
}
