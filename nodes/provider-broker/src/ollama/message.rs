//! Messages and tools as they are sent.

use crate::wire::{json_hint, object, raw, tool_name, unsupported};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use callboard_domain::llm::{Content, Error, ImageSource, Part, Role, TextRequest, ToolChoice};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The parameters of a tool that takes nothing: the API wants some.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

#[derive(Debug, Default, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    function: Called<'a>,
}

#[derive(Debug, Serialize)]
struct Called<'a> {
    name: &'a str,
    arguments: Cow<'a, RawValue>,
}

#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    /// The API wants one.
    description: &'a str,
    parameters: &'a RawValue,
}

/// The messages of a request.
///
/// # Errors
/// If an image is elsewhere: the API gets none.
pub(super) fn messages(request: &TextRequest) -> Result<Vec<Message<'_>>, Error> {
    let mut sent = Vec::with_capacity(request.messages.len() + 1);
    // Without it a model may go on writing blanks for ever in its JSON mode.
    let hint = |text: &'static str| Message { role: "system", content: text.into(), ..Message::default() };
    sent.extend(json_hint(request).map(hint));
    for (i, message) in request.messages.iter().enumerate() {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        let mut said = Message { role, ..Message::default() };
        match &message.content {
            Content::Text(text) => said.content = Cow::Borrowed(text),
            Content::Parts(parts) => {
                let mut texts = Vec::new();
                for part in parts {
                    match part {
                        Part::Text(text) => texts.push(text.as_str()),
                        Part::Image(image) => said.images.push(match &image.source {
                            ImageSource::Data { data, .. } => STANDARD.encode(data),
                            ImageSource::Url(_) => {
                                return Err(unsupported(
                                    "Ollama takes images themselves, not their addresses",
                                ));
                            }
                        }),
                        Part::ToolCall(call) => said.tool_calls.push(Call {
                            function: Called { name: &call.name, arguments: object(&call.arguments) },
                        }),
                        Part::ToolResult(result) => sent.push(Message {
                            role,
                            content: Cow::Borrowed(&result.content),
                            tool_name: request
                                .messages
                                .get(..i)
                                .and_then(|before| tool_name(before, &result.id)),
                            ..Message::default()
                        }),
                    }
                }
                said.content = match texts.as_slice() {
                    [one] => Cow::Borrowed(one),
                    texts => Cow::Owned(texts.join("\n")),
                };
                if message.role == Role::Tool {
                    continue;
                }
            }
        }
        sent.push(said);
    }
    Ok(sent)
}

/// The tools of a request.
///
/// # Errors
/// If one must be called: the API has no word for it. And if the schema of one is no JSON.
pub(super) fn tools(request: &TextRequest) -> Result<Vec<Tool<'_>>, Error> {
    match &request.tool_choice {
        Some(choice) if choice.is_forced() => {
            return Err(unsupported("Ollama cannot be made to call a tool (tool_choice)"));
        }
        Some(ToolChoice::None) => return Ok(Vec::new()),
        _ => {}
    }
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in &request.tools {
        let parameters = raw("the schema of a tool", tool.parameters.as_deref().unwrap_or(NO_PARAMETERS))?;
        let description = tool.description.as_deref().unwrap_or(&tool.name);
        tools.push(Tool {
            kind: "function",
            function: Function { name: &tool.name, description, parameters },
        });
    }
    Ok(tools)
}
