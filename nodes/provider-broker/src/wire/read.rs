//! Documents as they come: unknown fields skipped, errors in them found, counts taken as they are.

use super::error::malformed;
use callboard_domain::llm::{Error, ErrorKind, TextRequest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What a document holds: the error in it, if `fault` finds one, else what was asked for.
///
/// A document that cannot hold an error is read once, into what was asked for: the events of a stream hardly ever do.
///
/// # Errors
/// That error, or that the document is `what`: not what it should be.
pub(crate) fn document<T: DeserializeOwned>(
    data: &[u8],
    what: &str,
    fault: fn(&Value) -> Option<Error>,
) -> Result<T, Error> {
    let wrong = |e: serde_json::Error| malformed(&format!("{what} ({e})"), data);
    if let Ok(text) = std::str::from_utf8(data)
        && !may_hold_fault(text)
        && let Ok(read) = serde_json::from_str(text)
    {
        return Ok(read);
    }
    let document: Value = serde_json::from_slice(data).map_err(wrong)?;
    if let Some(error) = fault(&document) {
        return Err(error);
    }
    T::deserialize(document).map_err(wrong)
}

/// Whether a document may hold an error: each provider's has one of these words as a key, or as a type. A letter that is
/// written by its number could be one of theirs.
fn may_hold_fault(text: &str) -> bool {
    ["error\"", "detail\"", "\\u00"].iter().any(|word| text.contains(word))
}

/// A count of tokens. One that is no whole number is not worth an answer: it counts as zero.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_u64().map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)))
}

/// The tokens that came from the provider's cache, in an object of details: `cached_tokens`. What is none counts as zero.
pub(crate) fn cached<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value["cached_tokens"].as_u64().map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)))
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

/// What a model is told where it shall answer in JSON and no message says so: in their JSON modes some servers
/// insist on it, and some models need it.
pub(crate) fn json_hint(request: &TextRequest) -> Option<&'static str> {
    let says = || request.messages.iter().any(|m| m.content.text().to_ascii_lowercase().contains("json"));
    (request.json && request.schema.is_none() && !says()).then_some("Respond with one JSON object.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Said {
        #[serde(default)]
        text: String,
    }

    /// What is read of it; none if it is, or is taken for, an error.
    fn read(text: &str) -> Option<String> {
        let fault = |document: &Value| {
            document.get("error").or(document.get("detail")).map(|_| Error::new(ErrorKind::ServerFault, ""))
        };
        document::<Said>(text.as_bytes(), "what is said", fault).ok().map(|said| said.text)
    }

    #[test]
    fn an_error_is_found_however_its_key_is_written_and_a_text_about_one_is_none() {
        for error in
            [r#"{"error":1}"#, r#"{"text":"a","detail":"b"}"#, r#"{"\u0065rror":{}}"#, r#"{"err\u006fr":{}}"#]
        {
            assert_eq!(read(error), None, "{error}");
        }
        for (text, said) in [
            (r#"{"text":"a"}"#, "a"),
            (r#"{"text":"an \"error\""}"#, "an \"error\""),
            (r#"{"text":"\u00e4","more":[{"error":1}]}"#, "ä"),
        ] {
            assert_eq!(read(text).as_deref(), Some(said));
        }
        assert_eq!(read(r#"{"text":1}"#), None);
    }
}
