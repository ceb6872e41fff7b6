//! Embeddings: what is sent and what comes back.

use super::error::in_document;
use crate::provider::ProviderEmbeddings;
use crate::wire::{count, document};
use callboard_domain::llm::{EmbeddingRequest, Error, Usage};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    input: &'a [String],
    /// A text that is too long shall be an error, not half a text.
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

/// The body of a call.
pub(super) fn body<'a>(request: &'a EmbeddingRequest, model: &'a str) -> Body<'a> {
    Body { model, input: &request.inputs, truncate: false, dimensions: request.dimensions }
}

#[derive(Debug, Deserialize)]
struct Embeddings {
    #[serde(default)]
    model: Option<String>,
    embeddings: Vec<Vec<f32>>,
    #[serde(default, deserialize_with = "count")]
    prompt_eval_count: u32,
}

/// The vectors.
pub(super) fn read(body: &[u8], model: &str) -> Result<ProviderEmbeddings, Error> {
    let answer: Embeddings = document(body, "the answer holds no embeddings", in_document)?;
    Ok(ProviderEmbeddings {
        vectors: answer.embeddings,
        model: answer.model.filter(|m| !m.is_empty()).unwrap_or_else(|| model.to_owned()),
        usage: Usage::of(answer.prompt_eval_count, 0),
    })
}
