//! Answers that nodes share.

use super::*;
use crate::config::ProviderConfig;
use crate::stages::Cleared;
use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::llm::{CacheSource, Trial};
use callboard_domain::provider_record::{Subject, Topic};
use callboard_domain::{ProviderRecord, Timestamp};
use callboard_ports::answers::{self, Answers};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// What nodes share, or a service that hangs.
#[derive(Default)]
pub(super) struct Shared {
    kept: Mutex<HashMap<String, Bytes>>,
    hangs: bool,
    calls: AtomicU32,
}

#[async_trait]
impl Answers for Shared {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, answers::Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(self.kept.lock().unwrap().get(key).cloned())
    }

    async fn put(&self, key: &str, answer: Bytes, _: Duration) -> Result<(), answers::Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.kept.lock().unwrap().insert(key.to_owned(), answer);
        Ok(())
    }

    async fn put_first(
        &self,
        key: &str,
        answer: Bytes,
        _: Duration,
    ) -> Result<Option<Bytes>, answers::Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let mut kept = self.kept.lock().unwrap();
        let (first, sent) = (kept.get(key).cloned(), answer.clone());
        kept.entry(key.to_owned()).or_insert(answer);
        Ok(first.filter(|first| *first != sent))
    }
}

/// A node of a cluster.
fn node(config: &Config, shared: &Arc<Shared>) -> (Arc<Fake>, Arc<Stages<Fake>>) {
    let (fake, _) = stages(config);
    let stages = Stages::new(Arc::clone(&fake), config, Some(shared.clone()), alone());
    stages.clears_are_known();
    (fake, stages)
}

fn keyed(prompt: &str) -> TextRequest {
    TextRequest { idempotency_key: Some("k".into()), ..ask(prompt) }
}

/// Its nodes are restarted one after the other with another model, and an experiment's shares may change at any time.
#[tokio::test]
async fn a_key_stands_for_its_request_with_another_model_and_in_another_arm() {
    let shared = Arc::default();
    let with = |model: &str| {
        let provider =
            ProviderConfig { text_model: Some(model.into()), ..ProviderConfig::openai("main", "http://x") };
        Config { providers: vec![provider], ..Config::default() }
    };
    let ((_, one), (other, two)) = (node(&with("old"), &shared), node(&with("new"), &shared));
    let arm = |arm: &str| TextRequest {
        model: Some(format!("the model of {arm}")),
        trial: Some(Trial { experiment: "e".into(), arm: arm.into() }),
        ..keyed("a")
    };
    let first = one.text(&arm("a")).await.unwrap().text;
    assert_eq!(one.text(&arm("b")).await.unwrap().text, first);
    assert_eq!(two.text(&arm("b")).await.unwrap().text, first);
    assert_eq!(
        two.text(&TextRequest { model: Some("m".into()), ..keyed("a") }).await.unwrap_err().kind,
        ErrorKind::InvalidRequest
    );
    assert_eq!(other.calls(), 0);
}

#[tokio::test]
async fn a_task_that_runs_again_on_another_node_is_not_paid_for_twice() {
    let shared = Arc::default();
    let ((_, one), (other, two)) = (node(&Config::default(), &shared), node(&Config::default(), &shared));
    let first = one.text(&keyed("a")).await.unwrap();
    let second = two.text(&keyed("a")).await.unwrap();
    assert_eq!((second.text, second.summary.from_cache), (first.text, Some(CacheSource::Replayed)));
    assert_eq!(second.summary.usage, first.summary.usage);
    assert_eq!(two.text(&keyed("b")).await.unwrap_err().kind, ErrorKind::InvalidRequest);
    assert_eq!(other.calls(), 0);
    let (_, three) = node(&Config::default(), &shared);
    let pieces: Vec<_> = three.text_stream(&keyed("a")).await.unwrap().collect().await;
    assert!(matches!(&pieces[1], Ok(Piece::Delta(text)) if text == "answer 1"), "{pieces:?}");
}

#[tokio::test]
async fn nodes_share_the_exact_cache_and_nothing_else_is_asked_there() {
    let shared = Arc::default();
    let ((_, one), (other, two)) = (node(&caching(), &shared), node(&caching(), &shared));
    assert_eq!(one.text(&ask("a")).await.unwrap().text, "answer 1");
    let answer = two.text(&ask("a")).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.summary.from_cache), ("answer 1", Some(CacheSource::Exact)));
    assert_eq!((other.calls(), two.counts().hits, two.counts().misses), (0, 1, 0));
    let calls = shared.calls.load(Ordering::SeqCst);
    two.text(&ask("a")).await.unwrap();
    assert_eq!(shared.calls.load(Ordering::SeqCst), calls, "the memory of the node has it now");
    let (_, plain) = node(&Config::default(), &shared);
    plain.text(&ask("a")).await.unwrap();
    assert_eq!(shared.calls.load(Ordering::SeqCst), calls, "who wants no cache does not ask");
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_redis_that_hangs_every_request() {
    let shared = Arc::new(Shared { hangs: true, ..Shared::default() });
    let (fake, stages) = node(&caching(), &shared);
    let began = Instant::now();
    for i in 0..100 {
        stages
            .text(&TextRequest { idempotency_key: Some(format!("k{i}")), ..ask(&format!("{i}")) })
            .await
            .unwrap();
    }
    assert_eq!((began.elapsed(), shared.calls.load(Ordering::SeqCst)), (Duration::from_millis(100), 1));
    assert_eq!(fake.calls(), 100);
    tokio::time::advance(Duration::from_secs(5)).await;
    stages.text(&ask("another")).await.unwrap();
    assert_eq!(shared.calls.load(Ordering::SeqCst), 2, "it is tried again");
}

#[tokio::test]
async fn what_another_version_has_written_is_as_good_as_nothing() {
    let shared: Arc<Shared> = Arc::default();
    let (_, one) = node(&caching(), &shared);
    one.text(&ask("a")).await.unwrap();
    for value in shared.kept.lock().unwrap().values_mut() {
        *value = "{\"of\":1}".into();
    }
    let (fake, two) = node(&caching(), &shared);
    two.text(&ask("a")).await.unwrap();
    assert_eq!(fake.calls(), 1);
}

fn cleared(stages: &Stages<Fake>, epoch: u64) {
    let record = ProviderRecord::new(Subject::of(Topic::Cache, ""), Timestamp::default());
    stages.clear(&Cleared::default(), &ProviderRecord { epoch, ..record });
}

#[tokio::test]
async fn a_clear_reaches_what_nodes_share_without_asking_for_it() {
    let shared: Arc<Shared> = Arc::default();
    let ((_, one), (other, two)) = (node(&caching(), &shared), node(&caching(), &shared));
    one.text(&ask("a")).await.unwrap();
    one.text(&keyed("k")).await.unwrap();
    let calls = shared.calls.load(Ordering::SeqCst);
    cleared(&one, 1);
    assert_eq!(shared.calls.load(Ordering::SeqCst), calls, "it may be away");
    // The other one has not heard of it yet: what it keeps is not found by those who have.
    two.text(&ask("a")).await.unwrap();
    assert_eq!(other.calls(), 0);
    assert_eq!(one.text(&ask("a")).await.unwrap().text, "answer 3");
    cleared(&two, 1);
    assert_eq!(two.text(&ask("a")).await.unwrap().text, "answer 3", "they share again");
    assert_eq!(two.text(&keyed("k")).await.unwrap().text, "answer 2", "answers by key stay");
    assert_eq!(other.calls(), 0);
}

#[tokio::test]
async fn a_node_asks_nothing_of_others_before_it_knows_what_was_cleared() {
    let shared: Arc<Shared> = Arc::default();
    let (_, one) = node(&caching(), &shared);
    one.text(&ask("a")).await.unwrap();
    let (fake, _) = stages(&caching());
    let late = Stages::new(Arc::clone(&fake), &caching(), Some(shared.clone()), alone());
    late.text(&ask("a")).await.unwrap();
    assert_eq!(fake.calls(), 1);
    cleared(&late, 1);
    late.clears_are_known();
    late.text(&ask("a")).await.unwrap();
    assert_eq!((fake.calls(), one.text(&ask("a")).await.unwrap().text.as_str()), (2, "answer 1"));
}
