//! Messages, tools and the form of answers.

use super::llm::some;
use crate::error::Violation;
use crate::limits;
use crate::llm::{
    Content, Image, ImageSource, Message, OutputSchema, Part, Role, Tool, ToolCall, ToolCallDelta,
    ToolChoice, ToolResult,
};
use callboard_contracts::v1;
use serde::de::IgnoredAny;

/// Collects what is wrong.
pub(super) type Wrong = Vec<Violation>;

pub(super) fn bad(wrong: &mut Wrong, field: String, description: &str) {
    wrong.push(Violation { field, description: description.into() });
}

/// A message on the wire. A message of several tools is several there.
pub(super) fn message_to_proto(message: &Message) -> Vec<v1::ChatMessage> {
    let role = match message.role {
        Role::System => v1::ChatRole::System,
        Role::User => v1::ChatRole::User,
        Role::Assistant => v1::ChatRole::Assistant,
        Role::Tool => v1::ChatRole::Tool,
    };
    let plain = |content: &str| v1::ChatMessage {
        role: role.into(),
        content: content.to_owned(),
        ..Default::default()
    };
    let parts = match &message.content {
        Content::Text(text) => return vec![plain(text)],
        Content::Parts(parts) => parts,
    };
    let (mut said, mut results) = (plain(""), Vec::new());
    for part in parts {
        match part {
            Part::Text(text) => said.parts.push(text_part(text.clone())),
            Part::Image(image) => said.parts.push(image_to_proto(image)),
            Part::ToolCall(call) => said.tool_calls.push(tool_call_to_proto(call.clone())),
            Part::ToolResult(result) => {
                results.push(v1::ChatMessage { tool_call_id: result.id.clone(), ..plain(&result.content) });
            }
        }
    }
    // As most are: one text, where nothing but the calls needs parts.
    if let [v1::ChatPart { part: Some(v1::chat_part::Part::Text(text)) }] = &mut said.parts[..] {
        said.content = std::mem::take(text);
        said.parts.clear();
    }
    if results.is_empty() || !said.parts.is_empty() || !said.tool_calls.is_empty() {
        results.push(said);
    }
    results
}

fn text_part(text: String) -> v1::ChatPart {
    v1::ChatPart { part: Some(v1::chat_part::Part::Text(text)) }
}

fn image_to_proto(image: &Image) -> v1::ChatPart {
    let (source, media_type) = match &image.source {
        ImageSource::Url(url) => (v1::chat_image::Source::Url(url.clone()), String::new()),
        ImageSource::Data { media_type, data } => {
            (v1::chat_image::Source::Data(data.clone()), media_type.clone())
        }
    };
    let detail = image.detail.clone().unwrap_or_default();
    let image = v1::ChatImage { source: Some(source), media_type, detail };
    v1::ChatPart { part: Some(v1::chat_part::Part::Image(image)) }
}

/// A message from the wire; `None` if it is wrong.
pub(super) fn message_from_proto(i: usize, message: v1::ChatMessage, wrong: &mut Wrong) -> Option<Message> {
    let at = |field: &str| format!("messages[{i}].{field}");
    let v1::ChatMessage { role, content, parts, tool_calls, tool_call_id } = message;
    let role = match v1::ChatRole::try_from(role) {
        Ok(v1::ChatRole::System) => Role::System,
        Ok(v1::ChatRole::User) => Role::User,
        Ok(v1::ChatRole::Assistant) => Role::Assistant,
        Ok(v1::ChatRole::Tool) => Role::Tool,
        _ => {
            bad(wrong, at("role"), "must be SYSTEM, USER, ASSISTANT or TOOL");
            return None;
        }
    };
    let before = wrong.len();
    if (role == Role::Tool) == tool_call_id.is_empty() {
        bad(wrong, at("tool_call_id"), "must name the call that a tool answers, and only a tool answers one");
    }
    if role != Role::Assistant && !tool_calls.is_empty() {
        bad(wrong, at("tool_calls"), "only a model calls tools");
    }
    if tool_calls.len() > limits::TOOLS {
        bad(wrong, at("tool_calls"), "must be at most 128");
    }
    if !parts.is_empty() && !content.is_empty() {
        bad(wrong, at("content"), "must be empty beside parts");
    }
    let mut read = Vec::with_capacity(parts.len() + tool_calls.len());
    for (j, part) in parts.into_iter().enumerate() {
        let at = format!("messages[{i}].parts[{j}]");
        match part.part {
            Some(v1::chat_part::Part::Text(text)) => read.push(Part::Text(text)),
            Some(v1::chat_part::Part::Image(_)) if role != Role::User => {
                bad(wrong, at, "only a person shows images");
            }
            Some(v1::chat_part::Part::Image(image)) => read.extend(image_from_proto(at, image, wrong)),
            None => bad(wrong, at, "must be a text or an image"),
        }
    }
    for (j, call) in tool_calls.into_iter().enumerate() {
        if call.id.is_empty() || call.name.is_empty() {
            bad(wrong, format!("messages[{i}].tool_calls[{j}]"), "must have an id and a name");
        }
        read.push(Part::ToolCall(tool_call_from_proto(call)));
    }
    let content = match role {
        Role::Tool => {
            let content = if read.is_empty() { content } else { Content::Parts(read).text().into_owned() };
            Content::Parts(vec![Part::ToolResult(ToolResult { id: tool_call_id, content })])
        }
        _ if read.is_empty() => Content::Text(content),
        _ => {
            if !content.is_empty() {
                read.insert(0, Part::Text(content));
            }
            Content::Parts(read)
        }
    };
    (wrong.len() == before).then_some(Message { role, content })
}

fn image_from_proto(at: String, image: v1::ChatImage, wrong: &mut Wrong) -> Option<Part> {
    const TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/gif"];
    let detail = some(&image.detail);
    if detail.as_deref().is_some_and(|detail| !matches!(detail, "low" | "high" | "auto")) {
        bad(wrong, format!("{at}.detail"), "must be `low`, `high` or `auto`");
        return None;
    }
    let source = match image.source {
        Some(v1::chat_image::Source::Url(url)) => {
            if !url.starts_with("https://") && !url.starts_with("http://") {
                bad(wrong, format!("{at}.url"), "must begin with https:// or http://");
                return None;
            }
            ImageSource::Url(url)
        }
        Some(v1::chat_image::Source::Data(data)) => {
            if data.is_empty() || !TYPES.contains(&image.media_type.as_str()) {
                bad(wrong, at, "must hold data, as image/png, image/jpeg, image/webp or image/gif");
                return None;
            }
            ImageSource::Data { media_type: image.media_type, data }
        }
        None => {
            bad(wrong, at, "must have an address or data");
            return None;
        }
    };
    Some(Part::Image(Image { source, detail }))
}

/// A call of a tool on the wire.
#[must_use]
pub fn tool_call_to_proto(call: ToolCall) -> v1::ToolCall {
    let ToolCall { id, name, arguments, signature } = call;
    v1::ToolCall { id, name, arguments, signature: signature.unwrap_or_default() }
}

/// A call of a tool from the wire.
#[must_use]
pub fn tool_call_from_proto(call: v1::ToolCall) -> ToolCall {
    let v1::ToolCall { id, name, arguments, signature } = call;
    ToolCall { id, name, arguments, signature: Some(signature).filter(|s| !s.is_empty()) }
}

/// A piece of a call on the wire.
#[must_use]
pub fn tool_call_delta_to_proto(delta: ToolCallDelta) -> v1::ToolCallDelta {
    let ToolCallDelta { index, id, name, arguments, signature } = delta;
    v1::ToolCallDelta { index, id, name, arguments, signature: signature.unwrap_or_default() }
}

pub(super) fn tool_to_proto(tool: &Tool) -> v1::Tool {
    v1::Tool {
        name: tool.name.clone(),
        description: tool.description.clone().unwrap_or_default(),
        parameters: tool.parameters.clone().unwrap_or_default(),
        strict: tool.strict,
    }
}

pub(super) fn tools_from_proto(tools: Vec<v1::Tool>, wrong: &mut Wrong) -> Vec<Tool> {
    if tools.len() > limits::TOOLS {
        bad(wrong, "tools".into(), "must be at most 128");
    }
    for (i, tool) in tools.iter().enumerate() {
        if !is_name(&tool.name) {
            bad(wrong, format!("tools[{i}].name"), "must be 1 to 64 of a-z, A-Z, 0-9, '_' and '-'");
        }
        if !tool.parameters.is_empty() && !is_object(&tool.parameters) {
            bad(wrong, format!("tools[{i}].parameters"), "must be a JSON object");
        }
    }
    let read = |tool: v1::Tool| Tool {
        name: tool.name,
        description: Some(tool.description).filter(|text| !text.is_empty()),
        parameters: Some(tool.parameters).filter(|text| !text.is_empty()),
        strict: tool.strict,
    };
    tools.into_iter().map(read).collect()
}

pub(super) fn tool_choice_to_proto(choice: &ToolChoice) -> v1::ToolChoice {
    let (mode, name) = match choice {
        ToolChoice::Auto => (v1::ToolMode::Auto, String::new()),
        ToolChoice::None => (v1::ToolMode::None, String::new()),
        ToolChoice::Required => (v1::ToolMode::Required, String::new()),
        ToolChoice::Named(name) => (v1::ToolMode::Named, name.clone()),
    };
    v1::ToolChoice { mode: mode.into(), name }
}

pub(super) fn tool_choice_from_proto(
    choice: Option<v1::ToolChoice>,
    tools: &[Tool],
    wrong: &mut Wrong,
) -> Option<ToolChoice> {
    let v1::ToolChoice { mode, name } = choice?;
    let choice = match v1::ToolMode::try_from(mode) {
        Ok(v1::ToolMode::None) => ToolChoice::None,
        Ok(v1::ToolMode::Required) => ToolChoice::Required,
        Ok(v1::ToolMode::Named) => ToolChoice::Named(name),
        Ok(v1::ToolMode::Auto | v1::ToolMode::Unspecified) => ToolChoice::Auto,
        Err(_) => {
            bad(wrong, "tool_choice".into(), "must be AUTO, NONE, REQUIRED or NAMED");
            return None;
        }
    };
    let known = |name: &String| tools.iter().any(|tool| tool.name == *name);
    match &choice {
        ToolChoice::Named(name) if !known(name) => {
            bad(wrong, "tool_choice".into(), "must name one of the tools");
        }
        ToolChoice::Required if tools.is_empty() => {
            bad(wrong, "tool_choice".into(), "must not ask for tools where there are none");
        }
        _ => {}
    }
    Some(choice)
}

pub(super) fn schema_to_proto(schema: &OutputSchema) -> v1::OutputSchema {
    v1::OutputSchema {
        name: schema.name.clone(),
        description: schema.description.clone().unwrap_or_default(),
        schema: schema.schema.clone(),
        strict: schema.strict,
    }
}

pub(super) fn schema_from_proto(schema: v1::OutputSchema, wrong: &mut Wrong) -> OutputSchema {
    if !is_name(&schema.name) {
        bad(wrong, "schema.name".into(), "must be 1 to 64 of a-z, A-Z, 0-9, '_' and '-'");
    }
    if !is_object(&schema.schema) {
        bad(wrong, "schema.schema".into(), "must be a JSON object");
    }
    OutputSchema {
        name: schema.name,
        description: Some(schema.description).filter(|text| !text.is_empty()),
        schema: schema.schema,
        strict: schema.strict,
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !name.is_empty() && name.len() <= 64 && name.chars().all(allowed)
}

fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(json).is_ok()
}
