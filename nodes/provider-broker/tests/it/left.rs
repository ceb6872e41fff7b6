//! What providers say in their headers is left: no call is sent that they have said they will refuse.

use crate::adapters::provider;
use crate::keys::{broker, keyed, used};
use crate::support::{DEADLINE, hello, openai, outline, plain};
use callboard_domain::llm::{ErrorKind, TextRequest};
use callboard_provider_broker::config::{Adapter, ProviderConfig};
use callboard_provider_broker::{BreakerState, Config};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::Allowance;
use futures::TryStreamExt;
use std::time::Duration;

fn allow(requests: u64, seconds: u64) -> Allowance {
    Allowance { requests, window: Duration::from_secs(seconds) }
}

#[tokio::test]
async fn no_call_is_sent_that_the_provider_has_said_it_will_refuse() {
    for adapter in [Adapter::OpenAi, Adapter::Anthropic] {
        let (fake, other) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
        fake.allow(allow(3, 50));
        let main = match adapter {
            Adapter::OpenAi => openai("main", &fake),
            other => provider("main", other, &fake),
        };
        // No limit is configured, and no breaker either.
        let broker = broker(&Config { providers: vec![main, openai("other", &other)], ..plain() });
        for n in 0..10 {
            // Streams say it, too.
            if n == 1 {
                broker.text_stream(&hello()).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
            } else {
                let summary = broker.text(&hello()).await.unwrap().summary;
                assert_eq!(summary.provider, if n < 3 { "main" } else { "other" }, "{adapter:?} {n}");
            }
        }
        assert_eq!((fake.counts().received, fake.refused()), (3, 0), "{adapter:?}");
        let counts = &broker.counts()[0];
        assert_eq!((counts.successes, counts.breaker), (3, BreakerState::Closed));
        // Nobody else may: the call says until when, and nothing is sent.
        let pinned = TextRequest { provider: Some("main".into()), ..hello() };
        let error = broker.text(&pinned).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::RateLimited);
        let says = "main: the provider has said that no requests are left for another";
        assert!(error.message.starts_with(says), "{error}");
        let wait = error.retry_after.unwrap();
        assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(52), "{wait:?}");
        assert_eq!(fake.counts().received, 3);
        // Another model has limits of its own.
        let another = TextRequest { model: Some("another".into()), ..hello() };
        assert_eq!(broker.text(&another).await.unwrap().summary.provider, "main");
        let spent = &broker.providers()[0].keys[0].spent;
        assert_eq!((spent.len(), spent[0].0.as_str()), (1, "fake-text"));
    }
}

#[tokio::test]
async fn each_key_has_what_the_provider_said_is_left_of_it() {
    let (fake, other) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    fake.allow(allow(2, 50));
    let providers = vec![keyed("main", &fake, &["A", "B", "C"]), openai("other", &other)];
    let broker = broker(&Config { providers, ..Config::default() });
    for _ in 0..20 {
        broker.text(&hello()).await.unwrap();
    }
    assert_eq!((used(&fake).into_values().collect::<Vec<_>>(), fake.refused()), (vec![2, 2, 2], 0));
    assert_eq!(other.counts().received, 14);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_calls_at_once_as_many_are_sent_as_are_left() {
    let (fake, other) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    fake.allow(allow(20, 50));
    let broker =
        broker(&Config { providers: vec![openai("main", &fake), openai("other", &other)], ..plain() });
    broker.text(&hello()).await.unwrap();
    let request = hello();
    let answers = futures::future::join_all((0..64).map(|_| broker.text(&request))).await;
    assert!(answers.iter().all(Result::is_ok));
    // Those that overtake each other on their way may leave a few unused until the reset.
    let received = fake.counts().received;
    assert!(fake.refused() == 0 && (10..=20).contains(&received), "{} of {received}", fake.refused());
}

#[tokio::test]
async fn after_the_reset_calls_go_through_again() {
    let (fake, other) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    fake.allow(allow(1, 1));
    let broker =
        broker(&Config { providers: vec![openai("main", &fake), openai("other", &other)], ..plain() });
    broker.text(&hello()).await.unwrap();
    let elsewhere = broker.text(&hello()).await.unwrap().summary;
    assert_eq!(outline(&elsewhere.attempts), ["main: PROVIDER_RATE_LIMITED", "other"]);
    let again = async { while broker.text(&hello()).await.unwrap().summary.provider != "main" {} };
    tokio::time::timeout(DEADLINE, again).await.unwrap();
    assert_eq!((fake.counts().received, fake.refused()), (2, 0));
}

#[tokio::test]
async fn a_provider_without_a_key_is_believed_as_well() {
    let (fake, other) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    fake.allow(allow(2, 50));
    let keyless = ProviderConfig { api_key_env: None, ..openai("main", &fake) };
    let broker = broker(&Config { providers: vec![keyless, openai("other", &other)], ..plain() });
    for _ in 0..5 {
        assert_eq!(broker.text(&hello()).await.unwrap().summary.attempts.last().unwrap().error, None);
    }
    assert_eq!((fake.counts().received, fake.refused()), (2, 0));
    assert_eq!(broker.providers()[0].keys, []);
}
