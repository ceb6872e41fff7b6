//! Texts as vectors.

use super::chat::bad;
use super::llm::some;
use super::{duration_from_proto, duration_to_proto, summary_from_proto, summary_to_proto};
use crate::error;
use crate::limits;
use crate::llm::{EmbeddingRequest, EmbeddingResponse};
use callboard_contracts::mesh::v1;
use std::time::Duration;

/// A request for embeddings on the mesh, without context and fence.
#[must_use]
pub fn embedding_request_to_proto(request: &EmbeddingRequest) -> v1::EmbedRequest {
    v1::EmbedRequest {
        context: None,
        fence: None,
        inputs: request.inputs.clone(),
        model: request.model.clone().unwrap_or_default(),
        dimensions: request.dimensions,
        provider: request.provider.clone().unwrap_or_default(),
        timeout: request.timeout.map(duration_to_proto),
        idempotency_key: request.idempotency_key.clone().unwrap_or_default(),
    }
}

/// A request for embeddings from the mesh.
///
/// # Errors
/// Every wrong field.
pub fn embedding_request_from_proto(request: v1::EmbedRequest) -> Result<EmbeddingRequest, error::Error> {
    let mut wrong = Vec::new();
    if request.inputs.is_empty() || request.inputs.len() > limits::EMBEDDING_INPUTS {
        bad(&mut wrong, "inputs".into(), "must be 1 to 2048 texts");
    }
    if let Some(i) = request.inputs.iter().position(String::is_empty) {
        bad(&mut wrong, format!("inputs[{i}]"), "must not be empty");
    }
    if request.inputs.iter().map(String::len).sum::<usize>() > limits::INPUT_BYTES {
        bad(&mut wrong, "inputs".into(), "must be at most 1 MiB together");
    }
    if request.dimensions.is_some_and(|n| !(1..=limits::EMBEDDING_DIMENSIONS).contains(&n)) {
        bad(&mut wrong, "dimensions".into(), "must be 1 to 16384");
    }
    let timeout = request.timeout.as_ref().map(duration_from_proto);
    if matches!(timeout, Some(None | Some(Duration::ZERO))) {
        bad(&mut wrong, "timeout".into(), "must be over zero");
    }
    if !wrong.is_empty() {
        return Err(error::Error::invalid(wrong));
    }
    Ok(EmbeddingRequest {
        inputs: request.inputs,
        model: some(&request.model),
        dimensions: request.dimensions,
        provider: some(&request.provider),
        timeout: timeout.flatten(),
        idempotency_key: some(&request.idempotency_key),
    })
}

/// Embeddings on the mesh.
#[must_use]
pub fn embeddings_to_proto(response: EmbeddingResponse) -> v1::EmbedResponse {
    let summary = Some(summary_to_proto(&response.summary));
    let embeddings = response.vectors.into_iter().map(|values| v1::Embedding { values }).collect();
    v1::EmbedResponse { embeddings, summary }
}

/// Embeddings from the mesh.
#[must_use]
pub fn embeddings_from_proto(response: v1::EmbedResponse) -> EmbeddingResponse {
    EmbeddingResponse {
        vectors: response.embeddings.into_iter().map(|embedding| embedding.values).collect(),
        summary: response.summary.map(summary_from_proto).unwrap_or_default(),
    }
}
