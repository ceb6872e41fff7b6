//! What comes back: the whole answer, or a piece of it in the same form.

use super::error::in_document;
use crate::provider::ProviderText;
use crate::wire::{count, document, whole};
use callboard_domain::llm::{Error, ErrorKind, ToolCall, Usage};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Generated {
    #[serde(default)]
    candidates: Option<Vec<Candidate>>,
    #[serde(default)]
    prompt_feedback: Option<Feedback>,
    #[serde(default)]
    pub(super) usage_metadata: Option<Tokens>,
    #[serde(default)]
    pub(super) model_version: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Content {
    #[serde(default)]
    parts: Option<Vec<Part>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    inline_data: Option<Inline>,
    #[serde(default)]
    function_call: Option<Call>,
    #[serde(default)]
    thought_signature: Option<String>,
    /// Whether it is what the model thought, not what it says.
    #[serde(default)]
    thought: Option<bool>,
}

/// What is no text: of interest only where an image was asked for.
#[derive(Debug, Deserialize)]
struct Inline {
    #[serde(default)]
    data: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Call {
    name: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    args: Option<Map<String, Value>>,
}

/// What a candidate says.
pub(super) struct Said {
    pub(super) text: String,
    pub(super) tool_calls: Vec<ToolCall>,
    /// Why the model stopped, if it did.
    pub(super) reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    #[serde(default)]
    block_reason: Option<String>,
}

/// Token counts. In a stream every piece may have them, each the sum so far. What came from a cache is counted in
/// the prompt already; what the model thought is not counted in the candidates.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tokens {
    #[serde(default, deserialize_with = "count")]
    prompt_token_count: u32,
    #[serde(default, deserialize_with = "count")]
    cached_content_token_count: u32,
    #[serde(default, deserialize_with = "count")]
    candidates_token_count: u32,
    #[serde(default, deserialize_with = "count")]
    thoughts_token_count: u32,
}

impl Tokens {
    /// Takes later counts over.
    pub(super) fn update(&mut self, later: Self) {
        self.prompt_token_count = self.prompt_token_count.max(later.prompt_token_count);
        self.cached_content_token_count =
            self.cached_content_token_count.max(later.cached_content_token_count);
        self.candidates_token_count = self.candidates_token_count.max(later.candidates_token_count);
        self.thoughts_token_count = self.thoughts_token_count.max(later.thoughts_token_count);
    }
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Self {
            input_tokens: tokens.prompt_token_count,
            cached_input_tokens: tokens.cached_content_token_count.min(tokens.prompt_token_count),
            cache_write_tokens: 0,
            output_tokens: tokens.candidates_token_count.saturating_add(tokens.thoughts_token_count),
        }
    }
}

impl Generated {
    /// The whole answer, or a piece of it.
    ///
    /// # Errors
    /// The error that a document holds, that it is none of these, or that the prompt was blocked.
    pub(super) fn read(data: &[u8]) -> Result<Self, Error> {
        let generated: Self = document(data, "the answer is no generated content", in_document)?;
        match generated.prompt_feedback.as_ref().and_then(|feedback| feedback.block_reason.as_deref()) {
            Some(reason) if reason != "BLOCK_REASON_UNSPECIFIED" => {
                let message = format!("the provider's filter blocked the prompt ({reason})");
                Err(Error::new(ErrorKind::ContentFiltered, message))
            }
            _ => Ok(generated),
        }
    }

    /// The first candidate: no more are asked for.
    pub(super) fn candidate(&mut self) -> Option<Candidate> {
        self.candidates.take().and_then(|candidates| candidates.into_iter().next())
    }
}

impl Candidate {
    /// What it says.
    pub(super) fn into_said(self) -> Said {
        let parts = self.content.and_then(|content| content.parts).unwrap_or_default();
        let (mut text, mut tool_calls) = (String::new(), Vec::new());
        for part in parts.into_iter().filter(|part| part.thought != Some(true)) {
            text.push_str(&part.text.unwrap_or_default());
            tool_calls.extend(part.function_call.map(|call| ToolCall {
                id: call.id.unwrap_or_default(),
                name: call.name,
                arguments: Value::Object(call.args.unwrap_or_default()).to_string(),
                signature: part.thought_signature,
            }));
        }
        let reason = self.finish_reason.filter(|reason| reason != "FINISH_REASON_UNSPECIFIED");
        Said { text, tool_calls, reason }
    }

    /// The first image in it, in base64, its words, and why the model stopped, if it did.
    pub(super) fn into_pictured(self) -> (Option<String>, String, Option<String>) {
        let parts = self.content.and_then(|content| content.parts).unwrap_or_default();
        let (mut image, mut words) = (None, String::new());
        for part in parts.into_iter().filter(|part| part.thought != Some(true)) {
            image = image.or(part.inline_data.and_then(|inline| inline.data));
            words.push_str(&part.text.unwrap_or_default());
        }
        (image, words, self.finish_reason.filter(|reason| reason != "FINISH_REASON_UNSPECIFIED"))
    }
}

/// Why the model stopped, in the names that all adapters use.
///
/// # Errors
/// If it was stopped by a filter, or broke off.
pub(super) fn finish_reason(reason: &str) -> Result<&'static str, Error> {
    match reason {
        "STOP" => Ok("stop"),
        "MAX_TOKENS" => Ok("length"),
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => {
            let message = format!("the provider's filter withheld the answer ({reason})");
            Err(Error::new(ErrorKind::ContentFiltered, message))
        }
        _ => Err(Error::new(ErrorKind::MalformedAnswer, format!("the model broke off ({reason})"))),
    }
}

/// The text of an answer.
pub(super) fn text(body: &[u8], model: &str) -> Result<ProviderText, Error> {
    let mut generated = Generated::read(body)?;
    let Some(candidate) = generated.candidate() else {
        return Err(Error::new(ErrorKind::MalformedAnswer, "the answer has no candidates"));
    };
    let Said { text, tool_calls, reason } = candidate.into_said();
    let finish_reason = finish_reason(reason.as_deref().unwrap_or("STOP"))?;
    whole(ProviderText {
        text,
        tool_calls,
        finish_reason: finish_reason.into(),
        model: generated.model_version.filter(|m| !m.is_empty()).unwrap_or_else(|| model.to_owned()),
        usage: generated.usage_metadata.unwrap_or_default().into(),
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
        let body = r#"{"x":[1],"modelVersion":"m-2","candidates":[{"content":{"role":"model","parts":[
            {"text":"hm","thought":true},{"text":"a","thoughtSignature":"s"},{"inlineData":{}},{"text":"b"}]},
            "finishReason":"MAX_TOKENS","safetyRatings":[{}]},{"content":{"parts":[{"text":"other"}]}}],
            "usageMetadata":{"promptTokenCount":5,"cachedContentTokenCount":3,"candidatesTokenCount":2,
            "thoughtsTokenCount":4,"totalTokenCount":11,"promptTokensDetails":[]}}"#;
        let usage = Usage { cached_input_tokens: 3, ..Usage::of(5, 6) };
        let expected = ProviderText {
            text: "ab".into(),
            finish_reason: "length".into(),
            model: "m-2".into(),
            usage,
            ..ProviderText::default()
        };
        assert_eq!(text(body.as_bytes(), "m").unwrap(), expected);
        let least = text(br#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#, "m").unwrap();
        assert_eq!((least.model.as_str(), least.finish_reason.as_str()), ("m", "stop"));
        // It thought until it ran out of tokens.
        let thought = r#"{"candidates":[{"content":{"role":"model"},"finishReason":"MAX_TOKENS"}]}"#;
        assert_eq!(text(thought.as_bytes(), "m").unwrap().finish_reason, "length");
    }

    #[test]
    fn tools_that_are_called_are_an_answer() {
        let body = r#"{"candidates":[{"content":{"parts":[{"text":"so"},
            {"functionCall":{"name":"f","args":{"a":1}},"thoughtSignature":"sig"},{"functionCall":{"id":"2","name":"g"}}]},
            "finishReason":"STOP"}]}"#;
        let answer = text(body.as_bytes(), "m").unwrap();
        let calls: Vec<_> = answer.tool_calls.iter().map(|c| (&*c.id, &*c.name, &*c.arguments)).collect();
        assert_eq!(calls, [("", "f", r#"{"a":1}"#), ("2", "g", "{}")]);
        assert_eq!(answer.tool_calls[0].signature.as_deref(), Some("sig"));
        assert_eq!((answer.text.as_str(), answer.finish_reason.as_str()), ("so", "tool_calls"));
        let broken = r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}"#;
        assert_eq!(kind(broken), ErrorKind::MalformedAnswer);
    }

    #[test]
    fn an_answer_that_is_none_has_its_kind() {
        for malformed in [
            "",
            "null",
            "{",
            "[]",
            "{}",
            r#"{"candidates":[]}"#,
            r#"{"candidates":[{"finishReason":"STOP"}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"half"}]},"finishReason":"OTHER"}]}"#,
        ] {
            assert_eq!(kind(malformed), ErrorKind::MalformedAnswer, "{malformed}");
        }
        for filtered in [
            r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
            r#"{"candidates":[{"finishReason":"SAFETY"}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"half"}]},"finishReason":"RECITATION"}]}"#,
        ] {
            assert_eq!(kind(filtered), ErrorKind::ContentFiltered, "{filtered}");
        }
        let error = r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#;
        assert_eq!(kind(error), ErrorKind::Overloaded);
        assert_eq!(kind(&format!("[{error}]")), ErrorKind::Overloaded);
    }
}
