use crate::anthropic::Anthropic;
use crate::config::{self, Adapter, Config, ProviderConfig};
use crate::gemini::Gemini;
use crate::health::{Health, ProviderCounts, ProviderStatus};
use crate::keys::Ring;
use crate::offline::Offline;
use crate::ollama::Ollama;
use crate::openai::OpenAi;
use crate::provider::Provider;
use crate::route::{PieceStream, Router};
use crate::shared::{Records, Sharing};
use crate::stages::{StageCounts, Stages};
use callboard_domain::alert::Observation;
use callboard_domain::llm::{Error, ErrorKind, ImageRequest, ImageResponse, TextRequest, TextResponse};
use callboard_domain::{Violation, limits};
use callboard_ports::{Answers, Clock, TokenBuckets, Tracer};
use std::sync::Arc;

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
    /// Where what is learned of providers is kept, and told to other nodes. Without it, it is forgotten at the end.
    pub sharing: Option<Sharing>,
}

/// Answers calls for texts and images through the configured providers.
///
/// A call for a text passes the stages first: see `stages`. What comes later goes here: quotas and budgets before the router
/// is called, accounting after it. Limits are part of the route: one that is reached sends a call on to the next provider.
pub struct Broker {
    pub(crate) router: Arc<Router>,
    pub(crate) stages: Arc<Stages<Router>>,
    pub(crate) records: Arc<Records>,
    pub(crate) sharing: Option<Sharing>,
    pub(crate) jitter: Jitter,
    /// Held while an admin changes something.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("router", &self.router).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker with the adapters that the configuration names.
    ///
    /// # Errors
    /// Every wrong field, keys that cannot be read among them.
    pub fn new(config: &Config, deps: &Deps) -> Result<Arc<Self>, config::Error> {
        let mut violations = config.violations();
        let mut rings = Vec::with_capacity(config.providers.len());
        for (i, provider) in config.providers.iter().enumerate() {
            match ring(provider, config, deps) {
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
        if violations.is_empty() {
            Ok(Self::with_rings(config, rings, deps))
        } else {
            Err(config::Error { violations })
        }
    }

    /// A broker with providers of any kind, in the order they are tried. Those that the configuration names are
    /// not looked at.
    #[must_use]
    pub fn with_providers(config: &Config, providers: Vec<Arc<dyn Provider>>, deps: &Deps) -> Arc<Self> {
        let rings = providers.into_iter().map(|provider| Ring::bare(provider, deps)).collect();
        Self::with_rings(config, rings, deps)
    }

    fn with_rings(config: &Config, rings: Vec<Ring>, deps: &Deps) -> Arc<Self> {
        let health = Health::new(rings.len(), deps.clock.clone(), deps.observe.clone());
        let records = Records::new(Arc::clone(&deps.clock));
        let router = Arc::new(Router::new(rings, health, config, &records, deps));
        let stages = Stages::new(Arc::clone(&router), config, deps.answers.clone());
        let (sharing, jitter) = (deps.sharing.clone(), Arc::clone(&deps.jitter));
        Arc::new(Self { router, stages, records, sharing, jitter, changing: tokio::sync::Mutex::default() })
    }

    /// Generates a text.
    ///
    /// # Errors
    /// If no provider answered; the error holds every attempt.
    pub async fn text(&self, request: &TextRequest) -> Result<TextResponse, Error> {
        check_size(request.messages.iter().map(|m| m.content.len()).sum())?;
        self.stages.text(request).await
    }

    /// Generates a text as a stream. Before the first piece a failing provider is replaced by the next;
    /// after it, a failure is the stream's last item. Dropping the stream ends the call.
    ///
    /// # Errors
    /// If no provider began to answer.
    pub async fn text_stream(&self, request: &TextRequest) -> Result<PieceStream, Error> {
        check_size(request.messages.iter().map(|m| m.content.len()).sum())?;
        self.stages.text_stream(request).await
    }

    /// Generates an image.
    ///
    /// # Errors
    /// If no provider made it; the error holds every attempt.
    pub async fn image(&self, request: &ImageRequest) -> Result<ImageResponse, Error> {
        check_size(request.prompt.len())?;
        let redacted = self.stages.redacted(request);
        self.router.image(redacted.as_ref().unwrap_or(request)).await
    }

    /// What was counted of each provider, in the order they are tried.
    #[must_use]
    pub fn counts(&self) -> Vec<ProviderCounts> {
        self.router.counts()
    }

    /// What the stages before the providers did, and what they keep.
    #[must_use]
    pub fn stage_counts(&self) -> StageCounts {
        self.stages.counts()
    }

    /// Forgets the answers in the exact cache: those to one kind of task, or all.
    pub fn clear_cache(&self, kind: Option<&str>) {
        self.stages.clear_cache(kind);
    }

    /// The providers, in the order they are tried, and how they fare.
    #[must_use]
    pub fn providers(&self) -> Vec<ProviderStatus> {
        self.router.status()
    }
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

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > limits::INPUT_BYTES {
        let message = format!("the prompt has {bytes} bytes, {} are allowed", limits::INPUT_BYTES);
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    Ok(())
}
