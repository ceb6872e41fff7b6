//! Embeddings: what is sent and what comes back.

use super::error::in_document;
use crate::provider::ProviderEmbeddings;
use crate::wire::document;
use callboard_domain::llm::{EmbeddingRequest, Error, Usage};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize)]
pub(super) struct Batch<'a> {
    requests: Vec<One<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    /// Each names the model again.
    model: String,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Part<'a> {
    text: &'a str,
}

/// The body of a call.
pub(super) fn batch<'a>(request: &'a EmbeddingRequest, model: &str) -> Batch<'a> {
    let model = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    let one = |text: &'a String| One {
        model: model.clone(),
        content: Content { parts: [Part { text }] },
        output_dimensionality: request.dimensions,
    };
    Batch { requests: request.inputs.iter().map(one).collect() }
}

#[derive(Debug, Deserialize)]
struct Embeddings {
    embeddings: Vec<Embedding>,
}

#[derive(Debug, Deserialize)]
struct Embedding {
    values: Vec<f32>,
}

/// The vectors. The API does not count tokens here.
pub(super) fn read(body: &[u8], model: &str) -> Result<ProviderEmbeddings, Error> {
    let answer: Embeddings = document(body, "the answer holds no embeddings", in_document)?;
    Ok(ProviderEmbeddings {
        vectors: answer.embeddings.into_iter().map(|embedding| embedding.values).collect(),
        model: model.to_owned(),
        usage: Usage::default(),
    })
}
