//! What direct calls to models return, but for texts.

use super::cluster::Summary;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use callboard_client::v1;
use serde::Serialize;

/// Texts as vectors.
#[derive(Serialize)]
pub struct Vectors<'a> {
    embeddings: Vec<Vector<'a>>,
    summary: Option<Summary<'a>>,
}

#[derive(Serialize)]
struct Vector<'a> {
    text: &'a str,
    values: &'a [f32],
}

impl<'a> Vectors<'a> {
    /// The vectors of these texts.
    #[must_use]
    pub fn new(texts: &'a [String], response: &'a v1::EmbedResponse) -> Self {
        let vector =
            |(text, vector): (&'a String, &'a v1::Embedding)| Vector { text, values: &vector.values };
        Self {
            embeddings: texts.iter().zip(&response.embeddings).map(vector).collect(),
            summary: response.summary.as_ref().map(Into::into),
        }
    }
}

/// An image, in base64.
#[derive(Serialize)]
pub struct Image<'a> {
    media_type: &'a str,
    size_bytes: usize,
    base64: String,
    summary: Option<Summary<'a>>,
}

impl<'a> From<&'a v1::GenerateImageResponse> for Image<'a> {
    fn from(image: &'a v1::GenerateImageResponse) -> Self {
        Self {
            media_type: &image.media_type,
            size_bytes: image.data.len(),
            base64: STANDARD.encode(&image.data),
            summary: image.summary.as_ref().map(Into::into),
        }
    }
}
