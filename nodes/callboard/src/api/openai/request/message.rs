//! A message as OpenAI's clients write it.

use super::content::{Content, Image, Part};
use super::is_nothing;
use crate::api::openai::error::Error;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use callboard_contracts::v1;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub(super) struct Message {
    role: String,
    #[serde(default)]
    content: Content,
    /// What a model said instead of a content.
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCall>>,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(default)]
    function_call: Option<Value>,
    #[serde(default)]
    audio: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ToolCall {
    #[serde(default)]
    id: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    function: Option<Function>,
    /// What Google's models want to see again.
    #[serde(default)]
    extra_content: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: String,
}

impl Message {
    /// The message for the broker.
    pub(super) fn read(self, i: usize) -> Result<v1::ChatMessage, Error> {
        let at = |field: &str| format!("messages[{i}].{field}");
        let role = match self.role.as_str() {
            "system" | "developer" => v1::ChatRole::System,
            "user" => v1::ChatRole::User,
            "assistant" => v1::ChatRole::Assistant,
            "tool" => v1::ChatRole::Tool,
            "function" => {
                let what = "messages of the role `function` are not passed on; those of the role `tool` are";
                return Err(Error::unsupported(&at("role"), what));
            }
            role => {
                let what =
                    format!("`{role}` is no role; there are: system, developer, user, assistant, tool");
                return Err(Error::invalid(Some(at("role")), what));
            }
        };
        for (field, value) in [("function_call", &self.function_call), ("audio", &self.audio)] {
            if value.as_ref().is_some_and(|value| !is_nothing(value)) {
                return Err(Error::unsupported(&at(field), "it is not passed on to providers"));
            }
        }
        let mut message = v1::ChatMessage { role: role.into(), ..Default::default() };
        for (j, call) in self.tool_calls.into_iter().flatten().enumerate() {
            message.tool_calls.push(call.read(&format!("messages[{i}].tool_calls[{j}]"))?);
        }
        if role == v1::ChatRole::Tool {
            let id = self.tool_call_id.filter(|id| !id.is_empty());
            let missing =
                || Error::invalid(Some(at("tool_call_id")), "a message of a tool needs a tool_call_id");
            message.tool_call_id = id.ok_or_else(missing)?;
        }
        match self.content {
            Content::Text(text) => message.content = text,
            Content::Parts(parts) => put(parts, &mut message, &at("content"))?,
            Content::None => match self.refusal {
                Some(refusal) => message.content = refusal,
                None if !message.tool_calls.is_empty() => {}
                None => return Err(Error::invalid(Some(at("content")), "a message needs a content")),
            },
        }
        Ok(message)
    }
}

impl ToolCall {
    fn read(self, at: &str) -> Result<v1::ToolCall, Error> {
        if let Some(kind) = self.kind.filter(|kind| kind != "function") {
            let what =
                format!("calls of the type `{kind}` are not passed on; those of the type `function` are");
            return Err(Error::unsupported(&format!("{at}.type"), &what));
        }
        let missing = |field: &str| {
            Error::invalid(Some(format!("{at}.{field}")), format!("a call of a tool needs `{field}`"))
        };
        let Function { name, arguments } = self.function.ok_or_else(|| missing("function"))?;
        if self.id.is_empty() {
            return Err(missing("id"));
        }
        let signature = self.extra_content.as_ref().and_then(|e| e["google"]["thought_signature"].as_str());
        Ok(v1::ToolCall { id: self.id, name, arguments, signature: signature.unwrap_or_default().to_owned() })
    }
}

/// Puts parts into a message: texts alone are one text, with line breaks.
fn put(parts: Vec<Part>, message: &mut v1::ChatMessage, at: &str) -> Result<(), Error> {
    let (mut read, mut images) = (Vec::with_capacity(parts.len()), false);
    for (i, part) in parts.into_iter().enumerate() {
        let at = format!("{at}[{i}]");
        read.push(match (part.kind.as_str(), part.text, part.refusal, part.image_url) {
            ("text", Some(text), ..) | ("refusal", _, Some(text), _) => v1::chat_part::Part::Text(text),
            ("text", None, ..) => {
                return Err(Error::invalid(Some(format!("{at}.text")), "a text part needs a text"));
            }
            ("image_url", .., Some(address)) => {
                images = true;
                v1::chat_part::Part::Image(image(address, &format!("{at}.image_url"))?)
            }
            ("image_url", .., None) => {
                return Err(Error::invalid(
                    Some(format!("{at}.image_url")),
                    "an image part needs an image_url",
                ));
            }
            (kind, ..) => {
                let what = format!("parts of the type `{kind}` are not passed on to providers");
                return Err(Error::unsupported(&at, &what));
            }
        });
    }
    if read.is_empty() {
        return match message.tool_calls.is_empty() {
            true => Err(Error::invalid(Some(at.to_owned()), "a message needs a content")),
            false => Ok(()),
        };
    }
    if images {
        message.parts = read.into_iter().map(|part| v1::ChatPart { part: Some(part) }).collect();
        return Ok(());
    }
    let texts = read.into_iter().filter_map(|part| match part {
        v1::chat_part::Part::Text(text) => Some(text),
        v1::chat_part::Part::Image(_) => None,
    });
    message.content = texts.collect::<Vec<_>>().join("\n");
    Ok(())
}

/// An image: at an address, or in one that begins with `data:`.
fn image(Image { url, detail }: Image, at: &str) -> Result<v1::ChatImage, Error> {
    let wrong = |what: &str| Error::invalid(Some(format!("{at}.url")), what);
    let detail = detail.unwrap_or_default();
    let Some(data) = url.strip_prefix("data:") else {
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(wrong("an image has an address that begins with https://, http:// or data:"));
        }
        let source = Some(v1::chat_image::Source::Url(url));
        return Ok(v1::ChatImage { source, detail, ..Default::default() });
    };
    let (head, data) =
        data.split_once(',').ok_or_else(|| wrong("a data: address has a comma before its data"))?;
    let media_type = head.strip_suffix(";base64").ok_or_else(|| wrong("data is taken in base64 alone"))?;
    let data = STANDARD.decode(data).map_err(|e| wrong(&format!("its data is no base64: {e}")))?;
    let source = Some(v1::chat_image::Source::Data(data.into()));
    let media_type = if media_type == "image/jpg" { "image/jpeg" } else { media_type };
    Ok(v1::ChatImage { source, detail, media_type: media_type.to_owned() })
}
