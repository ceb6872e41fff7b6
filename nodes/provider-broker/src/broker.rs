use crate::accounts::BudgetStatus;
use crate::anthropic::Anthropic;
use crate::config::{self, Adapter, Config, ProviderConfig};
use crate::gemini::Gemini;
use crate::health::{Health, ProviderCounts, ProviderStatus};
use crate::offline::Offline;
use crate::ollama::Ollama;
use crate::openai::OpenAi;
use crate::provider::Provider;
use crate::route::{PieceStream, Router};
use callboard_domain::alert::Observation;
use callboard_domain::llm::{Error, ErrorKind, ImageRequest, ImageResponse, TextRequest, TextResponse};
use callboard_domain::{Violation, limits};
use callboard_ports::ledger;
use callboard_ports::{Clock, Ledger, TokenBuckets, Tracer};
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
    /// Where quotas and budgets are summed up: this node's, or the cluster's.
    pub ledger: Arc<dyn Ledger>,
}

/// Answers calls for texts and images through the configured providers.
///
/// What comes later goes here: the answer caches before the router is called.
/// Limits and quotas are part of the route: one that is reached sends a call on to the next provider. So are budgets: no
/// call that reaches a provider is made without.
#[derive(Debug)]
pub struct Broker {
    router: Arc<Router>,
}

impl Broker {
    /// A broker with the adapters that the configuration names.
    ///
    /// # Errors
    /// Every wrong field, keys that cannot be read among them.
    pub fn new(config: &Config, deps: &Deps) -> Result<Arc<Self>, config::Error> {
        let mut violations = config.violations();
        let mut providers: Vec<Arc<dyn Provider>> = Vec::with_capacity(config.providers.len());
        for (i, provider) in config.providers.iter().enumerate() {
            match adapter(provider, config, &*deps.env) {
                Ok(adapter) => providers.push(adapter),
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
            Ok(Self::with_providers(config, providers, deps))
        } else {
            Err(config::Error { violations })
        }
    }

    /// A broker with providers of any kind, in the order they are tried. Those that the configuration names are
    /// not looked at.
    #[must_use]
    pub fn with_providers(config: &Config, providers: Vec<Arc<dyn Provider>>, deps: &Deps) -> Arc<Self> {
        let health = Health::new(providers.len(), deps.clock.clone(), deps.observe.clone());
        Arc::new(Self { router: Arc::new(Router::new(providers, health, config, deps)) })
    }

    /// Generates a text.
    ///
    /// # Errors
    /// If no provider answered; the error holds every attempt.
    pub async fn text(&self, request: &TextRequest) -> Result<TextResponse, Error> {
        check_size(request.messages.iter().map(|m| m.content.len()).sum())?;
        self.router.text(request).await
    }

    /// Generates a text as a stream. Before the first piece a failing provider is replaced by the next;
    /// after it, a failure is the stream's last item. Dropping the stream ends the call.
    ///
    /// # Errors
    /// If no provider began to answer.
    pub async fn text_stream(&self, request: &TextRequest) -> Result<PieceStream, Error> {
        check_size(request.messages.iter().map(|m| m.content.len()).sum())?;
        self.router.text_stream(request).await
    }

    /// Generates an image.
    ///
    /// # Errors
    /// If no provider made it; the error holds every attempt.
    pub async fn image(&self, request: &ImageRequest) -> Result<ImageResponse, Error> {
        check_size(request.prompt.len())?;
        self.router.image(request).await
    }

    /// What was counted of each provider, in the order they are tried.
    #[must_use]
    pub fn counts(&self) -> Vec<ProviderCounts> {
        self.router.counts()
    }

    /// How the budgets stand, in their order.
    #[must_use]
    pub fn budgets(&self) -> Vec<BudgetStatus> {
        self.router.accounts().budgets()
    }

    /// Makes a provider's quotas as if nothing of them had been used, on every node once it has heard of it. Answers
    /// whether there is such a provider.
    pub fn reset_quota(&self, provider: &str) -> bool {
        self.router.accounts().reset_quota(provider)
    }

    /// Exchanges what is counted with the ledger once. Before the first time, what was used before this process began is
    /// not known here.
    ///
    /// # Errors
    /// If the ledger does not answer; what was counted is kept for the next time.
    pub async fn exchange(&self) -> Result<(), ledger::Error> {
        self.router.accounts().exchange().await
    }

    /// The same over and over, and tells what becomes of quotas and budgets. Never ends: whoever starts the broker runs it
    /// for as long as it is used.
    pub async fn keep_accounts(&self) {
        self.router.accounts().run().await;
    }

    /// The providers, in the order they are tried, and how they fare.
    #[must_use]
    pub fn providers(&self) -> Vec<ProviderStatus> {
        self.router.status()
    }
}

/// The adapter of a provider, or the field that is wrong, and why.
fn adapter(
    provider: &ProviderConfig,
    config: &Config,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Provider>, (&'static str, String)> {
    Ok(match provider.adapter {
        Adapter::OpenAi => Arc::new(OpenAi::new(provider, env)?),
        Adapter::Anthropic => Arc::new(Anthropic::new(provider, env)?),
        Adapter::Gemini => Arc::new(Gemini::new(provider, env)?),
        Adapter::Ollama => Arc::new(Ollama::new(provider, env)?),
        Adapter::Offline => Arc::new(Offline::new(&provider.name).with_latency(config.offline_latency)),
    })
}

fn check_size(bytes: usize) -> Result<(), Error> {
    if bytes > limits::INPUT_BYTES {
        let message = format!("the prompt has {bytes} bytes, {} are allowed", limits::INPUT_BYTES);
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    Ok(())
}
