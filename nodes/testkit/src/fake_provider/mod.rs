//! An LLM provider with the wire formats of OpenAI, Anthropic, Gemini and Ollama, on a port of its own, that fails as it is told.
//!
//! It answers `POST /v1/chat/completions` (in one piece and as a stream), `POST /v1/images/generations`
//! and `GET /v1/models` as OpenAI does, `POST /v1/messages` as Anthropic does,
//! `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent` as Gemini does, and `POST /api/chat`
//! and `GET /api/tags` as Ollama does. Faults are set through [`FakeProvider::fault`] or, from another process, with
//! `PUT /__faults` and the JSON of a [`Plan`]; `DELETE /__faults` ends them; `GET /__requests` is the log.
//!
//! Images are made at `:generateContent`, if it is asked for them, and `:predict`, too. Embeddings are made at `POST /v1/embeddings`, `:batchEmbedContents` and `POST /api/embed`.
//!
//! Without a script it answers `fake: ` and the last user message, as a JSON object if one is asked for, with ` +N` if N
//! images were shown. Tools that are offered are called, each with what was said last; once there is a result, the answer
//! is `fake: ` and the results.

mod allowance;
mod anthropic;
mod chat;
mod embeddings;
mod fault;
mod gemini;
mod http;
mod images;
mod ollama;
mod openai;
mod socket;
mod state;
mod steps;
mod tools;
mod wire;

pub use allowance::Allowance;
pub use fault::{Endpoint, Fault, Plan, Rule};
pub use state::{Counts, Recorded};

use socket::Listener;
use state::State;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running fake provider. Dropping it resets its connections and closes its port.
#[derive(Debug)]
pub struct FakeProvider {
    state: Arc<State>,
    addr: SocketAddr,
    _stop: DropGuard,
    _server: JoinSet<()>,
}

/// What a fake provider is started with.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    keys: Vec<String>,
    models: Vec<String>,
}

impl Builder {
    /// Requests without this key are refused; of several, without one of them.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// The models of `GET /v1/models` and `GET /api/tags`. Requests may name any other, too.
    #[must_use]
    pub fn models(mut self, models: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.models = models.into_iter().map(Into::into).collect();
        self
    }

    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(self) -> std::io::Result<FakeProvider> {
        let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = inner.local_addr()?;
        let stop = CancellationToken::new();
        let state = Arc::new(State::new(self.keys, self.models));
        let app = http::app(state.clone()).into_make_service_with_connect_info::<socket::Connection>();
        let listener = Listener { inner, stop: stop.clone() };
        let mut server = JoinSet::new();
        server.spawn(async move {
            // It only ends with the JoinSet.
            let _ = axum::serve(listener, app).await;
        });
        Ok(FakeProvider { state, addr, _stop: stop.drop_guard(), _server: server })
    }
}

impl FakeProvider {
    /// Starts one that needs no key.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start() -> std::io::Result<Self> {
        Self::builder().start().await
    }

    /// The settings of one to start.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { keys: Vec::new(), models: vec!["fake-text".into(), "fake-image".into()] }
    }

    /// The address to configure as the base URL of a provider like OpenAI, for example
    /// `http://127.0.0.1:4711/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.root_url())
    }

    /// The address to configure as the base URL of any other provider, for example `http://127.0.0.1:4711`.
    #[must_use]
    pub fn root_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where `PUT /__faults` goes, for another process.
    #[must_use]
    pub fn faults_url(&self) -> String {
        format!("http://{}/__faults", self.addr)
    }

    /// Every request fails so from now on.
    pub fn fault(&self, fault: Fault) {
        self.rules([Rule::standing(fault)]);
    }

    /// Replaces the rules by which requests fail.
    pub fn rules(&self, rules: impl IntoIterator<Item = Rule>) {
        self.plan(Plan { seed: 0, rules: rules.into_iter().collect() });
    }

    /// Replaces the rules, and the seed of their probabilities.
    pub fn plan(&self, plan: Plan) {
        self.state.set_plan(plan);
    }

    /// No request fails from now on.
    pub fn heal(&self) {
        self.plan(Plan::default());
    }

    /// From now on requests are refused that have none of these keys.
    pub fn keys(&self, keys: impl IntoIterator<Item = impl Into<String>>) {
        self.state.set_keys(keys.into_iter().map(Into::into).collect());
    }

    /// From now on so many requests are answered, over each key to each model.
    pub fn allow(&self, allowance: Allowance) {
        self.state.allow(Some(allowance));
    }

    /// How many requests were more than is allowed.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.state.ledger().refused()
    }

    /// The next answers, one for each request that is answered with a text. After them it echoes again.
    pub fn answers(&self, answers: impl IntoIterator<Item = impl Into<String>>) {
        self.state.push_answers(answers.into_iter().map(Into::into));
    }

    /// The requests so far, oldest first; at most the last 10,000.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.requests()
    }

    /// How many requests there were.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.state.counts().borrow()
    }

    /// Waits until the counts are as wanted. Returns the last ones, as an error if time was up before.
    ///
    /// # Errors
    /// The counts when the deadline passed.
    pub async fn wait(
        &self,
        wanted: impl FnMut(&Counts) -> bool,
        deadline: Duration,
    ) -> Result<Counts, Counts> {
        let mut counts = self.state.counts();
        let met = tokio::time::timeout(deadline, counts.wait_for(wanted))
            .await
            .ok()
            .and_then(Result::ok)
            .map(|c| *c);
        met.ok_or_else(|| self.counts())
    }
}
