//! What comes back: the whole answer, or a line of it in the same form.

use super::error::in_document;
use crate::provider::ProviderText;
use crate::wire::{count, document, some_text};
use callboard_domain::llm::{Error, ErrorKind, Usage};
use serde::Deserialize;

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
}

impl Line {
    /// The whole answer, or a line of it.
    ///
    /// # Errors
    /// The error that it holds, or that it is none of these.
    pub(super) fn read(data: &[u8]) -> Result<Self, Error> {
        document(data, "the answer is none of a chat", in_document)
    }

    /// Its text, if it has a message.
    pub(super) fn text(&mut self) -> Option<String> {
        self.message.take().map(|message| message.content.unwrap_or_default())
    }

    /// Why the model stopped: `stop`, `length`. Old servers do not say.
    pub(super) fn finish_reason(&mut self) -> String {
        self.done_reason.take().unwrap_or_else(|| "stop".into())
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { input_tokens: self.prompt_eval_count, output_tokens: self.eval_count }
    }
}

/// The text of an answer.
pub(super) fn text(body: &[u8], model: &str) -> Result<ProviderText, Error> {
    let malformed = |message: &str| Error::new(ErrorKind::MalformedAnswer, message);
    let mut line = Line::read(body)?;
    let text = line.text().ok_or_else(|| malformed("the answer has no message"))?;
    if !line.done {
        return Err(malformed("the answer is not done"));
    }
    let finish_reason = line.finish_reason();
    some_text(text.is_empty(), &finish_reason)?;
    let usage = line.usage();
    let model = line.model.filter(|m| !m.is_empty()).unwrap_or_else(|| model.to_owned());
    Ok(ProviderText { text, finish_reason, model, usage })
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
        let usage = Usage { input_tokens: 3, output_tokens: 4 };
        let expected =
            ProviderText { text: "hi".into(), finish_reason: "length".into(), model: "m-2".into(), usage };
        assert_eq!(text(body.as_bytes(), "m").unwrap(), expected);
        let least = text(br#"{"message":{"content":"a"},"done":true}"#, "m").unwrap();
        assert_eq!((least.model.as_str(), least.finish_reason.as_str()), ("m", "stop"));
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
