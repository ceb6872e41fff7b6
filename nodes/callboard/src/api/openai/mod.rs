//! The endpoint that speaks OpenAI's API: `/v1/*` on the public listener, for programs that have a client of it.
//!
//! A request is read ([`body`], [`request`]), its model is looked up ([`models`]), the ProviderBroker is called, and what
//! it says is written as OpenAI would ([`answer`], [`stream`], [`error`]). Around every request is [`watched`]: its
//! place in a trace, whether it may call ([`keys`]), and what is counted.
//!
//! - What the broker cannot carry is refused with the name of the parameter, never dropped. What only shapes an answer,
//!   as a seed does, is dropped by providers that have no word for it.
//! - A stream that did not come to its end is never closed as if it had.
//! - No mailbox is between: on a node that calls providers itself, the broker is called where the request is served.
//! - Nothing is spawned: dropping a request, or its answer, ends the call at the provider.
//! - No answer and no span holds a key.
//!
//! What a key may spend is the broker's to say: the namespace of a key goes with its calls. It runs no tools: it passes on
//! what models and their callers say of them.

mod answer;
mod body;
mod broker;
mod chat;
mod embeddings;
mod error;
mod images;
mod keys;
mod metrics;
mod models;
mod request;
mod stream;
mod watched;
mod wishes;

pub(super) use keys::{bearer, find};
pub use metrics::{HttpMetrics, RouteRead};

use super::Api;
use crate::config;
use axum::Router;
use axum::routing::{get, post};
use broker::Broker;
use callboard_contracts::v1;
use callboard_domain::limits;
use callboard_provider_broker::Service;
use error::Error;
use keys::Access;
use models::Models;
use std::sync::Arc;

/// The most bytes of a body: what may be asked, and what JSON and base64 put around it.
const BODY_BYTES: usize = 4 * limits::INPUT_BYTES + limits::PROMPT_IMAGE_BYTES / 3 * 4;

/// What the endpoint is given beside the [`Api`].
pub struct Options<'a> {
    /// Its section of the configuration.
    pub config: &'a config::OpenAi,
    /// Whether only this machine reaches the listener.
    pub loopback: bool,
    /// The ProviderBroker of this node; none if another node calls providers.
    pub here: Option<Service>,
    /// Counts its requests.
    pub metrics: HttpMetrics,
}

/// The endpoint.
#[derive(Clone)]
pub struct Endpoint(Arc<Shared>);

struct Shared {
    api: Api,
    broker: Broker,
    access: Access,
    models: Models,
    metrics: HttpMetrics,
}

impl Endpoint {
    /// The endpoint of an API.
    #[must_use]
    pub fn new(api: &Api, options: Options<'_>) -> Self {
        let access = Access::new(&options.config.keys, options.loopback);
        if access.is_closed() {
            tracing::warn!(
                "the OpenAI-compatible endpoint refuses every request: others can reach the listener, and no key is \
                 configured (openai.keys)"
            );
        }
        let broker = match options.here {
            Some(service) => Broker::Here(service),
            None => Broker::Elsewhere(api.deps.broker.clone()),
        };
        let models = Models::new(options.config.models.clone(), api.deps.clock.now());
        Self(Arc::new(Shared { api: api.clone(), broker, access, models, metrics: options.metrics }))
    }

    /// What serves it.
    pub fn router(self) -> Router {
        let wrong_method = async || Error::wrong_method();
        let watched = axum::middleware::from_fn_with_state(self.clone(), watched::watched);
        Router::new()
            .route("/v1/chat/completions", post(chat::complete))
            .route("/v1/embeddings", post(embeddings::embed))
            .route("/v1/images/generations", post(images::generate))
            .route("/v1/models", get(models::list))
            .route("/v1/models/{*id}", get(models::one))
            .fallback(async || Error::no_such_url())
            .method_not_allowed_fallback(wrong_method)
            .layer(watched)
            .with_state(self)
    }

    /// The providers, in the order they are tried.
    async fn providers(&self) -> Result<Vec<v1::Provider>, Error> {
        Ok(self.0.broker.listed().await?.providers)
    }

    /// Seconds since 1970.
    fn now(&self) -> i64 {
        self.0.api.deps.clock.now().micros().div_euclid(1_000_000)
    }

    /// A new id that begins so.
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{:032x}", self.0.api.tracer().root().trace_id())
    }
}
