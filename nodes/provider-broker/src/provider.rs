//! What the router knows of a provider.

use crate::config::Adapter;
use crate::wire::no_embeddings;
use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::llm::{
    EmbeddingRequest, Error, ImageRequest, TextRequest, ToolCall, ToolCallDelta, Usage,
};
use futures::stream::BoxStream;

/// A text as a provider gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderText {
    /// The text; empty where the model only asks for tools.
    pub text: String,
    /// What it would have tools do. An id is empty if the provider gave none.
    pub tool_calls: Vec<ToolCall>,
    /// Why the model stopped: `stop`, `length`, `tool_calls`.
    pub finish_reason: String,
    /// The model that wrote it.
    pub model: String,
    /// The tokens it took; zero if the provider did not say.
    pub usage: Usage,
}

/// An image as a provider gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderImage {
    /// The image.
    pub data: Bytes,
    /// Its media type, for example `image/png`.
    pub media_type: String,
    /// The model that made it.
    pub model: String,
    /// The tokens it took; zero if the provider did not say.
    pub usage: Usage,
}

/// Vectors as a provider gave them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderEmbeddings {
    /// The vectors, one for each text, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// The model that made them.
    pub model: String,
    /// The tokens it took; zero if the provider did not say.
    pub usage: Usage,
}

/// A piece of a streamed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// More text.
    Delta(String),
    /// More of what a tool shall do. An id is empty if the provider gave none.
    ToolCall(ToolCallDelta),
    /// The end; nothing follows it.
    End {
        /// The tokens it took; zero if the provider did not say.
        usage: Usage,
        /// Why the model stopped.
        finish_reason: String,
        /// The model that wrote it.
        model: String,
    },
}

/// The stream of a text. It ends after a [`Chunk::End`] or an error. Dropping it ends the call.
pub type ChunkStream = BoxStream<'static, Result<Chunk, Error>>;

/// What a provider is, without secrets: as it says of itself, for calls to look at, or as a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description<Text = String> {
    /// Its adapter.
    pub adapter: Adapter,
    /// Its base URL; empty for `offline`.
    pub base_url: Text,
    /// The model for text where a call names none; empty if it is not known yet.
    pub text_model: Text,
    /// The model for images; empty if it makes none.
    pub image_model: Text,
    /// The model for embeddings where a call names none; empty if there is none.
    pub embedding_model: Text,
    /// Whether it has a key.
    pub has_key: bool,
}

impl From<Description<&str>> for Description {
    fn from(seen: Description<&str>) -> Self {
        Self {
            adapter: seen.adapter,
            base_url: seen.base_url.into(),
            text_model: seen.text_model.into(),
            image_model: seen.image_model.into(),
            embedding_model: seen.embedding_model.into(),
            has_key: seen.has_key,
        }
    }
}

/// A provider of language and image models.
///
/// An implementation does not limit its own time: the router drops a call that takes too long. Its errors
/// hold no key and no attempts.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// What it is.
    fn describe(&self) -> Description<&str>;

    /// Generates a text.
    ///
    /// # Errors
    /// Why the provider did not give a whole answer.
    async fn text(&self, request: &TextRequest) -> Result<ProviderText, Error>;

    /// Generates a text as a stream.
    ///
    /// # Errors
    /// Why the provider did not begin an answer.
    async fn text_stream(&self, request: &TextRequest) -> Result<ChunkStream, Error>;

    /// The names of what such a request hints at and is not told to this model, as there is no word for it.
    fn dropped(&self, _request: &TextRequest, _model: &str) -> Vec<&'static str> {
        Vec::new()
    }

    /// Generates an image. The provider may choose the nearest size it can make.
    ///
    /// # Errors
    /// Why the provider did not give an image.
    async fn image(&self, request: &ImageRequest) -> Result<ProviderImage, Error>;

    /// Turns texts into vectors, with this model.
    ///
    /// # Errors
    /// Why the provider did not give one for each text; [`ErrorKind::Unsupported`] if it makes none at all.
    ///
    /// [`ErrorKind::Unsupported`]: callboard_domain::llm::ErrorKind::Unsupported
    async fn embed(&self, _request: &EmbeddingRequest, _model: &str) -> Result<ProviderEmbeddings, Error> {
        Err(no_embeddings())
    }
}
