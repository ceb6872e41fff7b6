//! Messages as they are sent.
//!
//! What tools said stands in a message of the user, first, and all of one turn in the same: the API refuses it anywhere
//! else. So such messages are put together, and what the user says right after them with them.

use crate::wire::object;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use callboard_domain::llm::{Content, Image, ImageSource, Part, Role, TextRequest};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Said<'a>,
    /// Whether it holds what tools said.
    #[serde(skip)]
    of_tools: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Text(&'a str),
    Blocks(Vec<Block<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str },
    Image { source: Source<'a> },
    ToolUse { id: &'a str, name: &'a str, input: Cow<'a, RawValue> },
    ToolResult { tool_use_id: &'a str, content: &'a str },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: String },
    Url { url: &'a str },
}

/// The instructions of a request, and its messages.
pub(super) fn messages(request: &TextRequest) -> (Vec<Cow<'_, str>>, Vec<Message<'_>>) {
    let (mut instructions, mut sent) = (Vec::new(), Vec::<Message<'_>>::new());
    for said in &request.messages {
        let role = match said.role {
            Role::System => {
                instructions.push(said.content.text());
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        let of_tools = said.role == Role::Tool;
        if let Some(Message { role: "user", content: Said::Blocks(blocks), of_tools: true }) = sent.last_mut()
            && role == "user"
        {
            blocks.extend(in_blocks(&said.content));
            continue;
        }
        let content = match &said.content {
            Content::Text(text) => Said::Text(text),
            content @ Content::Parts(_) => Said::Blocks(in_blocks(content)),
        };
        sent.push(Message { role, content, of_tools });
    }
    (instructions, sent)
}

fn in_blocks(content: &Content) -> Vec<Block<'_>> {
    match content {
        Content::Text(text) => vec![Block::Text { text }],
        Content::Parts(parts) => parts.iter().filter_map(block).collect(),
    }
}

/// A part as a block; an empty text, which the API refuses, is none.
fn block(part: &Part) -> Option<Block<'_>> {
    Some(match part {
        Part::Text(text) if text.is_empty() => return None,
        Part::Text(text) => Block::Text { text },
        Part::Image(Image { source: ImageSource::Url(url), .. }) => {
            Block::Image { source: Source::Url { url } }
        }
        Part::Image(Image { source: ImageSource::Data { media_type, data }, .. }) => {
            Block::Image { source: Source::Base64 { media_type, data: STANDARD.encode(data) } }
        }
        Part::ToolCall(call) => {
            Block::ToolUse { id: &call.id, name: &call.name, input: object(&call.arguments) }
        }
        Part::ToolResult(result) => Block::ToolResult { tool_use_id: &result.id, content: &result.content },
    })
}
