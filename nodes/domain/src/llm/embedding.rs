//! Texts as vectors.

use super::Summary;
use std::time::Duration;

/// Texts to turn into vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddingRequest {
    /// The texts, each not empty.
    pub inputs: Vec<String>,
    /// The model; the first provider's own if `None`.
    pub model: Option<String>,
    /// How many numbers a vector shall have; as many as the model gives if `None`.
    pub dimensions: Option<u32>,
    /// The provider to use, and no other.
    pub provider: Option<String>,
    /// The time over all attempts; the configuration's if `None`.
    pub timeout: Option<Duration>,
    /// The stable key of this call: `task/step`.
    pub idempotency_key: Option<String>,
}

impl EmbeddingRequest {
    /// A request for the vectors of these texts.
    #[must_use]
    pub fn of(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { inputs: texts.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// Vectors, one for each text, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddingResponse {
    /// The vectors.
    pub vectors: Vec<Vec<f32>>,
    /// How they came about.
    pub summary: Summary,
}
