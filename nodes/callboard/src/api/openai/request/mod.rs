//! What is asked: a chat completion as OpenAI's clients write it, and the broker's request that comes of it.
//!
//! Fields that are not known are left alone. Those that are known to change the answer, and cannot be passed on, are
//! refused unless they say what holds anyway.

use super::error::Error;
use callboard_contracts::v1;
use callboard_domain::limits;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::fmt;

/// A chat completion.
#[derive(Debug)]
pub(super) struct Asked {
    /// The name of the model, as it was given.
    pub(super) model: String,
    /// What the broker is asked, without a model.
    pub(super) request: v1::GenerateRequest,
    /// Whom or what it is about.
    pub(super) subject: Option<String>,
    /// How to stream the answer; none: in one piece.
    pub(super) stream: Option<StreamOptions>,
}

/// How an answer is streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    /// Whether the last chunk tells the tokens.
    pub(super) include_usage: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chat {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f32>,
    response_format: Option<Format>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    prompt_cache_key: Option<String>,
    user: Option<String>,
    // What may change the answer.
    n: Option<Value>,
    tools: Option<Value>,
    functions: Option<Value>,
    stop: Option<Value>,
    top_p: Option<Value>,
    presence_penalty: Option<Value>,
    frequency_penalty: Option<Value>,
    logit_bias: Option<Value>,
    logprobs: Option<Value>,
    top_logprobs: Option<Value>,
    modalities: Option<Value>,
    audio: Option<Value>,
    web_search_options: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Content,
    /// What a model said instead of a content.
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Value>,
    #[serde(default)]
    function_call: Option<Value>,
    #[serde(default)]
    audio: Option<Value>,
}

/// The content of a message: a text, or parts.
#[derive(Debug, Default)]
enum Content {
    #[default]
    None,
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of content parts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
                Ok(Content::None)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, parts: A) -> Result<Content, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(parts)).map(Content::Parts)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Reads a chat completion.
///
/// # Errors
/// What is wrong with it, or cannot be passed on to providers, and in which parameter.
pub(super) fn chat(body: &[u8]) -> Result<Asked, Error> {
    let chat: Chat = parse(body)?;
    chat.refuse()?;
    let required = |name: &str| Error::invalid(Some(name.to_owned()), format!("you must provide `{name}`"));
    let model = chat.model.filter(|model| !model.is_empty()).ok_or_else(|| required("model"))?;
    let asked = chat.messages.filter(|messages| !messages.is_empty()).ok_or_else(|| required("messages"))?;
    let json = match chat.response_format.as_ref().map(|format| format.kind.as_str()) {
        None | Some("text") => false,
        Some("json_object") => true,
        Some(other) => {
            let what = format!("`{other}` is not passed on to providers yet; `text` and `json_object` are");
            return Err(Error::unsupported("response_format", &what));
        }
    };
    let mut messages = Vec::with_capacity(asked.len());
    for (i, message) in asked.into_iter().enumerate() {
        messages.push(message.read(i)?);
    }
    let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
    if bytes > limits::INPUT_BYTES {
        let most = limits::INPUT_BYTES;
        return Err(Error::too_large(format!("the messages have {bytes} bytes, {most} are allowed")));
    }
    Ok(Asked {
        model,
        request: v1::GenerateRequest {
            messages,
            max_tokens: chat.max_completion_tokens.or(chat.max_tokens),
            temperature: chat.temperature,
            json,
            ..Default::default()
        },
        subject: chat.prompt_cache_key.or(chat.user),
        stream: chat.stream.unwrap_or_default().then(|| chat.stream_options.unwrap_or_default()),
    })
}

/// Reads a document. Only what is wrong is looked for a second time, with its place.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| {
        if !error.is_data() {
            return Error::invalid(None, format!("the body is no JSON: {error}"));
        }
        let mut again = serde_json::Deserializer::from_slice(body);
        match serde_path_to_error::deserialize::<_, T>(&mut again) {
            Err(at) if at.path().iter().next().is_some() => {
                let path = at.path().to_string();
                Error::invalid(Some(path.clone()), format!("`{path}`: {}", at.into_inner()))
            }
            _ => Error::invalid(None, error.to_string()),
        }
    })
}

/// Whether a value says nothing.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

pub(super) fn is_number(value: &Value, number: f64) -> bool {
    value.as_f64() == Some(number)
}

impl Chat {
    /// Refuses what would change the answer and cannot be passed on.
    fn refuse(&self) -> Result<(), Error> {
        let only_text = |value: &Value| *value == serde_json::json!(["text"]);
        let fields: [(&str, &Option<Value>, bool); 13] = [
            ("n", &self.n, self.n.as_ref().is_some_and(|n| is_number(n, 1.0))),
            ("tools", &self.tools, false),
            ("functions", &self.functions, false),
            ("stop", &self.stop, false),
            ("top_p", &self.top_p, self.top_p.as_ref().is_some_and(|p| is_number(p, 1.0))),
            ("presence_penalty", &self.presence_penalty, zero(self.presence_penalty.as_ref())),
            ("frequency_penalty", &self.frequency_penalty, zero(self.frequency_penalty.as_ref())),
            ("logit_bias", &self.logit_bias, false),
            ("logprobs", &self.logprobs, false),
            ("top_logprobs", &self.top_logprobs, zero(self.top_logprobs.as_ref())),
            ("modalities", &self.modalities, self.modalities.as_ref().is_some_and(only_text)),
            ("audio", &self.audio, false),
            ("web_search_options", &self.web_search_options, false),
        ];
        let given = |(_, value, as_it_is): &(&str, &Option<Value>, bool)| {
            value.as_ref().is_some_and(|value| !is_nothing(value)) && !as_it_is
        };
        match fields.into_iter().find(given) {
            Some((name, ..)) => Err(Error::unsupported(
                name,
                "it would change the answer, and is not passed on to providers yet",
            )),
            None => Ok(()),
        }
    }
}

fn zero(value: Option<&Value>) -> bool {
    value.is_some_and(|value| is_number(value, 0.0))
}

impl Message {
    fn read(self, i: usize) -> Result<v1::ChatMessage, Error> {
        let at = |field: &str| format!("messages[{i}].{field}");
        let role = match self.role.as_str() {
            "system" | "developer" => v1::ChatRole::System,
            "user" => v1::ChatRole::User,
            "assistant" => v1::ChatRole::Assistant,
            role @ ("tool" | "function") => {
                let what = format!("messages of the role `{role}` are not passed on to providers yet");
                return Err(Error::unsupported(&at("role"), &what));
            }
            role => {
                let what = format!("`{role}` is no role; there are: system, developer, user, assistant");
                return Err(Error::invalid(Some(at("role")), what));
            }
        };
        let carried = [
            ("tool_calls", &self.tool_calls),
            ("function_call", &self.function_call),
            ("audio", &self.audio),
        ];
        for (field, value) in carried {
            if value.as_ref().is_some_and(|value| !is_nothing(value)) {
                return Err(Error::unsupported(&at(field), "it is not passed on to providers yet"));
            }
        }
        let content = match self.content {
            Content::Text(text) => text,
            Content::Parts(parts) => join(parts, &at("content"))?,
            Content::None => match self.refusal {
                Some(refusal) => refusal,
                None => return Err(Error::invalid(Some(at("content")), "a message needs a content")),
            },
        };
        Ok(v1::ChatMessage { role: role.into(), content })
    }
}

/// The text of parts, a line break between them.
fn join(parts: Vec<Part>, at: &str) -> Result<String, Error> {
    let mut texts = Vec::with_capacity(parts.len());
    for (i, part) in parts.into_iter().enumerate() {
        let at = format!("{at}[{i}]");
        match (part.kind.as_str(), part.text) {
            ("text", Some(text)) => texts.push(text),
            ("text", None) => {
                return Err(Error::invalid(Some(format!("{at}.text")), "a text part needs a text"));
            }
            (kind, _) => {
                let what = format!("parts of the type `{kind}` are not passed on to providers yet");
                return Err(Error::unsupported(&at, &what));
            }
        }
    }
    if texts.is_empty() {
        return Err(Error::invalid(Some(at.to_owned()), "a message needs a content"));
    }
    Ok(texts.join("\n"))
}

#[cfg(test)]
mod tests;
