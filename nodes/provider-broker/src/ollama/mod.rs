//! The native API of Ollama. Its OpenAI-compatible one, under `/v1`, is what the adapter `openai` speaks.
//!
//! Exact in what it sends, tolerant in what it takes: unknown fields are skipped, a malformed answer is an error of
//! its own kind and never a panic. It makes no images, and knows no idempotency: a call that is made again is a
//! new one. A server on one's own machine wants no key; one behind a gateway may.

mod embedding;
mod error;
mod message;
mod request;
mod response;
mod stream;

use crate::config::{Adapter, ProviderConfig};
use crate::keys::Key;
use crate::provider::{ChunkStream, Description, Provider, ProviderEmbeddings, ProviderImage, ProviderText};
use crate::wire::{Auth, Client, EMBEDDING_BYTES, Protocol, TEXT_BYTES, TextModel, no_images};
use async_trait::async_trait;
use callboard_domain::llm::{EmbeddingRequest, Error, ImageRequest, TextRequest};
use std::sync::Arc;

const PROTOCOL: Protocol =
    Protocol { auth: Auth::Bearer, header: None, idempotency: None, refusal: error::of_answer };
const PATH: &str = "api/chat";

/// A provider that speaks the native API of Ollama.
#[derive(Clone, Debug)]
pub(crate) struct Ollama {
    name: String,
    client: Client,
    text_model: TextModel,
    embedding_model: String,
}

impl Ollama {
    /// The provider of a configuration, with one of its keys.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(crate) fn new(config: &ProviderConfig, key: Arc<Key>) -> Result<Self, (&'static str, String)> {
        Ok(Self {
            name: config.name.clone(),
            client: Client::new(config.base_url(), key, PROTOCOL)?,
            text_model: TextModel::new(config.text_model.clone()),
            embedding_model: config.embedding_model.clone().unwrap_or_default(),
        })
    }

    /// The same with another key.
    pub(crate) fn with_key(&self, key: Arc<Key>) -> Self {
        Self { client: self.client.with_key(key), ..self.clone() }
    }

    async fn model(&self, asked: Option<&String>) -> Result<String, Error> {
        let list = async || {
            let answer = self.client.get("api/tags").await?;
            response::models(&self.client.read(answer, TEXT_BYTES).await?)
        };
        self.text_model.pick(asked, list).await
    }
}

#[async_trait]
impl Provider for Ollama {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> Description<&str> {
        Description {
            adapter: Adapter::Ollama,
            base_url: self.client.base_url(),
            text_model: self.text_model.known(),
            image_model: "",
            embedding_model: &self.embedding_model,
            has_key: self.client.has_key(),
        }
    }

    async fn text(&self, request: &TextRequest) -> Result<ProviderText, Error> {
        let answer = async {
            let model = self.model(request.model.as_ref()).await?;
            let answer = self.client.post(PATH, &request::chat(request, &model, false)?, None).await?;
            response::text(&self.client.read(answer, TEXT_BYTES).await?, &model)
        };
        answer.await.map_err(|e| self.client.clean(e))
    }

    async fn text_stream(&self, request: &TextRequest) -> Result<ChunkStream, Error> {
        let stream = async {
            let model = self.model(request.model.as_ref()).await?;
            let answer = self.client.post(PATH, &request::chat(request, &model, true)?, None).await?;
            self.client.chunks::<stream::Chat>(answer, model, response::text).await
        };
        stream.await.map_err(|e| self.client.clean(e))
    }

    fn dropped(&self, request: &TextRequest, _model: &str) -> Vec<&'static str> {
        request::unsaid(request)
    }

    async fn image(&self, _request: &ImageRequest) -> Result<ProviderImage, Error> {
        Err(no_images())
    }

    async fn embed(&self, request: &EmbeddingRequest, model: &str) -> Result<ProviderEmbeddings, Error> {
        let embeddings = async {
            let answer = self.client.post("api/embed", &embedding::body(request, model), None).await?;
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
        others: &[|body| response::models(body).is_ok()],
        refusal: PROTOCOL.refusal,
        stream: crate::wire::read_parts::<stream::Chat>,
    }
}
