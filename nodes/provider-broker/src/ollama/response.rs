//! What comes back: the whole answer, or a line of it in the same form.

use super::error::in_document;
use crate::provider::ProviderText;
use crate::wire::{count, document, whole};
use callboard_domain::llm::{Error, ErrorKind, ToolCall, Usage};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Debug, Deserialize)]
pub(super) struct Line {
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default)]
    message: Option<Message>,
    pub(super) done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    /// Missing where all of the prompt was in memory still.
    #[serde(default, deserialize_with = "count")]
    prompt_eval_count: u32,
    #[serde(default, deserialize_with = "count")]
    eval_count: u32,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Debug, Deserialize)]
struct Call {
    #[serde(default)]
    id: Option<String>,
    function: Called,
}

#[derive(Debug, Deserialize)]
struct Called {
    name: String,
    #[serde(default)]
    arguments: Option<Map<String, Value>>,
}

impl From<Call> for ToolCall {
    fn from(call: Call) -> Self {
        Self {
            id: call.id.unwrap_or_default(),
            name: call.function.name,
            arguments: Value::Object(call.function.arguments.unwrap_or_default()).to_string(),
            signature: None,
        }
    }
}

impl Line {
    /// The whole answer, or a line of it.
    ///
    /// # Errors
    /// The error that it holds, or that it is none of these.
    pub(super) fn read(data: &[u8]) -> Result<Self, Error> {
        document(data, "the answer is none of a chat", in_document)
    }

    /// What it says, if it has a message: its text, and the tools that it calls.
    pub(super) fn said(&mut self) -> Option<(String, Vec<ToolCall>)> {
        let message = self.message.take()?;
        let calls = message.tool_calls.into_iter().flatten().map(ToolCall::from).collect();
        Some((message.content.unwrap_or_default(), calls))
    }

    /// Why the model stopped: `stop`, `length`. Old servers do not say.
    pub(super) fn finish_reason(&mut self) -> String {
        self.done_reason.take().unwrap_or_else(|| "stop".into())
    }

    pub(super) fn usage(&self) -> Usage {
        Usage::of(self.prompt_eval_count, self.eval_count)
    }
}

/// The text of an answer.
pub(super) fn text(body: &[u8], model: &str) -> Result<ProviderText, Error> {
    let malformed = |message: &str| Error::new(ErrorKind::MalformedAnswer, message);
    let mut line = Line::read(body)?;
    let (text, tool_calls) = line.said().ok_or_else(|| malformed("the answer has no message"))?;
    if !line.done {
        return Err(malformed("the answer is not done"));
    }
    let finish_reason = line.finish_reason();
    let usage = line.usage();
    let model = line.model.filter(|m| !m.is_empty()).unwrap_or_else(|| model.to_owned());
    whole(ProviderText { text, tool_calls, finish_reason, model, usage })
}

#[derive(Debug, Deserialize)]
struct Tags {
    models: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    name: String,
}

/// The models of a list.
pub(super) fn models(body: &[u8]) -> Result<Vec<String>, Error> {
    let tags: Tags = document(body, "the answer lists no models", in_document)?;
    Ok(tags.models.into_iter().map(|m| m.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(body: &str) -> ErrorKind {
        text(body.as_bytes(), "m").unwrap_err().kind
    }

    #[test]
    fn an_answer_is_read_whatever_else_it_holds() {
        let body = r#"{"model":"m-2","created_at":"x","message":{"role":"assistant","content":"hi","thinking":"hm"},
            "done_reason":"length","done":true,"total_duration":1,"prompt_eval_count":3,"eval_count":4,"y":{}}"#;
        let usage = Usage::of(3, 4);
        let expected = ProviderText {
            text: "hi".into(),
            finish_reason: "length".into(),
            model: "m-2".into(),
            usage,
            ..ProviderText::default()
        };
        assert_eq!(text(body.as_bytes(), "m").unwrap(), expected);
        let least = text(br#"{"message":{"content":"a"},"done":true}"#, "m").unwrap();
        assert_eq!((least.model.as_str(), least.finish_reason.as_str()), ("m", "stop"));
    }

    #[test]
    fn tools_that_are_called_are_an_answer() {
        let body = r#"{"message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}},
            {"id":"c2","function":{"index":1,"name":"g"}}]},"done_reason":"stop","done":true}"#;
        let answer = text(body.as_bytes(), "m").unwrap();
        let calls: Vec<_> = answer.tool_calls.iter().map(|c| (&*c.id, &*c.name, &*c.arguments)).collect();
        assert_eq!(calls, [("", "f", r#"{"a":1}"#), ("c2", "g", "{}")]);
        assert_eq!(answer.finish_reason, "tool_calls");
    }

    #[test]
    fn an_answer_that_is_none_has_its_kind() {
        for malformed in [
            "",
            "null",
            "{",
            "[]",
            "{}",
            r#"{"done":true}"#,
            r#"{"message":{"content":"a"},"done":false}"#,
            r#"{"message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}"#,
        ] {
            assert_eq!(kind(malformed), ErrorKind::MalformedAnswer, "{malformed}");
        }
        assert_eq!(kind(r#"{"error":"m"}"#), ErrorKind::ServerFault);
        assert_eq!(models(b"{}").unwrap_err().kind, ErrorKind::MalformedAnswer);
    }
}
