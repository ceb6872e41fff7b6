//! The API of OpenAI and of every server that speaks it: vLLM, llama.cpp, Ollama under `/v1`, gateways.
//!
//! Exact in what it sends, tolerant in what it takes: unknown fields are skipped, a malformed answer is an
//! error of its own kind and never a panic, and every answer has a limit in bytes.

mod error;
mod message;
mod request;
mod response;
mod stream;
mod tools;

use crate::config::{Adapter, ProviderConfig};
use crate::keys::Key;
use crate::provider::{ChunkStream, Description, Provider, ProviderEmbeddings, ProviderImage, ProviderText};
use crate::wire::{Auth, Client, EMBEDDING_BYTES, IMAGE_BYTES, Protocol, TEXT_BYTES, TextModel, no_images};
use async_trait::async_trait;
use callboard_domain::llm::{EmbeddingRequest, Error, ImageRequest, TextRequest};
use std::sync::Arc;

const PROTOCOL: Protocol = Protocol {
    auth: Auth::Bearer,
    header: None,
    idempotency: Some("Idempotency-Key"),
    refusal: error::of_answer,
};

/// A provider that speaks the API of OpenAI.
#[derive(Clone, Debug)]
pub(crate) struct OpenAi {
    name: String,
    client: Client,
    text_model: TextModel,
    image_model: Option<String>,
    embedding_model: Option<String>,
}

impl OpenAi {
    /// The provider of a configuration, with one of its keys.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(crate) fn new(config: &ProviderConfig, key: Arc<Key>) -> Result<Self, (&'static str, String)> {
        Ok(Self {
            name: config.name.clone(),
            client: Client::new(config.base_url(), key, PROTOCOL)?,
            text_model: TextModel::new(config.text_model.clone()),
            image_model: config.image_model.clone(),
            embedding_model: config.embedding_model.clone(),
        })
    }

    /// The same with another key.
    pub(crate) fn with_key(&self, key: Arc<Key>) -> Self {
        Self { client: self.client.with_key(key), ..self.clone() }
    }

    async fn model(&self, asked: Option<&String>) -> Result<String, Error> {
        let list = async || {
            let answer = self.client.get("models").await?;
            response::models(&self.client.read(answer, TEXT_BYTES).await?)
        };
        self.text_model.pick(asked, list).await
    }
}

#[async_trait]
impl Provider for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> Description<&str> {
        Description {
            adapter: Adapter::OpenAi,
            base_url: self.client.base_url(),
            text_model: self.text_model.known(),
            image_model: self.image_model.as_deref().unwrap_or_default(),
            embedding_model: self.embedding_model.as_deref().unwrap_or_default(),
            has_key: self.client.has_key(),
        }
    }

    async fn text(&self, request: &TextRequest) -> Result<ProviderText, Error> {
        let answer = async {
            let model = self.model(request.model.as_ref()).await?;
            let body = request::chat(request, &model, false)?;
            let answer =
                self.client.post("chat/completions", &body, request.idempotency_key.as_deref()).await?;
            response::text(&self.client.read(answer, TEXT_BYTES).await?, &model)
        };
        answer.await.map_err(|e| self.client.clean(e))
    }

    async fn text_stream(&self, request: &TextRequest) -> Result<ChunkStream, Error> {
        let stream = async {
            let model = self.model(request.model.as_ref()).await?;
            let body = request::chat(request, &model, true)?;
            let answer =
                self.client.post("chat/completions", &body, request.idempotency_key.as_deref()).await?;
            self.client.chunks::<stream::Chunks>(answer, model, response::text).await
        };
        stream.await.map_err(|e| self.client.clean(e))
    }

    fn dropped(&self, request: &TextRequest, model: &str) -> Vec<&'static str> {
        request::unsaid(request, model)
    }

    async fn image(&self, request: &ImageRequest) -> Result<ProviderImage, Error> {
        let image = async {
            let Some(model) = &self.image_model else {
                return Err(no_images());
            };
            let body = request::image(request, model);
            let answer =
                self.client.post("images/generations", &body, request.idempotency_key.as_deref()).await?;
            response::image(&self.client.read(answer, IMAGE_BYTES).await?, model)
        };
        image.await.map_err(|e| self.client.clean(e))
    }

    async fn embed(&self, request: &EmbeddingRequest, model: &str) -> Result<ProviderEmbeddings, Error> {
        let embeddings = async {
            let body = request::embeddings(request, model);
            let answer = self.client.post("embeddings", &body, request.idempotency_key.as_deref()).await?;
            response::embeddings(&self.client.read(answer, EMBEDDING_BYTES).await?, model)
        };
        embeddings.await.map_err(|e| self.client.clean(e))
    }
}

/// Its parsers, for whoever tries any bytes on them.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) const fn parsers() -> crate::fuzz::Parsers {
    crate::fuzz::Parsers {
        text: response::text,
        others: &[|body| response::image(body, "m").is_ok(), |body| response::models(body).is_ok()],
        refusal: PROTOCOL.refusal,
        stream: crate::wire::read_parts::<stream::Chunks>,
    }
}
