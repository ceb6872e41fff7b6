//! What comes back in one piece.

use super::error::in_document;
use crate::provider::ProviderText;
use crate::wire::{count, document, some_text};
use callboard_domain::llm::{Error, ErrorKind, Usage};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    model: Option<String>,
    content: Vec<Block>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Option<Tokens>,
}

/// A block of the content, or a part of one in a stream.
#[derive(Debug, Deserialize)]
pub(super) struct Block {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

impl Block {
    /// Its text. What a model thought, or would have a tool do, is none.
    pub(super) fn into_text(self) -> String {
        match self.kind.as_str() {
            "text" | "text_delta" => self.text.unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// Token counts. In a stream they come in parts, each the sum so far.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default, deserialize_with = "count")]
    input_tokens: u32,
    #[serde(default, deserialize_with = "count")]
    cache_creation_input_tokens: u32,
    #[serde(default, deserialize_with = "count")]
    cache_read_input_tokens: u32,
    #[serde(default, deserialize_with = "count")]
    output_tokens: u32,
}

impl Tokens {
    /// Takes later counts over.
    pub(super) fn update(&mut self, later: Self) {
        self.input_tokens = self.input_tokens.max(later.input_tokens);
        self.cache_creation_input_tokens =
            self.cache_creation_input_tokens.max(later.cache_creation_input_tokens);
        self.cache_read_input_tokens = self.cache_read_input_tokens.max(later.cache_read_input_tokens);
        self.output_tokens = self.output_tokens.max(later.output_tokens);
    }
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        let input_tokens = tokens
            .input_tokens
            .saturating_add(tokens.cache_creation_input_tokens)
            .saturating_add(tokens.cache_read_input_tokens);
        Self { input_tokens, output_tokens: tokens.output_tokens }
    }
}

/// Why the model stopped, in the names that all adapters use.
///
/// # Errors
/// If it refused.
pub(super) fn finish_reason(stop_reason: String) -> Result<String, Error> {
    match stop_reason.as_str() {
        "refusal" => Err(Error::new(ErrorKind::ContentFiltered, "the model refused to answer (refusal)")),
        "end_turn" | "stop_sequence" => Ok("stop".into()),
        "max_tokens" | "model_context_window_exceeded" => Ok("length".into()),
        _ => Ok(stop_reason),
    }
}

/// The text of a message.
pub(super) fn text(body: &[u8], model: &str) -> Result<ProviderText, Error> {
    let message: Message = document(body, "the answer is no message", in_document)?;
    let finish_reason = finish_reason(message.stop_reason.unwrap_or_else(|| "end_turn".into()))?;
    let text: String = message.content.into_iter().map(Block::into_text).collect();
    some_text(text.is_empty(), &finish_reason)?;
    Ok(ProviderText {
        text,
        finish_reason,
        model: message.model.filter(|m| !m.is_empty()).unwrap_or_else(|| model.to_owned()),
        usage: message.usage.unwrap_or_default().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(body: &str) -> ErrorKind {
        text(body.as_bytes(), "m").unwrap_err().kind
    }

    #[test]
    fn an_answer_is_read_whatever_else_it_holds() {
        let body = r#"{"x":[1],"type":"message","model":"m-2","content":[{"type":"thinking","thinking":"hm","text":"no"},
            {"type":"text","text":"a","citations":null},{"type":"new"},{"type":"text","text":"b"}],
            "stop_reason":"max_tokens","usage":{"input_tokens":3,"cache_creation_input_tokens":4,
            "cache_read_input_tokens":5,"output_tokens":6,"cache_creation":{"y":1}}}"#;
        let usage = Usage { input_tokens: 12, output_tokens: 6 };
        let expected =
            ProviderText { text: "ab".into(), finish_reason: "length".into(), model: "m-2".into(), usage };
        assert_eq!(text(body.as_bytes(), "m").unwrap(), expected);
        let least = text(br#"{"content":[{"type":"text","text":"a"}]}"#, "m").unwrap();
        assert_eq!((least.model.as_str(), least.finish_reason.as_str()), ("m", "stop"));
        let odd =
            r#"{"content":[],"stop_reason":"max_tokens","usage":{"output_tokens":-1,"input_tokens":null}}"#;
        assert_eq!(text(odd.as_bytes(), "m").unwrap().usage, Usage::default());
    }

    #[test]
    fn an_answer_that_is_none_has_its_kind() {
        for malformed in ["", "null", "{", "[]", "{}", r#"{"content":[]}"#, r#"{"content":[{"text":"a"}]}"#] {
            assert_eq!(kind(malformed), ErrorKind::MalformedAnswer, "{malformed}");
        }
        let refused = r#"{"content":[{"type":"text","text":"half"}],"stop_reason":"refusal"}"#;
        assert_eq!(kind(refused), ErrorKind::ContentFiltered);
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(kind(error), ErrorKind::Overloaded);
    }
}
