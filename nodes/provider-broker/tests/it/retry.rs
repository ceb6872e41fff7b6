//! Calls that are made again at the same provider: few, for what may pass, and never in an outage.

use crate::support::{Act, KEY, Scripted, deps, hello, openai, outline, picture, plain, scripted_with};
use callboard_domain::llm::{ErrorKind, TextRequest};
use callboard_provider_broker::config::{Breaker, Policy, ProviderConfig, Retry, RouteConfig, Target};
use callboard_provider_broker::{Broker, Config, Deps};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::{Fault, Rule};
use futures::TryStreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Retries as they are by default, and no breakers.
fn config() -> Config {
    Config { retry: Retry::default(), ..plain() }
}

/// A fake provider, and a broker that has no other and waits a moment only.
#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
async fn one() -> (FakeProvider, Arc<Broker>) {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let mut config = Config { providers: vec![openai("a", &fake)], ..config() };
    config.retry.backoff = Duration::from_millis(1);
    (fake, Broker::new(&config, &deps().0).unwrap())
}

fn counts(broker: &Broker) -> (u64, u64) {
    let counts = &broker.counts()[0];
    (counts.retries, counts.retries_refused)
}

#[tokio::test]
async fn what_may_pass_is_tried_again_once_and_the_answer_tells_of_every_try() {
    for (fault, reason) in [
        (Fault::Overloaded, "PROVIDER_OVERLOADED"),
        (Fault::ServerFault { status: 500 }, "PROVIDER_SERVER_FAULT"),
        (Fault::ServerFault { status: 408 }, "PROVIDER_TIMEOUT"),
        (Fault::ConnectionReset { after_bytes: 0 }, "PROVIDER_CONNECTION"),
        (Fault::RateLimit { retry_after: Some(0) }, "PROVIDER_RATE_LIMITED"),
    ] {
        let (fake, broker) = one().await;
        let failed = format!("a: {reason}");
        fake.rules([Rule::times(fault.clone(), 1)]);
        let summary = broker.text(&hello()).await.unwrap().summary;
        assert_eq!((outline(&summary.attempts), summary.degraded), (vec![failed.clone(), "a".into()], None));
        fake.rules([Rule::times(fault.clone(), 1)]);
        let image = broker.image(&picture()).await.unwrap().summary;
        assert_eq!(outline(&image.attempts), [failed.as_str(), "a"]);
        fake.rules([Rule::times(fault.clone(), 1)]);
        let stream = broker.text_stream(&hello()).await.unwrap();
        assert!(stream.try_collect::<Vec<_>>().await.is_ok());
        assert_eq!((fake.counts().received, counts(&broker)), (6, (3, 0)), "{fault:?}");
    }
}

#[tokio::test]
async fn what_no_retry_can_mend_is_sent_once() {
    for fault in [
        Fault::Quota,
        Fault::BadKey,
        Fault::ContentFilter,
        Fault::ContextTooLong,
        Fault::MalformedJson,
        Fault::RateLimit { retry_after: None },
        Fault::RateLimit { retry_after: Some(60) },
    ] {
        let (fake, broker) = one().await;
        fake.fault(fault.clone());
        assert_eq!(broker.text(&hello()).await.unwrap_err().attempts.len(), 1, "{fault:?}");
        assert_eq!(fake.counts().received, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn retries_that_bill_twice() {
    // The answer was lost on its way: the call may have been billed. What is sent again has the same key, and is counted.
    let (fake, broker) = one().await;
    fake.rules([Rule::times(Fault::ConnectionReset { after_bytes: 30 }, 1)]);
    let request = TextRequest { idempotency_key: Some("0199/text".into()), ..hello() };
    let summary = broker.text(&request).await.unwrap().summary;
    assert_eq!(outline(&summary.attempts), ["a: PROVIDER_CONNECTION", "a"]);
    let keys: Vec<_> =
        fake.requests().into_iter().map(|request| request.headers["idempotency-key"].clone()).collect();
    assert_eq!((keys, counts(&broker)), (vec!["0199/text".into(); 2], (1, 0)));
    assert_eq!(broker.counts()[0].sent_after_billing, 1);
}

/// A broker whose random numbers are all different.
#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
fn different(providers: Vec<ProviderConfig>, change: impl FnOnce(&mut Config)) -> Arc<Broker> {
    let drawn = AtomicU32::new(1);
    let jitter = Arc::new(move || f64::from(drawn.fetch_add(1, Ordering::SeqCst)) / 1_000_000.0);
    let mut config = Config { providers, ..config() };
    config.retry.backoff = Duration::from_millis(1);
    change(&mut config);
    Broker::new(&config, &Deps { jitter, ..deps().0 }).unwrap()
}

fn keys(fake: &FakeProvider) -> Vec<String> {
    fake.requests().into_iter().map(|request| request.headers["idempotency-key"].clone()).collect()
}

#[tokio::test]
async fn a_call_without_a_key_gets_one_that_is_the_same_each_time_it_is_sent_there() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let broker = different(vec![openai("a", &fake)], |_| ());
    let mut before = Vec::new();
    for times in 1..=2 {
        fake.rules([Rule::times(Fault::ConnectionReset { after_bytes: 0 }, 1)]);
        assert_eq!(broker.text(&hello()).await.unwrap().summary.attempts.len(), 2);
        let all = keys(&fake);
        let (first, again) = (&all[all.len() - 2], &all[all.len() - 1]);
        assert_eq!(first, again);
        assert!(!before.contains(first), "two calls are two");
        before.push(first.clone());
        assert_eq!(broker.counts()[0].sent_after_billing, times);
    }
    // A provider that says that it failed does not bill: its call is sent again, and not counted.
    fake.rules([Rule::times(Fault::Overloaded, 1)]);
    assert_eq!(broker.image(&picture()).await.unwrap().summary.attempts.len(), 2);
    let all = keys(&fake);
    assert_eq!(all[all.len() - 2], all[all.len() - 1]);
    assert_eq!(broker.counts()[0].sent_after_billing, 2);
}

/// It is another request: a provider that heeds keys would refuse it, or give the answer of the first.
#[tokio::test]
async fn another_model_of_the_same_provider_gets_another_key() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let target = |model: &str| Target {
        provider: "a".into(),
        model: Some(model.into()),
        weight: 1,
        context_tokens: None,
    };
    let targets = vec![target("x"), target("y")];
    let route = RouteConfig { name: "fast".into(), policy: Some(Policy::Priority), providers: targets };
    let broker = different(vec![openai("a", &fake)], |config| config.routes = vec![route]);
    fake.rules([Rule::times(Fault::ConnectionReset { after_bytes: 0 }, 1)]);
    broker.text(&TextRequest { model: Some("fast".into()), ..hello() }).await.unwrap();
    let keys = keys(&fake);
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn another_provider_gets_another_key_and_the_first_is_counted() {
    let bad = FakeProvider::builder().key(KEY).start().await.unwrap();
    let good = FakeProvider::builder().key(KEY).start().await.unwrap();
    let broker = different(vec![openai("bad", &bad), openai("good", &good)], |_| ());
    bad.fault(Fault::ConnectionReset { after_bytes: 0 });
    let summary = broker.text(&hello()).await.unwrap().summary;
    assert_eq!(outline(&summary.attempts), ["bad: PROVIDER_CONNECTION", "good"]);
    assert_ne!(keys(&bad), keys(&good));
    let counted = |broker: &Broker| broker.counts().iter().map(|c| c.sent_after_billing).collect::<Vec<_>>();
    assert_eq!(counted(&broker), [1, 0]);
    // Nobody is there: nothing was sent, so nothing can have been billed.
    let nowhere =
        ProviderConfig { base_url: Some("http://127.0.0.1:1/v1".into()), ..openai("nowhere", &good) };
    let broker = different(vec![nowhere, openai("good", &good)], |_| ());
    let summary = broker.text(&hello()).await.unwrap().summary;
    assert_eq!(outline(&summary.attempts), ["nowhere: PROVIDER_CONNECTION", "good"]);
    assert_eq!(counted(&broker), [0, 0]);
}

#[tokio::test]
async fn with_retries_off_a_connection_closed_in_the_middle_is_sent_once() {
    let fake = FakeProvider::start().await.unwrap();
    let broker = Broker::new(&Config { providers: vec![openai("a", &fake)], ..plain() }, &deps().0).unwrap();
    for after_bytes in [0, 30, 250] {
        let before = fake.counts().received;
        fake.fault(Fault::ConnectionReset { after_bytes });
        assert_eq!(broker.text(&hello()).await.unwrap_err().kind, ErrorKind::Connection);
        assert_eq!(fake.counts().received - before, 1, "{after_bytes}");
    }
}

#[tokio::test]
async fn a_stream_that_has_begun_is_not_made_again() {
    let (fake, broker) = one().await;
    fake.fault(Fault::StreamCut { after_chunks: 1 });
    let stream = broker.text_stream(&hello()).await.unwrap();
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!((error.kind, fake.counts().received), (ErrorKind::Connection, 1));
}

#[tokio::test]
async fn another_provider_is_preferred_to_a_retry_and_the_last_one_is_tried_again() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::Overloaded));
    let b = Scripted::new("b", Act::Fail(ErrorKind::ServerFault));
    let mut config = Config { breaker: Breaker::default(), ..config() };
    config.retry.backoff = Duration::from_millis(1);
    let (broker, _) = scripted_with(&config, &[&a, &b], false);
    let error = broker.text(&hello()).await.unwrap_err();
    let [of_a, of_b] = ["a: PROVIDER_OVERLOADED", "b: PROVIDER_SERVER_FAULT"];
    assert_eq!(outline(&error.attempts), [of_a, of_b, of_b]);
    // Once the second is left out, the first is the last.
    b.set(Act::Fail(ErrorKind::QuotaExceeded));
    broker.text(&hello()).await.unwrap_err();
    let error = broker.text(&hello()).await.unwrap_err();
    assert_eq!(outline(&error.attempts), [of_a, of_a]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_is_asked_and_fits_into_the_time_of_the_call() {
    let a = Scripted::new("a", Act::Limit(Duration::from_secs(3)));
    let config = Config { breaker: Breaker::default(), ..config() };
    let (broker, _) = scripted_with(&config, &[&a], false);
    let start = Instant::now();
    assert_eq!(broker.text(&hello()).await.unwrap_err().attempts.len(), 2);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    tokio::time::advance(Duration::from_secs(3)).await;
    // Three seconds of a call of three are too much.
    let request = TextRequest { timeout: Some(Duration::from_secs(3)), ..hello() };
    let start = Instant::now();
    assert_eq!(broker.text(&request).await.unwrap_err().attempts.len(), 1);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(counts(&broker), (1, 0), "what does not fit takes nothing from the budget");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_opened_the_breaker_is_not_made_again() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::ServerFault));
    let mut config = Config { breaker: Breaker::default(), ..config() };
    config.retry.max = 10;
    let (broker, _) = scripted_with(&config, &[&a], false);
    assert_eq!(broker.text(&hello()).await.unwrap_err().attempts.len(), 4, "by three retries of the budget");
    assert_eq!(broker.text(&hello()).await.unwrap_err().attempts.len(), 1);
    assert_eq!(a.calls.load(Ordering::SeqCst), 5);
    assert_eq!(broker.text(&hello()).await.unwrap_err().attempts.len(), 0);
}

#[tokio::test]
async fn in_an_outage_retries_stop_at_their_budget() {
    let (fake, broker) = one().await;
    fake.fault(Fault::Overloaded);
    for _ in 0..500 {
        broker.text(&hello()).await.unwrap_err();
    }
    let (made, refused) = counts(&broker);
    assert_eq!(fake.counts().received, 500 + made);
    assert_eq!(made + refused, 500);
    // It would be 500, each doubling the load.
    assert!((3..=53).contains(&made), "{made}");
}
