//! What is asked: a chat completion as OpenAI's clients write it, and the broker's request that comes of it.
//!
//! Fields that are not known are left alone. Those that are known to change the answer, and cannot be passed on, are
//! refused unless they say what holds anyway.

mod content;
mod message;
mod tools;

use super::error::Error;
use callboard_contracts::v1;
use callboard_domain::limits;
use message::Message;
use serde::Deserialize;
use serde_json::Value;
use tools::{Format, Tool};

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
    top_p: Option<f32>,
    seed: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    stop: Option<Stop>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<Format>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    prompt_cache_key: Option<String>,
    user: Option<String>,
    // What may change the answer.
    n: Option<Value>,
    functions: Option<Value>,
    function_call: Option<Value>,
    logit_bias: Option<Value>,
    logprobs: Option<Value>,
    top_logprobs: Option<Value>,
    modalities: Option<Value>,
    audio: Option<Value>,
    web_search_options: Option<Value>,
}

/// One text, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
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
    let (json, schema) = tools::format(chat.response_format)?;
    let tools = tools::tools(chat.tools.unwrap_or_default())?;
    let choice =
        chat.tool_choice.as_ref().filter(|choice| !choice.is_null()).map(tools::choice).transpose()?;
    let mut messages = Vec::with_capacity(asked.len());
    for (i, message) in asked.into_iter().enumerate() {
        messages.push(message.read(i)?);
    }
    let (bytes, images) = messages.iter().map(size).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    for (what, bytes, most) in
        [("messages", bytes, limits::INPUT_BYTES), ("images", images, limits::PROMPT_IMAGE_BYTES)]
    {
        if bytes > most {
            return Err(Error::too_large(format!("the {what} have {bytes} bytes, {most} are allowed")));
        }
    }
    Ok(Asked {
        model,
        request: v1::GenerateRequest {
            messages,
            max_tokens: chat.max_completion_tokens.or(chat.max_tokens),
            temperature: chat.temperature,
            top_p: chat.top_p,
            seed: chat.seed,
            presence_penalty: chat.presence_penalty,
            frequency_penalty: chat.frequency_penalty,
            stop: match chat.stop {
                None => Vec::new(),
                Some(Stop::One(text)) => vec![text],
                Some(Stop::Several(texts)) => texts,
            },
            json,
            schema,
            tools,
            tool_choice: choice,
            parallel_tool_calls: chat.parallel_tool_calls,
            ..Default::default()
        },
        subject: chat.prompt_cache_key.or(chat.user),
        stream: chat.stream.unwrap_or_default().then(|| chat.stream_options.unwrap_or_default()),
    })
}

/// The bytes of a message's text, and of its images.
fn size(message: &v1::ChatMessage) -> (usize, usize) {
    let calls: usize = message.tool_calls.iter().map(|call| call.arguments.len()).sum();
    let part = |part: &v1::ChatPart| match &part.part {
        Some(v1::chat_part::Part::Text(text)) => (text.len(), 0),
        Some(v1::chat_part::Part::Image(image)) => match &image.source {
            Some(v1::chat_image::Source::Data(data)) => (0, data.len()),
            Some(v1::chat_image::Source::Url(url)) => (url.len(), 0),
            None => (0, 0),
        },
        None => (0, 0),
    };
    let text = message.content.len() + calls;
    message.parts.iter().map(part).fold((text, 0), |all, one| (all.0 + one.0, all.1 + one.1))
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
        let fields: [(&str, &Option<Value>, bool); 9] = [
            ("n", &self.n, self.n.as_ref().is_some_and(|n| is_number(n, 1.0))),
            ("functions", &self.functions, false),
            ("function_call", &self.function_call, false),
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
            Some((name, ..)) => {
                Err(Error::unsupported(name, "it would change the answer, and is not passed on to providers"))
            }
            None => Ok(()),
        }
    }
}

fn zero(value: Option<&Value>) -> bool {
    value.is_some_and(|value| is_number(value, 0.0))
}

#[cfg(test)]
mod tests;
