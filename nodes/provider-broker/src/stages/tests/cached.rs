//! The exact cache.

use super::*;
use crate::config::{Cache, Config, Idempotency, KindCache};
use crate::stages::Cleared;
use callboard_domain::llm::{CacheMode, CacheSource};
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{ProviderRecord, Timestamp};
use std::time::Duration;

fn with(cache: CacheMode) -> TextRequest {
    TextRequest { cache, ..ask("a") }
}

async fn text(stages: &Arc<Stages<Fake>>, request: &TextRequest) -> String {
    stages.text(request).await.unwrap().text
}

#[tokio::test]
async fn the_same_call_gets_the_same_answer_and_is_told_so() {
    let (fake, stages) = stages(&caching());
    let first = stages.text(&ask("a")).await.unwrap();
    assert_eq!((first.text.as_str(), first.summary.from_cache), ("answer 1", None));
    let second = stages.text(&ask("a")).await.unwrap();
    assert_eq!((second.text.as_str(), second.summary.from_cache), ("answer 1", Some(CacheSource::Exact)));
    assert_eq!((second.summary.provider.as_str(), second.summary.attempts.len()), ("main", 0));
    assert_eq!(text(&stages, &ask("b")).await, "answer 2");
    let counts = stages.counts();
    assert_eq!((counts.hits, counts.misses, counts.cached.0, fake.calls()), (1, 2, 2, 2));
}

#[tokio::test]
async fn errors_cached_and_replayed_as_answers() {
    let (fake, stages) = stages(&caching());
    for kind in ErrorKind::ALL {
        fake.then(Err(error(*kind)));
        let keyed = TextRequest { idempotency_key: Some("k".into()), ..ask("a") };
        assert_eq!(stages.text(&keyed).await.unwrap_err().kind, *kind);
    }
    assert_eq!((stages.counts().cached.0, stages.counts().by_key.0), (0, 0));
    let calls = fake.calls();
    assert_eq!(text(&stages, &ask("a")).await, format!("answer {}", calls + 1));
}

#[tokio::test]
async fn only_what_is_whole_and_from_the_first_provider_is_kept() {
    let (fake, stages) = stages(&caching());
    let change = |change: &dyn Fn(&mut TextResponse)| {
        let mut answer = whole("answer");
        change(&mut answer);
        fake.then(Ok(answer));
    };
    change(&|a| a.summary.finish_reason = "length".into());
    change(&|a| a.summary.finish_reason = "content_filter".into());
    change(&|a| a.summary.finish_reason = String::new());
    change(&|a| a.summary.degraded = Some("second answered after main failed".into()));
    change(&|a| a.text.clear());
    for _ in 0..5 {
        stages.text(&ask("a")).await.unwrap();
    }
    assert_eq!((fake.calls(), stages.counts().cached.0), (5, 0));
}

#[tokio::test]
async fn by_default_nothing_is_kept_and_a_call_may_ask_for_it() {
    let (_fake, stages) = stages(&Config::default());
    assert_eq!(text(&stages, &ask("a")).await, "answer 1");
    assert_eq!(text(&stages, &ask("a")).await, "answer 2");
    assert_eq!(text(&stages, &with(CacheMode::On)).await, "answer 3");
    assert_eq!(text(&stages, &with(CacheMode::On)).await, "answer 3");
    assert_eq!(text(&stages, &with(CacheMode::Off)).await, "answer 4");
    assert_eq!(text(&stages, &with(CacheMode::Refresh)).await, "answer 5");
    assert_eq!(text(&stages, &with(CacheMode::On)).await, "answer 5");
    let none = Config { cache: Cache { enabled: true, max_mb: 0, ..Cache::default() }, ..Config::default() };
    let (fake, stages) = self::stages(&none);
    for _ in 0..2 {
        text(&stages, &with(CacheMode::On)).await;
    }
    assert_eq!(fake.calls(), 2, "there is no room for any");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_given_for_its_time_which_is_that_of_its_kind() {
    let kind = KindCache { enabled: true, ttl: Some(Duration::from_secs(7_200)) };
    let kinds = [("long".to_owned(), kind), ("none".to_owned(), KindCache { enabled: false, ttl: None })];
    let cache = Cache { enabled: true, kinds: kinds.into(), ..Cache::default() };
    let (_fake, stages) = stages(&Config { cache, ..Config::default() });
    let long = async |prompt: &str| of("", "long", text(&stages, &ask(prompt))).await;
    assert_eq!(text(&stages, &ask("a")).await, "answer 1");
    assert_eq!(long("b").await, "answer 2");
    tokio::time::advance(Duration::from_secs(3_599)).await;
    assert_eq!(text(&stages, &ask("a")).await, "answer 1");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(text(&stages, &ask("a")).await, "answer 3");
    assert_eq!(long("b").await, "answer 2");
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!(long("b").await, "answer 4");
    for number in 5..7 {
        assert_eq!(of("", "none", text(&stages, &ask("b"))).await, format!("answer {number}"));
    }
}

#[tokio::test]
async fn no_namespace_gets_what_another_has_asked() {
    let (_fake, stages) = stages(&caching());
    assert_eq!(of("x", "", text(&stages, &ask("a"))).await, "answer 1");
    assert_eq!(of("y", "", text(&stages, &ask("a"))).await, "answer 2");
    assert_eq!(of("x", "", text(&stages, &ask("a"))).await, "answer 1");
}

fn clear(stages: &Stages<Fake>, namespace: &str, kind: &str, epoch: u64) {
    let name = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
    let cleared = Cleared { namespace: name(namespace), kind: name(kind) };
    let record = ProviderRecord::new(Subject::of(Topic::Cache, ""), Timestamp::default());
    stages.clear(&cleared, &ProviderRecord { epoch, ..record });
}

#[tokio::test]
async fn it_is_cleared_by_kind_or_as_a_whole() {
    let (_fake, stages) = stages(&caching());
    for kind in ["one", "two"] {
        of("", kind, text(&stages, &ask(kind))).await;
    }
    clear(&stages, "", "one", 1);
    assert_eq!(text(&stages, &ask("two")).await, "answer 2");
    assert_eq!(text(&stages, &ask("one")).await, "answer 3");
    clear(&stages, "", "", 1);
    assert_eq!(text(&stages, &ask("two")).await, "answer 4");
}

#[tokio::test]
async fn it_is_cleared_by_namespace_and_by_kind_in_it() {
    let (fake, stages) = stages(&caching());
    for (namespace, kind) in [("", "k"), ("x", "k"), ("x", "l")] {
        of(namespace, kind, text(&stages, &ask(kind))).await;
    }
    let calls = async || {
        let before = fake.calls();
        for (namespace, kind) in [("", "k"), ("x", "k"), ("x", "l")] {
            of(namespace, kind, text(&stages, &ask(kind))).await;
        }
        fake.calls() - before
    };
    assert_eq!(calls().await, 0);
    clear(&stages, "default", "", 1);
    assert_eq!(stages.counts().cached.0, 2, "its memory is free");
    assert_eq!(calls().await, 1);
    clear(&stages, "x", "l", 1);
    assert_eq!(calls().await, 1);
    clear(&stages, "x", "", 1);
    assert_eq!(calls().await, 2);
    clear(&stages, "y", "", 1);
    assert_eq!(calls().await, 0);
}

/// Whoever asks after a clear gets nothing that was asked for before it: neither by sharing a call, nor from the cache.
#[tokio::test]
async fn what_was_under_way_at_a_clear_is_not_kept_for_those_after_it() {
    let (fake, stages) = gated(&caching());
    let mut calls = begin(&stages, [ask("a")]).await;
    clear(&stages, "", "", 1);
    let mut after = begin(&stages, [ask("a")]).await;
    assert_eq!(fake.open(), 2, "they are two calls");
    fake.gate.add_permits(10);
    let [before, after] = [&mut calls, &mut after].map(|set| set.join_next());
    let (before, after) = (before.await.unwrap().unwrap().unwrap(), after.await.unwrap().unwrap().unwrap());
    assert_ne!(before.text, after.text);
    assert_eq!(text(&stages, &ask("a")).await, after.text);
}

#[tokio::test]
async fn memory_that_grows_for_days() {
    let config = Config {
        cache: Cache { enabled: true, max_mb: 1, ..Cache::default() },
        idempotency: Idempotency { max_mb: 1, ..Idempotency::default() },
        ..Config::default()
    };
    let (fake, stages) = stages(&config);
    let mut most = 0;
    for i in 0..20_000 {
        let (prompt, key) = (format!("prompt {i} {}", "x".repeat(500)), format!("key {i}"));
        stages.text(&TextRequest { idempotency_key: Some(key), ..ask(&prompt) }).await.unwrap();
        if i % 1_000 == 0 {
            let counts = stages.counts();
            most = most.max(counts.cached.1).max(counts.by_key.1);
        }
    }
    let counts = stages.counts();
    assert!(most <= 1 << 20, "{most} bytes");
    assert!(counts.cached.0 > 500 && counts.by_key.0 > 500, "they are used: {counts:?}");
    assert_eq!((fake.calls(), counts.under_way), (20_000, 0));
}
