//! Messages as they are sent.

use crate::wire::json_hint;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use callboard_domain::llm::{Content, Image, ImageSource, Part, Role, TextRequest};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    /// Null where a model only asked for tools.
    content: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

/// A text, or parts where there is more than one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Text(&'a str),
    Parts(Vec<Piece<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: Address<'a> },
}

#[derive(Debug, Serialize)]
struct Address<'a> {
    url: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Extra<'a>>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// What Google's own OpenAI-compatible API wants to see again.
#[derive(Debug, Serialize)]
struct Extra<'a> {
    google: Google<'a>,
}

#[derive(Debug, Serialize)]
struct Google<'a> {
    thought_signature: &'a str,
}

fn plain<'a>(role: &'static str, text: &'a str) -> Message<'a> {
    Message { role, content: Some(Said::Text(text)), tool_calls: Vec::new(), tool_call_id: None }
}

/// The messages of a request.
pub(super) fn messages(request: &TextRequest) -> Vec<Message<'_>> {
    let mut sent = Vec::with_capacity(request.messages.len() + 1);
    // The API refuses its JSON mode if no message asks for JSON.
    sent.extend(json_hint(request).map(|hint| plain("system", hint)));
    for message in &request.messages {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        match &message.content {
            Content::Text(text) => sent.push(plain(role, text)),
            Content::Parts(parts) => in_parts(role, parts, &mut sent),
        }
    }
    sent
}

/// A message of parts. What each tool said is a message of its own.
fn in_parts<'a>(role: &'static str, parts: &'a [Part], sent: &mut Vec<Message<'a>>) {
    let (mut pieces, mut calls) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::Text(text) => pieces.push(Piece::Text { text }),
            Part::Image(image) => pieces.push(Piece::ImageUrl { image_url: address(image) }),
            Part::ToolCall(call) => {
                let google = |signature| Extra { google: Google { thought_signature: signature } };
                calls.push(Call {
                    id: &call.id,
                    kind: "function",
                    function: Function { name: &call.name, arguments: &call.arguments },
                    extra_content: call.signature.as_deref().map(google),
                });
            }
            Part::ToolResult(result) => {
                let id = Some(result.id.as_str());
                sent.push(Message { tool_call_id: id, ..plain("tool", &result.content) });
            }
        }
    }
    let content = match pieces.as_slice() {
        [] if calls.is_empty() => return,
        [] => None,
        // Not every server takes parts.
        [Piece::Text { text }] => Some(Said::Text(text)),
        _ => Some(Said::Parts(pieces)),
    };
    sent.push(Message { role, content, tool_calls: calls, tool_call_id: None });
}

fn address(image: &Image) -> Address<'_> {
    let url = match &image.source {
        ImageSource::Url(url) => url.into(),
        ImageSource::Data { media_type, data } => {
            let mut url = format!("data:{media_type};base64,");
            STANDARD.encode_string(data, &mut url);
            url.into()
        }
    };
    Address { url, detail: image.detail.as_deref() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::{Message as Turn, ToolCall, ToolResult};
    use serde_json::json;

    #[test]
    fn images_calls_and_results_have_their_forms() {
        let image =
            |source, detail: Option<&str>| Part::Image(Image { source, detail: detail.map(str::to_owned) });
        let data = ImageSource::Data { media_type: "image/png".into(), data: vec![1, 2, 3].into() };
        let call = |id: &str, signature: Option<&str>| {
            Part::ToolCall(ToolCall {
                id: id.into(),
                name: "f".into(),
                arguments: "{\"a\": 1}".into(),
                signature: signature.map(str::to_owned),
            })
        };
        let result = |id: &str| Part::ToolResult(ToolResult { id: id.into(), content: "7".into() });
        let turn = |role, parts| Turn { role, content: Content::Parts(parts) };
        let request = TextRequest {
            messages: vec![
                turn(
                    Role::User,
                    vec![
                        Part::Text("look".into()),
                        image(ImageSource::Url("https://x/y.png".into()), Some("low")),
                        image(data, None),
                    ],
                ),
                turn(Role::Assistant, vec![call("1", None), call("2", Some("s"))]),
                turn(Role::Tool, vec![result("1"), result("2")]),
                turn(Role::Assistant, vec![Part::Text("so".into()), call("3", None)]),
            ],
            ..TextRequest::default()
        };
        let function = json!({"name": "f", "arguments": "{\"a\": 1}"});
        let plain = |id: &str| json!({"id": id, "type": "function", "function": function});
        let mut signed = plain("2");
        signed["extra_content"] = json!({"google": {"thought_signature": "s"}});
        let expected = json!([
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [plain("1"), signed]},
            {"role": "tool", "content": "7", "tool_call_id": "1"},
            {"role": "tool", "content": "7", "tool_call_id": "2"},
            {"role": "assistant", "content": "so", "tool_calls": [plain("3")]},
        ]);
        assert_eq!(json!(messages(&request)), expected);
    }
}
