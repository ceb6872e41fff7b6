//! Limits of ours: what they leave no room for is not sent, and goes elsewhere.

use crate::support::{Act, Buckets, Scripted, deps, hello, openai, outline, plain};
use callboard_domain::llm::{ErrorKind, TextRequest};
use callboard_provider_broker::{Broker, Config, Deps, Limit, Piece, Provider};
use callboard_testkit::FakeProvider;
use futures::TryStreamExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A broker of `a`, with a limit, then `b`.
fn limited(a: &Arc<Scripted>, b: &Arc<Scripted>, limit: Limit) -> Arc<Broker> {
    let limit = Limit { provider: Some("a".into()), burst: Some(Duration::from_secs(60)), ..limit };
    let config = Config { limits: vec![limit], ..plain() };
    let providers = [a, b].map(|provider| provider.clone() as Arc<dyn Provider>);
    Broker::with_providers(&config, providers.into(), &deps().0)
}

#[tokio::test]
async fn past_its_limit_a_provider_is_not_asked_and_the_next_one_answers() {
    let (a, b) = (Scripted::new("a", Act::Answer), Scripted::new("b", Act::Answer));
    let broker = limited(&a, &b, Limit { requests_per_minute: Some(2), ..Limit::default() });
    assert_eq!(broker.limits_left(), [], "nobody has asked yet");
    for left in [0.5, 0.0] {
        assert_eq!(broker.text(&hello()).await.unwrap().text, "text of a");
        assert_eq!(broker.limits_left(), [("requests:a".to_owned(), left)]);
    }
    let answer = broker.text(&hello()).await.unwrap();
    assert_eq!(outline(&answer.summary.attempts), ["a: PROVIDER_RATE_LIMITED", "b"]);
    assert_eq!(a.calls.load(Ordering::SeqCst), 2);
    assert!(broker.providers()[0].failures == 0, "it is not to blame");
    // Nobody else may: the error says which limit, and when there is room.
    let pinned = TextRequest { provider: Some("a".into()), ..hello() };
    let error = broker.text(&pinned).await.unwrap_err();
    assert_eq!(error.message, "a: the configured limit of requests a minute (a) is reached");
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    assert_eq!(a.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_a_call_really_took_counts_streams_too() {
    let (fake, buckets) = (FakeProvider::start().await.unwrap(), Arc::new(Buckets::default()));
    let limit = Limit { provider: Some("a".into()), tokens_per_minute: Some(10_000), ..Limit::default() };
    let config = Config { providers: vec![openai("a", &fake)], limits: vec![limit], ..plain() };
    let broker = Broker::new(&config, &Deps { buckets: buckets.clone(), ..deps().0 }).unwrap();
    let left = || buckets.left("llm:tokens:a");
    let asked = TextRequest { max_tokens: Some(1_000), ..hello() };
    let usage = broker.text(&asked).await.unwrap().summary.usage;
    let took = f64::from(usage.input_tokens + usage.output_tokens);
    assert!(took > 0.0);
    assert_eq!(left(), 10_000.0 - took);
    let mut stream = broker.text_stream(&asked).await.unwrap();
    assert!(left() < 10_000.0 - took - 1_000.0, "what it may take is debited while it runs");
    while let Some(piece) = stream.try_next().await.unwrap() {
        if let Piece::End(summary) = piece {
            assert_eq!(summary.usage, usage);
        }
    }
    assert_eq!(left(), 10_000.0 - 2.0 * took);
    // One that is dropped half-way may be billed in full.
    drop(broker.text_stream(&asked).await.unwrap());
    assert!(left() < 10_000.0 - 2.0 * took - 1_000.0);
}
