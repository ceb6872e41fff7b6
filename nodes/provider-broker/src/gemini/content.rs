//! Messages as they are sent: contents of parts.

use crate::wire::{object, tool_name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use callboard_domain::llm::{
    Content as Said, Image, ImageSource, Part as Given, Role, TextRequest, ToolResult,
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What models of the third generation take instead of a signature, where a call came from another model: without
/// either they refuse it.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

#[derive(Debug, Serialize)]
pub(super) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    pub(super) parts: Vec<Part<'a>>,
    /// Whether it is what tools said.
    #[serde(skip)]
    of_tools: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Inline<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<Answered<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inline<'a> {
    mime_type: &'a str,
    data: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    file_uri: &'a str,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    name: &'a str,
    args: Cow<'a, RawValue>,
}

#[derive(Debug, Serialize)]
struct Answered<'a> {
    name: &'a str,
    response: Answer<'a>,
}

/// What a tool said: an object as it is, anything else as its output.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Object(Cow<'a, RawValue>),
    Output { output: &'a str },
}

/// The instructions of a request, and its contents. What several tools said of one turn is one content: the API counts
/// them.
pub(super) fn contents<'a>(request: &'a TextRequest, model: &str) -> (Vec<Part<'a>>, Vec<Content<'a>>) {
    let (mut instructions, mut contents) = (Vec::new(), Vec::<Content<'a>>::new());
    let signed = model.trim_start_matches("models/").starts_with("gemini-3");
    for (i, said) in request.messages.iter().enumerate() {
        let mut parts = Vec::with_capacity(1);
        match &said.content {
            Said::Text(text) => parts.push(Part { text: Some(text), ..Part::default() }),
            Said::Parts(given) => parts.extend(given.iter().filter_map(|part| {
                let before = request.messages.get(..i).unwrap_or_default();
                part_of(part, |result| tool_name(before, &result.id).unwrap_or(&result.id))
            })),
        }
        if signed {
            sign(&mut parts);
        }
        let of_tools = said.role == Role::Tool;
        let role = match said.role {
            Role::System => {
                instructions.append(&mut parts);
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "model",
        };
        match contents.last_mut() {
            Some(last) if of_tools && last.of_tools => last.parts.append(&mut parts),
            _ => contents.push(Content { role: Some(role), parts, of_tools }),
        }
    }
    (instructions, contents)
}

/// The parts of instructions as a content.
pub(super) fn instructions(parts: Vec<Part<'_>>) -> Option<Content<'_>> {
    (!parts.is_empty()).then_some(Content { role: None, parts, of_tools: false })
}

/// Only the first call of a turn must have a signature.
fn sign(parts: &mut [Part<'_>]) {
    if let Some(first) = parts.iter_mut().find(|part| part.function_call.is_some()) {
        first.thought_signature.get_or_insert(NO_SIGNATURE);
    }
}

fn part_of<'a>(part: &'a Given, name: impl Fn(&'a ToolResult) -> &'a str) -> Option<Part<'a>> {
    let none = Part::default();
    Some(match part {
        Given::Text(text) if text.is_empty() => return None,
        Given::Text(text) => Part { text: Some(text), ..none },
        Given::Image(Image { source: ImageSource::Data { media_type, data }, .. }) => {
            let inline_data = Inline { mime_type: media_type, data: STANDARD.encode(data) };
            Part { inline_data: Some(inline_data), ..none }
        }
        Given::Image(Image { source: ImageSource::Url(url), .. }) => {
            Part { file_data: Some(File { mime_type: media_type(url), file_uri: url }), ..none }
        }
        Given::ToolCall(call) => Part {
            function_call: Some(Call { name: &call.name, args: object(&call.arguments) }),
            thought_signature: call.signature.as_deref(),
            ..none
        },
        Given::ToolResult(result) => {
            let is_object = result.content.trim_start().starts_with('{')
                && serde_json::from_str::<serde::de::IgnoredAny>(&result.content).is_ok();
            let response = match is_object {
                true => Answer::Object(object(&result.content)),
                false => Answer::Output { output: &result.content },
            };
            Part { function_response: Some(Answered { name: name(result), response }), ..none }
        }
    })
}

/// The media type of an image at an address, by its ending.
fn media_type(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or(url).to_ascii_lowercase();
    let types = [
        (".png", "image/png"),
        (".jpg", "image/jpeg"),
        (".jpeg", "image/jpeg"),
        (".webp", "image/webp"),
        (".gif", "image/gif"),
    ];
    types.iter().find(|(ending, _)| path.ends_with(ending)).map(|(_, media_type)| *media_type)
}
