//! Vectors without a model: the words of a text, hashed to places (feature hashing, Weinberger et al. 2009). Texts with the
//! same words are near each other; what words mean is not known here.

use super::prompt::fnv;
use crate::provider::ProviderEmbeddings;
use callboard_domain::llm::{EmbeddingRequest, Usage};

pub(super) const MODEL: &str = "offline-hash-1";
/// How many numbers a vector has where a call names no number.
const DIMENSIONS: u32 = 256;

/// The vectors of texts, each of length 1.
pub(super) fn embed(request: &EmbeddingRequest) -> ProviderEmbeddings {
    let dimensions = request.dimensions.unwrap_or(DIMENSIONS).max(1) as usize;
    let words = request.inputs.iter().map(|text| super::words(text)).fold(0, u32::saturating_add);
    ProviderEmbeddings {
        vectors: request.inputs.iter().map(|text| vector(text, dimensions)).collect(),
        model: MODEL.into(),
        usage: Usage::of(words, 0),
    }
}

fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions];
    let lower = text.to_lowercase();
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        // The low bits of FNV are weak: it is mixed once more.
        let hash = fnv(0xcbf2_9ce4_8422_2325, word.as_bytes());
        let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = hash ^ (hash >> 32);
        let place = usize::try_from((hash >> 1) % dimensions as u64).unwrap_or(0);
        if let Some(number) = vector.get_mut(place) {
            *number += if hash & 1 == 0 { 1.0 } else { -1.0 };
        }
    }
    let length = vector.iter().map(|n| n * n).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|number| *number /= length);
    } else if let Some(first) = vector.first_mut() {
        // A text without words, or whose words cancel out, has a direction too.
        *first = 1.0;
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: &str, b: &str) -> f32 {
        let (a, b) = (vector(a, 256), vector(b, 256));
        a.iter().zip(&b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn texts_with_the_same_words_are_near_each_other() {
        assert!((near("a cup of tea", "Tea, of a cup!") - 1.0).abs() < 1e-6);
        assert!(near("a cup of tea", "a cup of coffee") > 0.5);
        assert!(near("a cup of tea", "distributed consensus protocols").abs() < 0.5);
        assert!((near("…", "") - 1.0).abs() < 1e-6);
        let request =
            EmbeddingRequest { inputs: vec!["x".into(); 2], dimensions: Some(3), ..Default::default() };
        let answer = embed(&request);
        assert_eq!((answer.vectors.len(), answer.vectors[1].len(), answer.usage.input_tokens), (2, 3, 2));
    }
}
