use crate::accounts::Accounts;
use crate::accounts::BudgetStatus;
use crate::anthropic::Anthropic;
use crate::config::{self, Adapter, Config, ProviderConfig};
use crate::experiment::{Book, Experiments, Part};
use crate::gemini::Gemini;
use crate::health::{ProviderCounts, ProviderStatus};
use crate::keys::Ring;
use crate::offline::Offline;
use crate::ollama::Ollama;
use crate::openai::OpenAi;
use crate::provider::Provider;
use crate::reload::ReadConfig;
use crate::route::{Live, PieceStream, RouteStatus, Router};
use crate::shared::{Records, Sharing};
use crate::stages::{CacheCounts, Claims, StageCounts, Stages};
use callboard_domain::alert::Observation;
use callboard_domain::llm::{
    EmbeddingRequest, EmbeddingResponse, Error, ErrorKind, ImageRequest, ImageResponse, TextRequest,
    TextResponse,
};
use callboard_domain::{Violation, limits};
use callboard_ports::ledger;
use callboard_ports::{Answers, Clock, Ledger, Locks, TokenBuckets, Tracer};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// Takes what the broker observed, for the alerts. It must not block.
pub type Observe = Arc<dyn Fn(Observation) + Send + Sync>;

/// Reads an environment variable.
pub type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Draws a random number from 0 to 1.
pub type Jitter = Arc<dyn Fn() -> f64 + Send + Sync>;

/// What the broker needs from outside.
#[derive(Clone)]
pub struct Deps {
    /// Tells when errors happened.
    pub clock: Arc<dyn Clock>,
    /// Takes observations.
    pub observe: Observe,
    /// Holds the keys that the configuration names.
    pub env: Env,
    /// Records calls.
    pub tracer: Tracer,
    /// Spreads in time what would otherwise happen on all nodes at once.
    pub jitter: Jitter,
    /// Where the limits are kept: this node's, or the cluster's.
    pub buckets: Arc<dyn TokenBuckets>,
    /// The answers that the nodes of a cluster share; none for a node by itself.
    pub answers: Option<Arc<dyn Answers>>,
    /// By which the nodes of a cluster agree on who makes the call of an idempotency key; none for a node by itself.
    pub locks: Option<Arc<dyn Locks>>,
    /// Where what is learned of providers is kept, and told to other nodes. Without it, it is forgotten at the end.
    pub sharing: Option<Sharing>,
    /// Reads the configuration again when an admin asks for it.
    pub read_config: Option<ReadConfig>,
    /// Where quotas and budgets are summed up: this node's, or the cluster's.
    pub ledger: Arc<dyn Ledger>,
}

/// Answers calls for texts and images through the configured providers.
///
/// A call for a text passes the stages first: see `stages`. Limits and quotas are part of the route: one that is reached
/// sends a call on to the next provider. So are budgets: no call that reaches a provider is made without.
pub struct Broker {
    pub(crate) live: Arc<Live>,
    pub(crate) stages: Arc<Stages<Live>>,
    /// The experiments of now.
    pub(crate) experiments: RwLock<Arc<Experiments>>,
    /// What came of their arms.
    pub(crate) book: Book,
    pub(crate) records: Arc<Records>,
    pub(crate) deps: Deps,
    /// The configuration that the stages are made with.
    pub(crate) started_with: Config,
    /// The configuration of now.
    pub(crate) config: Mutex<Config>,
    /// Held while an admin changes something.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Woken when there is another router.
    pub(crate) reloaded: Notify,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("router", &self.live.now()).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker with the adapters that the configuration names.
    ///
    /// # Errors
    /// Every wrong field, keys that cannot be read among them.
    pub fn new(config: &Config, deps: &Deps) -> Result<Arc<Self>, config::Error> {
        Ok(Self::with_rings(config, read_rings(config, deps, |_| None)?, deps))
    }

    /// A broker with providers of any kind, in the order they are tried. Those that the configuration names are
    /// not looked at.
    #[must_use]
    pub fn with_providers(config: &Config, providers: Vec<Arc<dyn Provider>>, deps: &Deps) -> Arc<Self> {
        let rings = providers.into_iter().map(|provider| Arc::new(Ring::bare(provider, deps))).collect();
        Self::with_rings(config, rings, deps)
    }

    fn with_rings(config: &Config, rings: Vec<Arc<Ring>>, deps: &Deps) -> Arc<Self> {
        let records = Records::new(Arc::clone(&deps.clock));
        let live = Live::new(Router::new(rings, config, &records, deps));
        let claims = Claims::new(deps.locks.clone(), Arc::clone(&deps.jitter));
        let stages = Stages::new(Arc::clone(&live), config, deps.answers.clone(), claims);
        if deps.sharing.is_none() {
            stages.clears_are_known();
        }
        let book = Book::new(Arc::clone(&deps.ledger), Arc::clone(&deps.clock), (deps.jitter)());
        Arc::new(Self {
            live,
            stages,
            experiments: RwLock::new(Experiments::new(config, &book, &records)),
            book,
            records,
            deps: deps.clone(),
            started_with: config.clone(),
            config: Mutex::new(config.clone()),
            changing: tokio::sync::Mutex::default(),
            reloaded: Notify::new(),
        })
    }

    /// Generates a text.
    ///
    /// # Errors
    /// If no provider answered; the error holds every attempt.
    pub async fn text(&self, request: &TextRequest) -> Result<TextResponse, Error> {
        check_text(request)?;
        match self.experiments_of_now().part(request)? {
            None => self.stages.text(request).await,
            Some(Part { request, counted }) => counted.text(self.stages.text(&request).await),
        }
    }

    /// Generates a text as a stream. Before the first piece a failing provider is replaced by the next;
    /// after it, a failure is the stream's last item. Dropping the stream ends the call.
    ///
    /// # Errors
    /// If no provider began to answer.
    pub async fn text_stream(&self, request: &TextRequest) -> Result<PieceStream, Error> {
        check_text(request)?;
        match self.experiments_of_now().part(request)? {
            None => self.stages.text_stream(request).await,
            Some(Part { request, counted }) => counted.stream(self.stages.text_stream(&request).await),
        }
    }

    /// Generates an image.
    ///
    /// # Errors
    /// If no provider made it; the error holds every attempt.
    pub async fn image(&self, request: &ImageRequest) -> Result<ImageResponse, Error> {
        check_size(request.prompt.len())?;
        let redacted = self.stages.redacted(request);
        self.live.now().image(redacted.as_ref().unwrap_or(request)).await
    }

    /// Turns texts into vectors, all with one model: see [`EmbeddingRequest::model`].
    ///
    /// # Errors
    /// If no provider made them; the error holds every attempt.
    pub async fn embed(&self, request: &EmbeddingRequest) -> Result<EmbeddingResponse, Error> {
        check_size(request.inputs.iter().map(String::len).sum())?;
        let redacted = self.stages.redacted_embedding(request);
        self.live.now().embed(redacted.as_ref().unwrap_or(request)).await
    }

    pub(crate) fn experiments_of_now(&self) -> Arc<Experiments> {
        Arc::clone(&self.experiments.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was counted of each provider, in the order they are tried.
    #[must_use]
    pub fn counts(&self) -> Vec<ProviderCounts> {
        self.live.now().counts()
    }

    /// What the stages before the providers did, and what they keep.
    #[must_use]
    pub fn stage_counts(&self) -> StageCounts {
        self.stages.counts()
    }

    /// What the caches did for each namespace and kind of task, and what they keep of each; at most 65. It looks at every
    /// answer that is kept.
    #[must_use]
    pub fn cache_counts(&self) -> Vec<CacheCounts> {
        self.stages.counts_by_scope()
    }

    /// How the budgets stand, in their order.
    #[must_use]
    pub fn budgets(&self) -> Vec<BudgetStatus> {
        self.live.now().accounts().budgets()
    }

    /// The share of each limit of calls that is left, from 0 to 1, as this node saw it last; of those it knows of. By what a
    /// limit counts and covers: `requests`, `tokens:openai`.
    #[must_use]
    pub fn limits_left(&self) -> Vec<(String, f64)> {
        self.live.now().limits_left()
    }

    /// Makes a provider's quotas as if nothing of them had been used, on every node once it has heard of it. Answers
    /// whether there is such a provider.
    pub fn reset_quota(&self, provider: &str) -> bool {
        self.live.now().accounts().reset_quota(provider)
    }

    /// Exchanges what is counted with the ledger once. Before the first time, what was used before this process began is
    /// not known here.
    ///
    /// # Errors
    /// If the ledger does not answer; what was counted is kept for the next time.
    pub async fn exchange(&self) -> Result<(), ledger::Error> {
        self.live.now().accounts().exchange().await?;
        self.book.exchange(false).await
    }

    /// The same over and over, and tells what becomes of quotas and budgets. Never ends: whoever starts the broker runs it
    /// for as long as it is used.
    pub async fn keep_accounts(&self) {
        futures::join!(self.keep_accounts_of_now(), self.book.run());
    }

    async fn keep_accounts_of_now(&self) {
        let mut running = FuturesUnordered::new();
        let mut now: Option<Arc<Accounts>> = None;
        loop {
            let accounts = self.live.now().shared_accounts();
            if !now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &accounts)) {
                now = Some(Arc::clone(&accounts));
                running.push(keep_while_used(accounts));
            }
            tokio::select! {
                () = self.reloaded.notified() => {}
                Some(()) = running.next() => {}
            }
        }
    }

    /// The providers, in the order they are tried, and how they fare.
    #[must_use]
    pub fn providers(&self) -> Vec<ProviderStatus> {
        let mut all = self.live.now().status();
        for status in &mut all {
            status.in_flight += self.live.left_over(&status.name);
        }
        all
    }

    /// How the order of providers is found where a call names no route, and the routes.
    #[must_use]
    pub fn routes(&self) -> (config::Policy, Vec<RouteStatus>) {
        self.live.now().routes()
    }
}

/// How often it is looked whether accounts of an earlier configuration still have calls.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Keeps accounts until no router and no call has them any more.
async fn keep_while_used(accounts: Arc<Accounts>) {
    while tokio::time::timeout(LOOK_AGAIN, accounts.run()).await.is_err() {
        if Arc::strong_count(&accounts) == 1 {
            // What is not told now would be told by nobody.
            if let Err(error) = accounts.exchange().await {
                tracing::warn!(%error, "what was counted before a reload was not told to the ledger yet");
                continue;
            }
            return;
        }
    }
}

/// The providers of a configuration, each with its keys. Those that `same` gives are taken as they are.
///
/// # Errors
/// Every wrong field, keys that cannot be read among them.
pub(crate) fn read_rings(
    config: &Config,
    deps: &Deps,
    same: impl Fn(usize) -> Option<Arc<Ring>>,
) -> Result<Vec<Arc<Ring>>, config::Error> {
    let mut violations = config.violations();
    let mut rings = Vec::with_capacity(config.providers.len());
    for (i, provider) in config.providers.iter().enumerate() {
        match same(i).map_or_else(|| ring(provider, config, deps).map(Arc::new), Ok) {
            Ok(ring) => rings.push(ring),
            Err((key, description)) => {
                let field = format!("providers[{i}].{key}");
                // A field that is wrong in itself has been named already.
                if !violations.iter().any(|v| v.field == field) {
                    violations.push(Violation { field, description });
                }
            }
        }
    }
    if violations.is_empty() { Ok(rings) } else { Err(config::Error { violations }) }
}

/// A provider with its keys, or the field that is wrong, and why.
fn ring(provider: &ProviderConfig, config: &Config, deps: &Deps) -> Result<Ring, (String, String)> {
    match provider.adapter {
        Adapter::OpenAi => Ring::new(provider, deps, |key| OpenAi::new(provider, key), OpenAi::with_key),
        Adapter::Anthropic => {
            Ring::new(provider, deps, |key| Anthropic::new(provider, key), Anthropic::with_key)
        }
        Adapter::Gemini => Ring::new(provider, deps, |key| Gemini::new(provider, key), Gemini::with_key),
        Adapter::Ollama => Ring::new(provider, deps, |key| Ollama::new(provider, key), Ollama::with_key),
        Adapter::Offline => {
            let offline = Offline::new(&provider.name).with_latency(config.offline_latency);
            Ok(Ring::bare(Arc::new(offline), deps))
        }
    }
}

fn check_text(request: &TextRequest) -> Result<(), Error> {
    check_size(request.text_bytes())?;
    let images = request.messages.iter().map(|message| message.content.images().count()).sum::<usize>();
    let bytes = request.image_bytes();
    if images > limits::PROMPT_IMAGES || bytes > limits::PROMPT_IMAGE_BYTES {
        let (most, most_bytes) = (limits::PROMPT_IMAGES, limits::PROMPT_IMAGE_BYTES);
        let message = format!(
            "the messages have {images} images of {bytes} bytes together, {most} of {most_bytes} bytes are allowed"
        );
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    Ok(())
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > limits::INPUT_BYTES {
        let message = format!("the prompt has {bytes} bytes, {} are allowed", limits::INPUT_BYTES);
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    Ok(())
}
