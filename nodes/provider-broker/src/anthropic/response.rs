//! What comes back in one piece.

use super::error::in_document;
use crate::provider::ProviderText;
use crate::wire::{count, document, whole};
use callboard_domain::llm::{Error, ErrorKind, ToolCall, Usage};
use serde::Deserialize;
use serde_json::{Map, Value};

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
    // Of a tool that is called.
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    input: Option<Map<String, Value>>,
    #[serde(default)]
    partial_json: Option<String>,
}

/// What a block says.
pub(super) enum Said {
    Text(String),
    /// A tool is called. In a stream its arguments follow.
    Call(ToolCall),
    /// More of the arguments.
    Arguments(String),
}

impl Block {
    /// What it says. What a model thought is nothing, and neither is what it had the provider's own tools do.
    pub(super) fn into_said(self) -> Option<Said> {
        Some(match self.kind.as_str() {
            "text" | "text_delta" => Said::Text(self.text.unwrap_or_default()),
            "tool_use" => Said::Call(ToolCall {
                id: self.id.unwrap_or_default(),
                name: self.name.unwrap_or_default(),
                // At the beginning of a stream's block it is empty, whatever follows.
                arguments: self
                    .input
                    .filter(|i| !i.is_empty())
                    .map(|i| Value::Object(i).to_string())
                    .unwrap_or_default(),
                signature: None,
            }),
            "input_json_delta" => Said::Arguments(self.partial_json.unwrap_or_default()),
            _ => return None,
        })
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
    /// What came from the cache, or went there, is not in Anthropic's `input_tokens`.
    fn from(tokens: Tokens) -> Self {
        let input_tokens = tokens
            .input_tokens
            .saturating_add(tokens.cache_creation_input_tokens)
            .saturating_add(tokens.cache_read_input_tokens);
        Self {
            cached_input_tokens: tokens.cache_read_input_tokens,
            cache_write_tokens: tokens.cache_creation_input_tokens,
            ..Self::of(input_tokens, tokens.output_tokens)
        }
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
        "tool_use" => Ok("tool_calls".into()),
        "max_tokens" | "model_context_window_exceeded" => Ok("length".into()),
        _ => Ok(stop_reason),
    }
}

/// The text of a message.
pub(super) fn text(body: &[u8], model: &str) -> Result<ProviderText, Error> {
    let message: Message = document(body, "the answer is no message", in_document)?;
    let finish_reason = finish_reason(message.stop_reason.unwrap_or_else(|| "end_turn".into()))?;
    let (mut text, mut tool_calls) = (String::new(), Vec::new());
    for said in message.content.into_iter().filter_map(Block::into_said) {
        match said {
            Said::Text(more) => text.push_str(&more),
            Said::Call(call) => tool_calls.push(call),
            Said::Arguments(_) => {}
        }
    }
    whole(ProviderText {
        text,
        tool_calls,
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
        let usage = Usage { cached_input_tokens: 5, cache_write_tokens: 4, ..Usage::of(12, 6) };
        let expected = ProviderText {
            text: "ab".into(),
            finish_reason: "length".into(),
            model: "m-2".into(),
            usage,
            ..ProviderText::default()
        };
        assert_eq!(text(body.as_bytes(), "m").unwrap(), expected);
        let least = text(br#"{"content":[{"type":"text","text":"a"}]}"#, "m").unwrap();
        assert_eq!((least.model.as_str(), least.finish_reason.as_str()), ("m", "stop"));
        let odd =
            r#"{"content":[],"stop_reason":"max_tokens","usage":{"output_tokens":-1,"input_tokens":null}}"#;
        assert_eq!(text(odd.as_bytes(), "m").unwrap().usage, Usage::default());
    }

    #[test]
    fn tools_that_are_called_are_an_answer() {
        let body = r#"{"content":[{"type":"text","text":"so"},{"type":"tool_use","id":"t1","name":"f","input":{"a":1}},
            {"type":"server_tool_use","id":"s","name":"web_search","input":{}},
            {"type":"tool_use","id":"t2","name":"g","input":{}}],"stop_reason":"tool_use"}"#;
        let answer = text(body.as_bytes(), "m").unwrap();
        let calls: Vec<_> = answer.tool_calls.iter().map(|c| [&*c.id, &*c.name, &*c.arguments]).collect();
        assert_eq!(calls, [["t1", "f", r#"{"a":1}"#], ["t2", "g", "{}"]]);
        assert_eq!((answer.text.as_str(), answer.finish_reason.as_str()), ("so", "tool_calls"));
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
