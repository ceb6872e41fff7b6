//! What the tests share.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use async_trait::async_trait;
use callboard_domain::Timestamp;
use callboard_domain::alert::Observation;
use callboard_domain::llm::{
    EmbeddingRequest, Error, ErrorKind, ImageRequest, ProviderAttempt, TextRequest, Usage,
};
use callboard_ports::ledger::{self, Balance, Ledger};
use callboard_ports::token_buckets::{self, Decision, Level, TokenBuckets};
use callboard_provider_broker::config::{Adapter, Breaker, ProviderConfig, Retry};
use callboard_provider_broker::provider::{
    Chunk, ChunkStream, Description, ProviderEmbeddings, ProviderImage, ProviderText,
};
use callboard_provider_broker::{Broker, Config, Deps, Offline, Provider};
use callboard_testkit::{FakeProvider, ManualClock};
use futures::{StreamExt, stream};
use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a test waits for what must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const KEY: &str = "geheimer-schluessel-4711";
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// What the broker observed.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<Observation>>>);

impl Seen {
    /// Takes what came since the last time: whether it fires, and how many it stands for.
    pub(crate) fn take(&self) -> Vec<(bool, u64)> {
        self.take_all().iter().map(|o| (o.firing, o.count)).collect()
    }

    pub(crate) fn take_all(&self) -> Vec<Observation> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

pub(crate) fn deps() -> (Deps, Seen) {
    let seen = Seen::default();
    let log = seen.0.clone();
    let deps = Deps {
        clock: Arc::new(ManualClock::at(NOW)),
        observe: Arc::new(move |o| log.lock().unwrap().push(o)),
        env: Arc::new(|name| (name == "KEY").then(|| KEY.to_owned())),
        tracer: callboard_ports::Tracer::default(),
        jitter: Arc::new(|| 0.0),
        buckets: Arc::new(Buckets::default()),
        answers: None,
        locks: None,
        sharing: None,
        read_config: None,
        ledger: Arc::new(Memory::default()),
    };
    (deps, seen)
}

/// The configuration of a provider behind a fake one.
pub(crate) fn openai(name: &str, fake: &FakeProvider) -> ProviderConfig {
    ProviderConfig {
        api_key_env: Some("KEY".into()),
        text_model: Some("fake-text".into()),
        image_model: Some("fake-image".into()),
        embedding_model: Some("fake-embedding".into()),
        ..ProviderConfig::openai(name, fake.base_url())
    }
}

/// Without breakers, retries and shared calls: for tests of single calls, which make a provider fail over and over.
pub(crate) fn plain() -> Config {
    Config {
        breaker: Breaker { enabled: false, ..Breaker::default() },
        retry: Retry { max: 0, ..Retry::default() },
        single_flight: false,
        ..Config::default()
    }
}

pub(crate) fn broker(providers: Vec<ProviderConfig>) -> Arc<Broker> {
    Broker::new(&Config { providers, ..plain() }, &deps().0).unwrap()
}

/// A fake provider, and a broker that has no other.
pub(crate) async fn one() -> (FakeProvider, Arc<Broker>) {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let broker = broker(vec![openai("main", &fake)]);
    (fake, broker)
}

pub(crate) fn hello() -> TextRequest {
    TextRequest::prompt("hello you")
}

pub(crate) fn picture() -> ImageRequest {
    ImageRequest {
        prompt: "a lamp at night".into(),
        width: 1024,
        height: 1024,
        provider: None,
        idempotency_key: None,
    }
}

/// The attempts as `provider` or `provider: REASON`.
pub(crate) fn outline(attempts: &[ProviderAttempt]) -> Vec<String> {
    let of = |a: &ProviderAttempt| match &a.error {
        Some((kind, _)) => format!("{}: {}", a.provider, kind.reason()),
        None => a.provider.clone(),
    };
    attempts.iter().map(of).collect()
}

/// What a scripted provider does with a call.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer,
    Fail(ErrorKind),
    /// Too many calls for now; come back after that.
    Limit(Duration),
    Hang,
    /// A text after a while; a stream's pieces come each after it.
    Late(Duration),
}

/// A provider that does as it is told, without a wire: for tests of time.
pub(crate) struct Scripted {
    name: String,
    act: Mutex<Act>,
    image_model: String,
    pub(crate) calls: AtomicU32,
}

impl Scripted {
    pub(crate) fn new(name: &str, act: Act) -> Arc<Self> {
        let image_model = "scripted-image".into();
        Arc::new(Self { name: name.into(), act: Mutex::new(act), image_model, calls: AtomicU32::new(0) })
    }

    pub(crate) fn without_images(name: &str, act: Act) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            act: Mutex::new(act),
            image_model: String::new(),
            calls: AtomicU32::new(0),
        })
    }

    pub(crate) fn set(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    async fn act(&self) -> Result<(), Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let act = self.act.lock().unwrap().clone();
        match act {
            Act::Answer => Ok(()),
            Act::Fail(kind) => Err(Error::new(kind, format!("{} failed", self.name))),
            Act::Limit(wait) => {
                let message = format!("{} is limited", self.name);
                Err(Error { retry_after: Some(wait), ..Error::new(ErrorKind::RateLimited, message) })
            }
            Act::Hang => pending().await,
            Act::Late(span) => {
                tokio::time::sleep(span).await;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Provider for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> Description<&str> {
        Description {
            adapter: Adapter::OpenAi,
            base_url: "http://scripted",
            text_model: "scripted-text",
            image_model: &self.image_model,
            embedding_model: "scripted-embedding",
            has_key: false,
        }
    }

    async fn text(&self, request: &TextRequest) -> Result<ProviderText, Error> {
        self.act().await?;
        let model = request.model.clone().unwrap_or_else(|| "scripted-text".into());
        let text = format!("text of {}", self.name);
        Ok(ProviderText { text, finish_reason: "stop".into(), model, ..ProviderText::default() })
    }

    async fn text_stream(&self, _request: &TextRequest) -> Result<ChunkStream, Error> {
        self.act().await?;
        let gap = match &*self.act.lock().unwrap() {
            Act::Late(gap) => *gap,
            _ => Duration::ZERO,
        };
        let chunk = move |_| async move {
            tokio::time::sleep(gap).await;
            Ok(Chunk::Delta("word ".into()))
        };
        Ok(stream::iter(0..1_000).then(chunk).boxed())
    }

    async fn embed(&self, request: &EmbeddingRequest, model: &str) -> Result<ProviderEmbeddings, Error> {
        self.act().await?;
        let vectors = vec![vec![0.5, 0.5]; request.inputs.len()];
        Ok(ProviderEmbeddings { vectors, model: model.into(), usage: Usage::default() })
    }

    async fn image(&self, _request: &ImageRequest) -> Result<ProviderImage, Error> {
        self.act().await?;
        let usage = Usage::default();
        Ok(ProviderImage {
            data: "image".into(),
            media_type: "image/png".into(),
            model: self.image_model.clone(),
            usage,
        })
    }
}

/// A broker of scripted providers, with the offline generator last if wanted.
pub(crate) fn scripted(providers: &[&Arc<Scripted>], offline: bool) -> (Arc<Broker>, Seen) {
    scripted_with(&plain(), providers, offline)
}

pub(crate) fn scripted_with(
    config: &Config,
    providers: &[&Arc<Scripted>],
    offline: bool,
) -> (Arc<Broker>, Seen) {
    let mut all: Vec<Arc<dyn Provider>> =
        providers.iter().map(|p| Arc::clone(p) as Arc<dyn Provider>).collect();
    if offline {
        all.push(Arc::new(Offline::new("offline")));
    }
    let (deps, seen) = deps();
    (Broker::with_providers(config, all, &deps), seen)
}

/// Token buckets that never fill up again.
#[derive(Default)]
pub(crate) struct Buckets(Mutex<HashMap<String, f64>>);

impl Buckets {
    fn debit(&self, levels: &[Level], cost: f64, least: f64) -> Decision {
        let mut held = self.0.lock().unwrap();
        for Level { key, burst, .. } in levels {
            if *held.entry(key.clone()).or_insert(*burst) - cost < least {
                return Decision::Denied { level: key.clone(), retry_after: Some(Duration::from_secs(7)) };
            }
        }
        levels.iter().for_each(|level| *held.get_mut(&level.key).unwrap() -= cost);
        Decision::Allowed
    }

    /// What a bucket holds.
    pub(crate) fn left(&self, key: &str) -> f64 {
        self.0.lock().unwrap()[key]
    }
}

#[async_trait]
impl TokenBuckets for Buckets {
    async fn take(&self, levels: &[Level], cost: f64) -> Result<Decision, token_buckets::Error> {
        Ok(self.debit(levels, cost, 0.0))
    }

    async fn settle(&self, levels: &[Level], cost: f64) -> Result<(), token_buckets::Error> {
        self.debit(levels, cost, f64::NEG_INFINITY);
        Ok(())
    }

    fn left(&self, level: &Level) -> Option<f64> {
        self.0.lock().unwrap().get(&level.key).copied()
    }
}

/// A ledger that lasts as long as the test.
#[derive(Default)]
pub(crate) struct Memory {
    totals: Mutex<HashMap<(String, String), (u64, i64)>>,
    /// Whether it cannot be reached.
    pub(crate) away: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Ledger for Memory {
    async fn exchange(
        &self,
        source: &str,
        number: u64,
        own: &[Balance],
        read: &[String],
    ) -> Result<Vec<i64>, ledger::Error> {
        if self.away.load(Ordering::SeqCst) {
            return Err(ledger::Error::Unavailable("away".into()));
        }
        let mut totals = self.totals.lock().unwrap();
        for Balance { account, total, .. } in own {
            let held = totals.entry((account.clone(), source.to_owned())).or_default();
            if held.0 < number {
                *held = (number, *total);
            }
        }
        let sum =
            |account: &String| totals.iter().filter(|((of, _), _)| of == account).map(|(_, (_, t))| t).sum();
        Ok(read.iter().map(sum).collect())
    }

    async fn forget(&self, _now: Timestamp) -> Result<(), ledger::Error> {
        Ok(())
    }
}
