//! The configuration of the broker: which providers, in which order, and how long they may take.
//!
//! It never holds a key, only where to find one.

mod accounts;
mod breaker;
mod experiment;
mod key;
pub(crate) mod money;
mod problems;
mod retry;
mod routing;
mod span;
mod stages;

pub use breaker::Breaker;
pub use experiment::{ArmConfig, Experiment, Subject};
pub use key::KeyConfig;
pub(crate) use key::WEIGHT as KEY_WEIGHT;
pub(crate) use money::optional as optional_money;
pub use retry::Retry;
pub(crate) use routing::WEIGHT;
pub use routing::{Policy, RouteConfig, Routing, Target};
pub(crate) use span::optional as optional_span;
pub use stages::{Cache, Idempotency, KindCache, Pattern, Redact, Similar};

use crate::accounts::{Budget, Quota};
use crate::admission::Limit;
use crate::cost::Price;
use callboard_domain::{Violation, limits};
use key::is_name;
use problems::provider_problems;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The base URL of OpenAI's own API.
pub const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";
/// The base URL of Anthropic's API.
const ANTHROPIC_BASE_URL: &str = "https://api.anthropic.com";
/// The base URL of Google's Gemini API.
const GEMINI_BASE_URL: &str = "https://generativelanguage.googleapis.com";
/// Where Ollama is on one's own machine.
const OLLAMA_BASE_URL: &str = "http://localhost:11434";
/// The name of the offline generator where the defaults configure it.
pub const OFFLINE: &str = "offline";
/// The name of the provider that the defaults make of `OPENAI_API_KEY`.
const OPENAI: &str = "openai";
const OPENAI_API_KEY: &str = "OPENAI_API_KEY";
const OPENAI_TEXT_MODEL: &str = "gpt-4o-mini";
const OPENAI_IMAGE_MODEL: &str = "gpt-image-1";
const OPENAI_EMBEDDING_MODEL: &str = "text-embedding-3-small";

/// The wire a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adapter {
    /// The API of OpenAI, which vLLM, llama.cpp, Ollama and many more speak, too.
    OpenAi,
    /// The Messages API of Anthropic.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// The native API of Ollama.
    Ollama,
    /// No wire: texts and images from templates, made here.
    Offline,
}

impl Adapter {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::Offline => "offline",
        }
    }

    /// What OpenTelemetry's conventions call whoever speaks it.
    pub(crate) const fn telemetry_name(self) -> &'static str {
        match self {
            Self::Gemini => "gcp.gemini",
            other => other.as_str(),
        }
    }

    /// Where its own provider is; nowhere for `offline`.
    const fn base_url(self) -> &'static str {
        match self {
            Self::OpenAi => OPENAI_BASE_URL,
            Self::Anthropic => ANTHROPIC_BASE_URL,
            Self::Gemini => GEMINI_BASE_URL,
            Self::Ollama => OLLAMA_BASE_URL,
            Self::Offline => "",
        }
    }
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its name: at most 64 of `a-z 0-9 . _ -`, unique.
    pub name: String,
    /// The wire it speaks.
    pub adapter: Adapter,
    /// Where it is: for `openai` up to and with `/v1`, for others without any version. That of the adapter's own
    /// provider if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The environment variable that holds its key, if it has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// The file that holds its key, if it has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Its keys, if there are several; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyConfig>,
    /// The model for text where a call names none. If `None`, the first that the provider lists; `anthropic` and
    /// `gemini` must have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_model: Option<String>,
    /// The model for images. It makes none if `None`, and only `openai` and `gemini` can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_model: Option<String>,
    /// The model for embeddings where a call names none. `anthropic` makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_model: Option<String>,
}

impl ProviderConfig {
    /// The offline generator.
    #[must_use]
    pub fn offline() -> Self {
        Self::named(OFFLINE, Adapter::Offline)
    }

    /// A provider with an OpenAI-compatible API, without key and models.
    #[must_use]
    pub fn openai(name: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self { base_url: Some(base_url.into()), ..Self::named(name, Adapter::OpenAi) }
    }

    /// Where it is.
    pub(crate) fn base_url(&self) -> &str {
        self.base_url.as_deref().unwrap_or(self.adapter.base_url())
    }

    /// A provider of an adapter, with nothing else set.
    #[must_use]
    pub fn named(name: impl Into<String>, adapter: Adapter) -> Self {
        Self {
            name: name.into(),
            adapter,
            base_url: None,
            api_key_env: None,
            api_key_file: None,
            keys: Vec::new(),
            text_model: None,
            image_model: None,
            embedding_model: None,
        }
    }
}

/// The configuration. Spans are written with a unit: `"500ms"`, `"30s"`, `"2m"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The providers, in the order they are tried.
    pub providers: Vec<ProviderConfig>,
    /// In which order they are tried instead, for calls that name no route.
    pub routing: Routing,
    /// Names for models of providers.
    pub routes: Vec<RouteConfig>,
    /// Names that lead one way or another, by share.
    pub experiments: Vec<Experiment>,
    /// How much may be asked of them: of all together, of one, of one of its models.
    pub limits: Vec<Limit>,
    /// How much may be asked of each in an hour or a day.
    pub quotas: Vec<Quota>,
    /// What models cost.
    pub prices: Vec<Price>,
    /// What the table of prices is called in answers.
    pub prices_version: String,
    /// How much namespaces may spend.
    pub budgets: Vec<Budget>,
    /// The longest one attempt at a text may take; for a stream, until its first piece.
    #[serde(with = "span")]
    pub attempt_timeout: Duration,
    /// The longest all attempts at a text may take together, where the call names no timeout.
    #[serde(with = "span")]
    pub total_timeout: Duration,
    /// The longest one attempt at an image may take.
    #[serde(with = "span")]
    pub image_attempt_timeout: Duration,
    /// The longest all attempts at an image may take together.
    #[serde(with = "span")]
    pub image_total_timeout: Duration,
    /// The longest a stream may say nothing after its first piece.
    #[serde(with = "span")]
    pub stall_timeout: Duration,
    /// How long the offline generator takes for an answer: as long as a provider would, for a demo or a
    /// load test.
    #[serde(with = "span")]
    pub offline_latency: Duration,
    /// When a provider that fails is left out.
    pub breaker: Breaker,
    /// When a call is made again at the same provider.
    pub retry: Retry,
    /// Whether calls for the same text at the same time become one; not those that set a temperature over 0.
    pub single_flight: bool,
    /// When a text is answered with what the same call was answered before.
    pub cache: Cache,
    /// How long the answers of calls with an idempotency key are kept.
    pub idempotency: Idempotency,
    /// What is taken out of prompts before anybody else sees them.
    pub redact: Redact,
    /// When a call that no provider answers gets the answer to a similar one.
    pub similar: Similar,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            providers: vec![ProviderConfig::offline()],
            routing: Routing::default(),
            routes: Vec::new(),
            experiments: Vec::new(),
            limits: Vec::new(),
            quotas: Vec::new(),
            prices: Vec::new(),
            prices_version: String::new(),
            budgets: Vec::new(),
            attempt_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(60),
            image_attempt_timeout: Duration::from_secs(120),
            image_total_timeout: Duration::from_secs(180),
            stall_timeout: Duration::from_secs(30),
            offline_latency: Duration::ZERO,
            breaker: Breaker::default(),
            retry: Retry::default(),
            single_flight: true,
            cache: Cache::default(),
            idempotency: Idempotency::default(),
            redact: Redact::default(),
            similar: Similar::default(),
        }
    }
}

impl Config {
    /// What the environment alone configures: OpenAI first if `OPENAI_API_KEY` is set (at
    /// `OPENAI_BASE_URL`, if that is), and `offline` last in any case.
    #[must_use]
    pub fn from_env_defaults(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        let mut config = Self::default();
        if set(OPENAI_API_KEY).is_some() {
            let base_url = set("OPENAI_BASE_URL").unwrap_or_else(|| OPENAI_BASE_URL.into());
            let openai = ProviderConfig {
                api_key_env: Some(OPENAI_API_KEY.into()),
                text_model: Some(OPENAI_TEXT_MODEL.into()),
                image_model: Some(OPENAI_IMAGE_MODEL.into()),
                embedding_model: Some(OPENAI_EMBEDDING_MODEL.into()),
                ..ProviderConfig::openai(OPENAI, base_url)
            };
            config.providers.insert(0, openai);
        }
        config
    }

    /// Puts a provider with an OpenAI-compatible API first, for example Ollama at
    /// `http://localhost:11434/v1`. The provider `openai` is replaced and keeps its key. Without a model,
    /// the first that the provider lists is used. It makes no images.
    #[must_use]
    pub fn with_openai_base_url(mut self, base_url: impl Into<String>, model: Option<String>) -> Self {
        let old = self.providers.iter().position(|p| p.name == OPENAI).map(|i| self.providers.remove(i));
        let (api_key_env, api_key_file, keys) =
            old.map(|p| (p.api_key_env, p.api_key_file, p.keys)).unwrap_or_default();
        let provider = ProviderConfig {
            api_key_env,
            api_key_file,
            keys,
            text_model: model,
            ..ProviderConfig::openai(OPENAI, base_url)
        };
        self.providers.insert(0, provider);
        self
    }

    /// Every field that is wrong. Whether keys can be read is not looked at.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        let mut wrong = Vec::new();
        let mut bad = |field: String, description: &str| {
            wrong.push(Violation { field, description: description.into() })
        };
        if self.providers.is_empty() {
            bad("providers".into(), "must name at least one; the adapter `offline` needs no key");
        }
        for (i, provider) in self.providers.iter().enumerate() {
            let field = |name: &str| format!("providers[{i}].{name}");
            let name = &provider.name;
            if !is_name(name) {
                bad(field("name"), "must be 1 to 64 of a-z, 0-9, '.', '_' and '-'");
            } else if self.providers[..i].iter().any(|other| other.name == *name) {
                bad(field("name"), "must be unique");
            }
            for (key, problem) in provider_problems(provider) {
                bad(field(key), problem);
            }
            for (key, problem) in provider.key_problems() {
                bad(field(&key), problem);
            }
        }
        for (i, limit) in self.limits.iter().enumerate() {
            let field = |name: &str| format!("limits[{i}].{name}");
            for (key, problem) in limit.problems() {
                bad(field(key), problem);
            }
            let named = limit.provider.as_ref().map(|name| self.providers.iter().find(|p| p.name == *name));
            if named == Some(None) {
                bad(field("provider"), "must name one of the providers");
            }
            let has = |id: &String, p: &ProviderConfig| p.all_keys().iter().any(|(key, ..)| key == id);
            if let (Some(id), Some(Some(provider))) = (&limit.key, named)
                && !has(id, provider)
            {
                bad(field("key"), "must name one of the provider's keys");
            }
            let covers = |limit: &Limit| {
                let Limit { namespace, provider, key, model, .. } = limit;
                (namespace.clone(), provider.clone(), key.clone(), model.clone())
            };
            if self.limits[..i].iter().any(|other| covers(other) == covers(limit)) {
                bad(field("provider"), "has a limit for the same already");
            }
        }
        self.accounts_problems(&mut |field, description| bad(field, description));
        for (name, span) in [
            ("attempt_timeout", self.attempt_timeout),
            ("total_timeout", self.total_timeout),
            ("image_attempt_timeout", self.image_attempt_timeout),
            ("image_total_timeout", self.image_total_timeout),
            ("stall_timeout", self.stall_timeout),
        ] {
            if span.is_zero() || span > limits::TIMEOUT {
                bad(name.into(), "must be over zero and at most 24h");
            }
        }
        for (key, problem) in self.breaker.problems().into_iter().chain(self.retry.problems()) {
            bad(key.into(), problem);
        }
        for (key, problem) in
            [self.cache.problems(), self.idempotency.problems(), self.similar.problems()].concat()
        {
            bad(key, problem);
        }
        let routing = self.routing.problems(&self.providers);
        let experiments = experiment::experiment_problems(&self.experiments, &self.routes, &self.providers);
        let routes = routing::route_problems(&self.routes, &self.providers);
        for (key, problem) in [routing, routes, experiments].concat() {
            bad(key, problem);
        }
        if self.offline_latency > limits::TIMEOUT {
            wrong.push(Violation {
                field: "offline_latency".into(),
                description: "must be at most 24h".into(),
            });
        }
        wrong
    }
}

/// A configuration that cannot be used, with every wrong field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong provider configuration: {}", list(.violations))]
pub struct Error {
    /// What is wrong.
    pub violations: Vec<Violation>,
}

fn list(violations: &[Violation]) -> String {
    let items: Vec<_> = violations.iter().map(|v| format!("{} {}", v.field, v.description)).collect();
    items.join("; ")
}
