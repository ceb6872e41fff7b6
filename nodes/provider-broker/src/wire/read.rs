//! Documents as they come: unknown fields skipped, errors in them found, counts taken as they are.

use super::error::malformed;
use callboard_domain::llm::{Error, ErrorKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What a document holds: the error in it, if `fault` finds one, else what was asked for.
///
/// # Errors
/// That error, or that the document is `what`: not what it should be.
pub(crate) fn document<T: DeserializeOwned>(
    data: &[u8],
    what: &str,
    fault: fn(&Value) -> Option<Error>,
) -> Result<T, Error> {
    let wrong = |e: serde_json::Error| malformed(&format!("{what} ({e})"), data);
    let document: Value = serde_json::from_slice(data).map_err(wrong)?;
    if let Some(error) = fault(&document) {
        return Err(error);
    }
    T::deserialize(document).map_err(wrong)
}

/// A count of tokens. One that is no whole number is not worth an answer: it counts as zero.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_u64().map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)))
}

/// Whether a model that stopped has said anything. One that ran out of tokens may have said nothing: it thought.
///
/// # Errors
/// If it said nothing: the same call may well be answered the next time.
pub(crate) fn some_text(empty: bool, finish_reason: &str) -> Result<(), Error> {
    if empty && finish_reason != "length" {
        let message = format!("the model stopped ({finish_reason}) without a text");
        return Err(Error::new(ErrorKind::MalformedAnswer, message));
    }
    Ok(())
}

/// The first model of a list that is not obviously for something else than text.
pub(crate) fn first_for_text(models: impl IntoIterator<Item = String>) -> Result<String, Error> {
    const OTHERS: [&str; 6] = ["embed", "whisper", "tts", "dall-e", "image", "rerank"];
    let for_text = |model: &String| {
        let id = model.to_ascii_lowercase();
        !id.is_empty() && !OTHERS.iter().any(|other| id.contains(other))
    };
    models.into_iter().find(for_text).ok_or_else(|| {
        let message = "the provider lists no model for text: configure text_model, or load a model there";
        Error::new(ErrorKind::ServerFault, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_for_text_is_found() {
        let first = |models: &[&str]| first_for_text(models.iter().map(|m| (*m).to_owned()));
        assert_eq!(first(&["nomic-embed-text", "llama3.2:latest", "qwen"]).unwrap(), "llama3.2:latest");
        assert_eq!(first(&[]).unwrap_err().kind, ErrorKind::ServerFault);
    }
}
