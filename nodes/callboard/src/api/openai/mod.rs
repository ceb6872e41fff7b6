//! The endpoint that speaks OpenAI's API: `/v1/*` on the public listener, for programs that have a client of it.
//!
//! A request is read ([`body`], [`request`]), its model is looked up ([`models`]), the ProviderBroker is called, and what
//! it says is written as OpenAI would ([`answer`], [`stream`], [`error`]). Around every request is [`watched`]: its
//! place in a trace, whether it may call ([`keys`]), and what is counted.
//!
//! - What the broker cannot carry is refused with the name of the parameter, never dropped.
//! - A stream that did not come to its end is never closed as if it had.
//! - Nothing is spawned: dropping a request, or its answer, ends the call at the provider.
//! - No answer and no span holds a key.
//!
//! It does not limit what a key may spend, and passes neither tools nor images on: the broker cannot yet.

mod answer;
mod body;
mod chat;
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
use callboard_contracts::mesh::v1::ListProvidersRequest;
use callboard_contracts::v1;
use callboard_domain::limits;
use error::Error;
use keys::Access;
use models::Models;
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of a body: what may be asked, and what JSON puts around it.
const BODY_BYTES: usize = 4 * limits::INPUT_BYTES;
/// How long the ProviderBroker may take to say which providers there are.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

/// What the endpoint is given beside the [`Api`].
pub struct Options<'a> {
    /// Its section of the configuration.
    pub config: &'a config::OpenAi,
    /// Whether only this machine reaches the listener.
    pub loopback: bool,
    /// The providers of this node; none if another node calls them.
    pub providers: Option<Vec<String>>,
    /// Counts its requests.
    pub metrics: HttpMetrics,
}

/// The endpoint.
#[derive(Clone)]
pub struct Endpoint(Arc<Shared>);

struct Shared {
    api: Api,
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
        let models = Models::new(options.config.models.clone(), options.providers, api.deps.clock.now());
        Self(Arc::new(Shared { api: api.clone(), access, models, metrics: options.metrics }))
    }

    /// What serves it.
    pub fn router(self) -> Router {
        let wrong_method = async || Error::wrong_method();
        let watched = axum::middleware::from_fn_with_state(self.clone(), watched::watched);
        Router::new()
            .route("/v1/chat/completions", post(chat::complete))
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
        let answer = self.0.api.deps.broker.list_providers(ListProvidersRequest::default(), LISTED_WITHIN);
        Ok(answer.await?.providers)
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
