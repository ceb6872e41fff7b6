//! The Messages API of Anthropic.
//!
//! Exact in what it sends, tolerant in what it takes: unknown fields, events and blocks are skipped, a malformed
//! answer is an error of its own kind and never a panic. It makes neither images nor embeddings, and knows no idempotency: a call
//! that is made again is a new one.

mod error;
mod message;
mod request;
mod response;
mod stream;
mod tools;

use crate::config::{Adapter, ProviderConfig};
use crate::keys::Key;
use crate::provider::{ChunkStream, Description, Provider, ProviderImage, ProviderText};
use crate::wire::{Auth, Client, Protocol, TEXT_BYTES, no_images};
use async_trait::async_trait;
use callboard_domain::llm::{Error, ImageRequest, TextRequest};
use std::sync::Arc;

const PROTOCOL: Protocol = Protocol {
    auth: Auth::Header("x-api-key"),
    header: Some(("anthropic-version", "2023-06-01")),
    idempotency: None,
    refusal: error::of_answer,
};
const PATH: &str = "v1/messages";

/// A provider that speaks the Messages API.
#[derive(Clone, Debug)]
pub(crate) struct Anthropic {
    name: String,
    client: Client,
    text_model: String,
}

impl Anthropic {
    /// The provider of a configuration, with one of its keys.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(crate) fn new(config: &ProviderConfig, key: Arc<Key>) -> Result<Self, (&'static str, String)> {
        Ok(Self {
            name: config.name.clone(),
            client: Client::new(config.base_url(), key, PROTOCOL)?,
            text_model: config.text_model.clone().unwrap_or_default(),
        })
    }

    /// The same with another key.
    pub(crate) fn with_key(&self, key: Arc<Key>) -> Self {
        Self { client: self.client.with_key(key), ..self.clone() }
    }
}

#[async_trait]
impl Provider for Anthropic {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> Description<&str> {
        Description {
            adapter: Adapter::Anthropic,
            base_url: self.client.base_url(),
            text_model: &self.text_model,
            image_model: "",
            embedding_model: "",
            has_key: self.client.has_key(),
        }
    }

    async fn text(&self, request: &TextRequest) -> Result<ProviderText, Error> {
        let answer = async {
            let model = request.model.as_ref().unwrap_or(&self.text_model);
            let body = request::message(request, model, false)?;
            let answer = self.client.post(PATH, &body, None).await?;
            response::text(&self.client.read(answer, TEXT_BYTES).await?, model)
        };
        answer.await.map_err(|e| self.client.clean(e))
    }

    async fn text_stream(&self, request: &TextRequest) -> Result<ChunkStream, Error> {
        let stream = async {
            let model = request.model.as_ref().unwrap_or(&self.text_model);
            let body = request::message(request, model, true)?;
            let answer = self.client.post(PATH, &body, None).await?;
            self.client.chunks::<stream::Messages>(answer, model.clone(), response::text).await
        };
        stream.await.map_err(|e| self.client.clean(e))
    }

    fn dropped(&self, request: &TextRequest, _model: &str) -> Vec<&'static str> {
        request::unsaid(request)
    }

    async fn image(&self, _request: &ImageRequest) -> Result<ProviderImage, Error> {
        Err(no_images())
    }
}

/// Its parsers, for whoever tries any bytes on them.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) const fn parsers() -> crate::fuzz::Parsers {
    crate::fuzz::Parsers {
        text: response::text,
        others: &[],
        refusal: PROTOCOL.refusal,
        stream: crate::wire::read_parts::<stream::Messages>,
    }
}
