//! Google's Gemini API.
//!
//! Exact in what it sends, tolerant in what it takes: unknown fields and parts are skipped, a malformed answer is
//! an error of its own kind and never a panic. Its models for images answer in sizes of their own: see [`image`]. It
//! knows no idempotency: a call that is made again is a new one.

mod content;
mod embedding;
mod error;
mod image;
mod request;
mod response;
mod stream;
mod tools;

use crate::config::{Adapter, ProviderConfig};
use crate::keys::Key;
use crate::provider::{ChunkStream, Description, Provider, ProviderEmbeddings, ProviderImage, ProviderText};
use crate::wire::{Auth, Client, EMBEDDING_BYTES, IMAGE_BYTES, Protocol, TEXT_BYTES, no_images};
use async_trait::async_trait;
use callboard_domain::llm::{EmbeddingRequest, Error, ImageRequest, TextRequest};
use image::Api;
use std::sync::Arc;

const PROTOCOL: Protocol = Protocol {
    auth: Auth::Header("x-goog-api-key"),
    header: None,
    idempotency: None,
    refusal: error::of_answer,
};

/// A provider that speaks the Gemini API.
#[derive(Clone, Debug)]
pub(crate) struct Gemini {
    name: String,
    client: Client,
    text_model: String,
    image_model: Option<String>,
    embedding_model: String,
}

impl Gemini {
    /// The provider of a configuration, with one of its keys.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(crate) fn new(config: &ProviderConfig, key: Arc<Key>) -> Result<Self, (&'static str, String)> {
        Ok(Self {
            name: config.name.clone(),
            client: Client::new(config.base_url(), key, PROTOCOL)?,
            text_model: config.text_model.clone().unwrap_or_default(),
            image_model: config.image_model.clone(),
            embedding_model: config.embedding_model.clone().unwrap_or_default(),
        })
    }

    /// The same with another key.
    pub(crate) fn with_key(&self, key: Arc<Key>) -> Self {
        Self { client: self.client.with_key(key), ..self.clone() }
    }
}

#[async_trait]
impl Provider for Gemini {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> Description<&str> {
        Description {
            adapter: Adapter::Gemini,
            base_url: self.client.base_url(),
            text_model: &self.text_model,
            image_model: self.image_model.as_deref().unwrap_or_default(),
            embedding_model: &self.embedding_model,
            has_key: self.client.has_key(),
        }
    }

    async fn text(&self, request: &TextRequest) -> Result<ProviderText, Error> {
        let answer = async {
            let model = request.model.as_ref().unwrap_or(&self.text_model);
            let path = request::path(model, "generateContent")?;
            let answer = self.client.post(&path, &request::content(request, model)?, None).await?;
            response::text(&self.client.read(answer, TEXT_BYTES).await?, model)
        };
        answer.await.map_err(|e| self.client.clean(e))
    }

    async fn text_stream(&self, request: &TextRequest) -> Result<ChunkStream, Error> {
        let stream = async {
            let model = request.model.as_ref().unwrap_or(&self.text_model);
            let path = request::path(model, "streamGenerateContent?alt=sse")?;
            let answer = self.client.post(&path, &request::content(request, model)?, None).await?;
            self.client.chunks::<stream::Contents>(answer, model.clone(), response::text).await
        };
        stream.await.map_err(|e| self.client.clean(e))
    }

    fn dropped(&self, request: &TextRequest, _model: &str) -> Vec<&'static str> {
        request::unsaid(request)
    }

    async fn image(&self, request: &ImageRequest) -> Result<ProviderImage, Error> {
        let image = async {
            let model = self.image_model.as_deref().ok_or_else(no_images)?;
            let api = Api::of(model);
            let path = request::path(model, api.method())?;
            let answer = self.client.post(&path, &api.body(request, model), None).await?;
            api.read(&self.client.read(answer, IMAGE_BYTES).await?, model)
        };
        image.await.map_err(|e| self.client.clean(e))
    }

    async fn embed(&self, request: &EmbeddingRequest, model: &str) -> Result<ProviderEmbeddings, Error> {
        let embeddings = async {
            let path = request::path(model, "batchEmbedContents")?;
            let answer = self.client.post(&path, &embedding::batch(request, model), None).await?;
            embedding::read(&self.client.read(answer, EMBEDDING_BYTES).await?, model)
        };
        embeddings.await.map_err(|e| self.client.clean(e))
    }
}

/// Its parsers, for whoever tries any bytes on them.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) const fn parsers() -> crate::fuzz::Parsers {
    crate::fuzz::Parsers {
        text: response::text,
        others: &[
            |body| Api::Content.read(body, "m").is_ok(),
            |body| Api::Predict.read(body, "m").is_ok(),
            |body| embedding::read(body, "m").is_ok(),
        ],
        refusal: PROTOCOL.refusal,
        stream: crate::wire::read_parts::<stream::Contents>,
    }
}
