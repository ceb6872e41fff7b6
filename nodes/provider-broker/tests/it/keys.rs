//! Several keys of one provider: who is used, who is left out, and what that says.

use crate::support::{DEADLINE, deps, hello, openai, outline, plain};
use callboard_domain::llm::{ErrorKind, ProviderAttempt, TextRequest};
use callboard_provider_broker::config::{Breaker, KeyConfig, ProviderConfig, Retry};
use callboard_provider_broker::{BreakerState, Broker, Config, Deps, Limit, Piece};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::{Fault, Rule};
use futures::TryStreamExt;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The value of a key that the environment holds under this name.
fn secret(name: &str) -> String {
    format!("geheim-{name}")
}

pub(crate) fn key(name: &str) -> KeyConfig {
    KeyConfig { id: Some(name.to_lowercase()), env: Some(name.into()), ..KeyConfig::default() }
}

/// A fake provider behind several keys, each in the environment under its own name.
pub(crate) fn keyed(name: &str, fake: &FakeProvider, keys: &[&str]) -> ProviderConfig {
    ProviderConfig {
        api_key_env: None,
        keys: keys.iter().map(|name| key(name)).collect(),
        ..openai(name, fake)
    }
}

#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
pub(crate) fn broker(config: &Config) -> Arc<Broker> {
    let env = Arc::new(|name: &str| Some(secret(name)));
    Broker::new(config, &Deps { env, ..deps().0 }).unwrap()
}

/// How many requests came over each key.
pub(crate) fn used(fake: &FakeProvider) -> BTreeMap<String, usize> {
    let mut used = BTreeMap::new();
    for request in fake.requests() {
        let key = request.headers.get("authorization").or(request.headers.get("x-api-key"));
        let key = key.map(|key| key.trim_start_matches("Bearer geheim-").to_owned()).unwrap_or_default();
        *used.entry(key).or_default() += 1;
    }
    used
}

fn counts(list: &[(&str, usize)]) -> BTreeMap<String, usize> {
    list.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
}

/// The attempts as `provider/key`, with the reason if they failed.
fn ways(attempts: &[ProviderAttempt]) -> Vec<String> {
    let of = |a: &ProviderAttempt| match &a.error {
        Some((kind, _)) => format!("{}/{}: {}", a.provider, a.key, kind.reason()),
        None => format!("{}/{}", a.provider, a.key),
    };
    attempts.iter().map(of).collect()
}

/// The defaults, without retries. Calls that ask the same are several here.
fn once() -> Config {
    Config { retry: Retry { max: 0, ..Retry::default() }, single_flight: false, ..Config::default() }
}

#[tokio::test]
async fn calls_are_shared_out_by_weight_and_say_which_key_was_used() {
    let fake = FakeProvider::builder().key(secret("A")).key(secret("B")).start().await.unwrap();
    let mut provider = keyed("main", &fake, &["A", "B"]);
    provider.keys[1].weight = 3;
    let broker = broker(&Config { providers: vec![provider], ..plain() });
    for _ in 0..40 {
        let summary = broker.text(&hello()).await.unwrap().summary;
        assert_eq!(summary.attempts[0].key, summary.key);
        assert!(["a", "b"].contains(&summary.key.as_str()));
    }
    assert_eq!(used(&fake), counts(&[("A", 10), ("B", 30)]));
    let pieces: Vec<_> = broker.text_stream(&hello()).await.unwrap().try_collect().await.unwrap();
    let said = pieces.iter().filter_map(|piece| match piece {
        Piece::Begin(summary) | Piece::End(summary) => Some(summary.key.as_str()),
        Piece::Delta(_) | Piece::ToolCall(_) => None,
    });
    assert_eq!(said.collect::<Vec<_>>().len(), 2);
    let status = &broker.providers()[0];
    assert!(status.description.has_key && !format!("{status:?}{broker:?}").contains("geheim"));
    let keys: Vec<_> = status.keys.iter().map(|key| (key.id.as_str(), key.weight, key.in_flight)).collect();
    assert_eq!(keys, [("a", 1, 0), ("b", 3, 0)]);
}

#[tokio::test]
async fn a_single_key_in_the_short_form_has_a_name_too() {
    let fake = FakeProvider::start().await.unwrap();
    let broker = broker(&Config { providers: vec![openai("main", &fake)], ..once() });
    assert_eq!(broker.text(&hello()).await.unwrap().summary.key, "key-1");
    // Its messages name the provider alone.
    fake.fault(Fault::Quota);
    let error = broker.text(&hello()).await.unwrap_err();
    assert_eq!(ways(&error.attempts), ["main/key-1: PROVIDER_QUOTA_EXCEEDED"]);
    assert!(error.message.starts_with("main: 429"), "{error}");
    let error = broker.text(&hello()).await.unwrap_err();
    assert!(error.message.contains("main: left out for another 300s"), "{error}");
    assert_eq!(broker.counts()[0].breaker, BreakerState::Open);
}

/// "403/429 without failover"
#[tokio::test]
async fn a_401_403_or_429_of_one_key_fails_over_to_the_next_key_before_the_next_provider() {
    let forbidden = Fault::Raw { status: 403, content_type: "text/plain".into(), body: b"no".into() };
    for (fault, reason, left_out) in [
        (Fault::BadKey, "PROVIDER_AUTHENTICATION", true),
        (forbidden, "PROVIDER_AUTHENTICATION", true),
        (Fault::Quota, "PROVIDER_QUOTA_EXCEEDED", true),
        (Fault::RateLimit { retry_after: Some(7) }, "PROVIDER_RATE_LIMITED", true),
        // Without a wait it is one of several that leave the key out.
        (Fault::RateLimit { retry_after: None }, "PROVIDER_RATE_LIMITED", false),
    ] {
        let (fake, other) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
        let providers = vec![keyed("main", &fake, &["A", "B"]), openai("other", &other)];
        let broker = broker(&Config { providers, ..once() });
        fake.rules([Rule::standing(fault.clone()).with_key(secret("A"))]);
        let first = broker.text(&hello()).await.unwrap().summary;
        assert_eq!(ways(&first.attempts), [format!("main/a: {reason}").as_str(), "main/b"], "{fault:?}");
        assert_eq!((first.degraded, first.key.as_str()), (None, "b"), "it is the first provider's answer");
        for _ in 0..10 {
            broker.text(&hello()).await.unwrap();
        }
        let over_a = used(&fake)["A"];
        assert!(if left_out { over_a == 1 } else { over_a == 5 }, "{over_a} {fault:?}");
        assert_eq!(other.counts().received, 0, "{fault:?}");
        // The provider is well: it is its key that is left out.
        assert_eq!(broker.counts()[0].breaker, BreakerState::Closed);
        let keys = &broker.providers()[0].keys;
        let kind = ErrorKind::from_reason(reason);
        assert_eq!((keys[0].state, keys[0].cause), (BreakerState::Open, kind));
        assert_eq!((keys[1].state, keys[1].cause), (BreakerState::Closed, None));
    }
}

/// "a hard quota retried with backoff instead of failing over"
#[tokio::test]
async fn a_hard_quota_is_not_retried_with_backoff_but_goes_to_the_next_key_at_once() {
    let fake = FakeProvider::start().await.unwrap();
    let retry = Retry { max: 5, backoff: Duration::from_secs(60), ..Retry::default() };
    let config = Config { providers: vec![keyed("main", &fake, &["A", "B"])], retry, ..Config::default() };
    let broker = broker(&config);
    fake.rules([Rule::standing(Fault::Quota).with_key(secret("A"))]);
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(broker.text(&hello()).await.unwrap().summary.key, "b");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "nobody waited");
    assert_eq!(used(&fake), counts(&[("A", 1), ("B", 10)]));
    assert_eq!(broker.counts()[0].retries, 0);
    // With the second one's spent, too, the call fails at once and says of both when they are tried again.
    fake.fault(Fault::Quota);
    let error = broker.text(&hello()).await.unwrap_err();
    assert_eq!(ways(&error.attempts), ["main/b: PROVIDER_QUOTA_EXCEEDED"]);
    assert!(error.message.contains("main with a: left out for another"), "{error}");
    let error = broker.text(&hello()).await.unwrap_err();
    assert_eq!((error.kind, error.attempts.len()), (ErrorKind::QuotaExceeded, 0));
    assert!(error.message.contains("main with a: left") && error.message.contains("main with b: left"));
    assert_eq!(broker.counts()[0].breaker, BreakerState::Open);
    assert_eq!(used(&fake), counts(&[("A", 1), ("B", 11)]));
}

#[tokio::test]
async fn faults_of_the_server_open_the_breaker_whichever_key_was_used() {
    let (fake, other) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    let providers = vec![keyed("main", &fake, &["A", "B", "C"]), openai("other", &other)];
    let broker = broker(&Config { providers, ..once() });
    fake.fault(Fault::ServerFault { status: 500 });
    for _ in 0..20 {
        assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "other");
    }
    assert_eq!(fake.counts().received, 5, "not five for each key");
    assert_eq!(used(&fake).len(), 3);
    let status = &broker.providers()[0];
    let breakers: Vec<_> = status.breakers.iter().map(|b| (b.key.as_str(), b.state)).collect();
    assert_eq!(breakers, [("", BreakerState::Open)]);
    assert!(status.keys.iter().all(|key| key.state == BreakerState::Closed));
}

#[tokio::test]
async fn a_key_that_fails_for_one_model_is_used_for_another() {
    let fake = FakeProvider::start().await.unwrap();
    let broker = broker(&Config { providers: vec![keyed("main", &fake, &["A", "B"])], ..once() });
    fake.rules([Rule::times(Fault::Quota, 1).with_key(secret("A"))]);
    broker.text(&hello()).await.unwrap();
    let other = TextRequest { model: Some("other".into()), ..hello() };
    for _ in 0..4 {
        broker.text(&hello()).await.unwrap();
        broker.text(&other).await.unwrap();
    }
    assert_eq!(used(&fake), counts(&[("A", 1 + 2), ("B", 1 + 4 + 2)]));
}

/// "no limit on calls in flight per key"
#[tokio::test]
async fn no_more_calls_are_in_flight_per_key_than_it_may_have() {
    let (fake, other) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    let mut provider = keyed("main", &fake, &["A", "B"]);
    provider.keys[0].max_in_flight = Some(1);
    provider.keys[1].max_in_flight = Some(2);
    let broker = broker(&Config { providers: vec![provider, openai("other", &other)], ..once() });
    fake.fault(Fault::Hang);
    let request = hello();
    let mut hanging: Vec<_> = (0..3).map(|_| Box::pin(broker.text(&request))).collect();
    for (n, call) in hanging.iter_mut().enumerate() {
        tokio::select! {
            _ = call => panic!("answered"),
            begun = fake.wait(|c| c.received == n as u64 + 1, DEADLINE) => { begun.unwrap(); }
        }
    }
    assert_eq!(used(&fake), counts(&[("A", 1), ("B", 2)]));
    let keys = broker.providers().remove(0).keys;
    let places: Vec<_> = keys.iter().map(|key| (key.in_flight, key.max_in_flight)).collect();
    assert_eq!(places, [(1, Some(1)), (2, Some(2))]);
    // One more goes elsewhere, and says why. Nobody is to blame.
    let answer = broker.text(&request).await.unwrap().summary;
    let busy = ["main: PROVIDER_RATE_LIMITED", "main: PROVIDER_RATE_LIMITED", "other"];
    assert_eq!(outline(&answer.attempts), busy);
    assert_eq!((fake.counts().received, broker.counts()[0].breaker), (3, BreakerState::Closed));
    let pinned = TextRequest { provider: Some("main".into()), ..hello() };
    // Where nobody else is, it waits for a place while it has time.
    let short = TextRequest { timeout: Some(Duration::from_millis(50)), ..pinned.clone() };
    let error = broker.text(&short).await.unwrap_err();
    let says = "main with b: as many calls as may be are over this key at once (max_in_flight = 2)";
    assert!(error.message.contains(says) && error.kind == ErrorKind::RateLimited, "{error}");
    // A call that is over, or given up, leaves its place. A stream has one until its end.
    drop(hanging);
    fake.heal();
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(broker.text_stream(&pinned).await.unwrap());
    }
    assert!(broker.text(&short).await.is_err());
    for stream in streams {
        stream.try_collect::<Vec<_>>().await.unwrap();
    }
    assert!(broker.text(&pinned).await.is_ok());
    assert!(broker.providers()[0].keys.iter().all(|key| key.in_flight == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_else_is_calls_wait_for_a_place_and_all_are_answered() {
    let fake = FakeProvider::start().await.unwrap();
    let mut provider = keyed("main", &fake, &["A", "B"]);
    provider.keys.iter_mut().for_each(|key| key.max_in_flight = Some(1));
    let broker = broker(&Config { providers: vec![provider], ..once() });
    fake.fault(Fault::Delay { ms: 5 });
    let request = hello();
    let (done, mut most) = (std::sync::atomic::AtomicBool::new(false), 0);
    let calls = async {
        let answers = futures::future::join_all((0..20).map(|_| broker.text(&request))).await;
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        answers
    };
    let watch = async {
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            most = broker.providers()[0].keys.iter().map(|key| key.in_flight).max().max(Some(most)).unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (answers, ()) = futures::future::join(calls, watch).await;
    assert!(answers.iter().all(Result::is_ok));
    let summaries = answers.into_iter().map(|answer| answer.unwrap().summary);
    assert!(summaries.into_iter().all(|summary| summary.attempts.len() == 1 && summary.degraded.is_none()));
    assert_eq!((most, fake.counts().received), (1, 20));
    let used = used(&fake);
    assert!(used["A"] >= 5 && used["B"] >= 5, "{used:?}");
}

#[tokio::test]
async fn a_limit_of_one_key_sends_calls_over_the_others() {
    let fake = FakeProvider::start().await.unwrap();
    let limit = Limit {
        provider: Some("main".into()),
        key: Some("a".into()),
        requests_per_minute: Some(2),
        burst: Some(Duration::from_secs(60)),
        ..Limit::default()
    };
    let providers = vec![keyed("main", &fake, &["A", "B"])];
    let broker = broker(&Config { providers, limits: vec![limit], ..plain() });
    for _ in 0..10 {
        broker.text(&hello()).await.unwrap();
    }
    assert_eq!(used(&fake), counts(&[("A", 2), ("B", 8)]));
}

/// A file with a key, deleted with this.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("callboard-{name}-{}", std::process::id()));
        let file = Self(path);
        file.write("geheim-1");
        file
    }

    #[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
    fn write(&self, key: &str) {
        std::fs::write(&self.0, format!("{key}\n")).unwrap();
    }

    fn config(&self, fake: &FakeProvider) -> Config {
        let key = KeyConfig { file: Some(self.0.clone()), ..KeyConfig::default() };
        let provider = ProviderConfig { api_key_env: None, keys: vec![key], ..openai("main", fake) };
        Config { providers: vec![provider], ..once() }
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_key_that_is_rejected_is_read_again_and_the_call_is_made_with_the_new_one() {
    let (fake, file) =
        (FakeProvider::builder().key("geheim-1").start().await.unwrap(), KeyFile::new("renewed"));
    let broker = broker(&file.config(&fake));
    broker.text(&hello()).await.unwrap();
    file.write("geheim-2");
    fake.keys(["geheim-2"]);
    let answer = broker.text(&hello()).await.unwrap().summary;
    assert_eq!(ways(&answer.attempts), ["main/key-1: PROVIDER_AUTHENTICATION", "main/key-1"]);
    assert_eq!(used(&fake), counts(&[("1", 2), ("2", 1)]));
    assert_eq!(broker.counts()[0].breaker, BreakerState::Closed);
    // With a new one that is as bad, it is tried once more and not for ever.
    file.write("geheim-3");
    fake.keys(["geheim-4"]);
    let error = broker.text(&hello()).await.unwrap_err();
    assert_eq!((error.kind, error.attempts.len()), (ErrorKind::Authentication, 2));
    assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
    assert_eq!(broker.counts()[0].breaker, BreakerState::Open);
}

#[tokio::test]
async fn a_key_that_was_left_out_works_again_at_once_when_its_file_has_another() {
    let (fake, file) =
        (FakeProvider::builder().key("geheim-2").start().await.unwrap(), KeyFile::new("rotated"));
    let broker = broker(&file.config(&fake));
    assert_eq!(broker.text(&hello()).await.unwrap_err().kind, ErrorKind::Authentication);
    assert_eq!(broker.text(&hello()).await.unwrap_err().attempts.len(), 0, "left out for five minutes");
    // What is no key changes nothing.
    file.write("two words");
    file.write("geheim-2");
    let answered = async { while broker.text(&hello()).await.is_err() {} };
    tokio::time::timeout(DEADLINE, answered).await.unwrap();
    assert_eq!(used(&fake), counts(&[("1", 1), ("2", 1)]), "it was not tried in between");
    assert_eq!(broker.providers()[0].keys[0].state, BreakerState::Closed);
}

#[test]
fn every_wrong_field_of_a_key_is_named() {
    let provider = |keys: Vec<KeyConfig>| ProviderConfig {
        keys,
        ..ProviderConfig::openai("a", "http://127.0.0.1:1/v1")
    };
    let wrong = provider(vec![
        KeyConfig { id: Some("A B".into()), ..key("A") },
        KeyConfig { id: None, ..key("B") },
        KeyConfig { id: Some("key-2".into()), ..key("C") },
        KeyConfig { env: None, weight: 0, ..key("D") },
        KeyConfig { file: Some("f".into()), max_in_flight: Some(0), ..key("E") },
    ]);
    let beside =
        ProviderConfig { api_key_env: Some("F".into()), name: "b".into(), ..provider(vec![key("F")]) };
    let many =
        ProviderConfig { name: "c".into(), ..provider((0..33).map(|n| key(&format!("K{n}"))).collect()) };
    let limit = |provider: Option<&str>, key: &str| Limit {
        provider: provider.map(Into::into),
        key: Some(key.into()),
        requests_per_minute: Some(1),
        ..Limit::default()
    };
    let limits = vec![limit(Some("a"), "d"), limit(Some("a"), "none"), limit(None, "d")];
    let config = Config { providers: vec![wrong, beside, many], limits, ..Config::default() };
    let fields: Vec<_> = config.violations().into_iter().map(|v| v.field).collect();
    assert_eq!(
        fields,
        [
            "providers[0].keys[0].id",
            "providers[0].keys[2].id",
            "providers[0].keys[3].env",
            "providers[0].keys[3].weight",
            "providers[0].keys[4].file",
            "providers[0].keys[4].max_in_flight",
            "providers[1].keys",
            "providers[2].keys",
            "limits[1].key",
            "limits[2].key",
        ]
    );
    let unset = Config { providers: vec![provider(vec![key("A"), key("B")])], ..Config::default() };
    let env = Arc::new(|name: &str| (name == "A").then(|| "k".to_owned()));
    let error = Broker::new(&unset, &Deps { env, ..deps().0 }).unwrap_err();
    assert_eq!(error.violations[0].field, "providers[0].keys[1].env");
}

#[tokio::test]
async fn a_key_that_is_tried_again_takes_one_call_and_the_others_go_over_the_other_keys() {
    let fake = FakeProvider::start().await.unwrap();
    let cool_down = Duration::from_millis(1);
    let breaker = Breaker { cool_down, hard_cool_down: cool_down, ..Breaker::default() };
    let providers = vec![keyed("main", &fake, &["A", "B"])];
    let broker = broker(&Config { providers, breaker, ..once() });
    fake.rules([Rule::times(Fault::Quota, 1).with_key(secret("A"))]);
    broker.text(&hello()).await.unwrap();
    let half_open = async {
        while broker.providers()[0].keys[0].state != BreakerState::HalfOpen {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, half_open).await.unwrap();
    fake.rules([Rule::standing(Fault::Hang).with_key(secret("A"))]);
    let request = hello();
    let (mut probe, mut over_b) = (None, 0);
    for _ in 0..4 {
        let before = fake.counts().received;
        let mut call = Box::pin(broker.text(&request));
        tokio::select! {
            answer = &mut call => { answer.unwrap(); over_b += 1; }
            begun = fake.wait(|c| c.received > before && c.in_flight == 1 && probe.is_none(), DEADLINE) => {
                begun.unwrap();
                if used(&fake)["A"] == 2 { probe = Some(call) } else { call.await.unwrap(); over_b += 1 }
            }
        }
    }
    assert_eq!((probe.is_some(), over_b, used(&fake)["A"]), (true, 3, 2));
}
