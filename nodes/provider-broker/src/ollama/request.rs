//! What is sent.

use super::message::{Message, Tool, messages, tools};
use crate::wire::{Hint, dropped, raw};
use callboard_domain::llm::{Error, TextRequest};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    /// Always sent: the API streams if nothing is said.
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Options::is_nothing")]
    options: Options<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Format<'a> {
    Json(&'static str),
    Schema(&'a RawValue),
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Options<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
}

impl Options<'_> {
    fn is_nothing(&self) -> bool {
        *self == Options::default()
    }
}

/// The body of a chat.
///
/// # Errors
/// If it asks for what the API has no word for, or a schema is no JSON.
pub(super) fn chat<'a>(request: &'a TextRequest, model: &'a str, stream: bool) -> Result<Body<'a>, Error> {
    let schema = request.schema.as_ref().map(|schema| raw("the schema", &schema.schema)).transpose()?;
    Ok(Body {
        model,
        messages: messages(request)?,
        stream,
        format: schema.map(Format::Schema).or(request.json.then_some(Format::Json("json"))),
        tools: tools(request)?,
        options: Options {
            num_predict: request.max_tokens,
            temperature: request.temperature,
            top_p: request.top_p,
            seed: request.seed,
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
            stop: &request.stop,
        },
    })
}

/// What a request hints at and the API is not told.
pub(super) fn unsaid(request: &TextRequest) -> Vec<&'static str> {
    dropped(request, [Hint::ParallelToolCalls, Hint::Strict, Hint::Detail])
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::{
        Content, ErrorKind, Image, ImageSource, Message as Said, OutputSchema, Part, Role, Tool as Offered,
        ToolCall, ToolChoice, ToolResult,
    };
    use serde_json::json;

    #[test]
    fn a_request_has_only_what_was_asked_for() {
        let request = TextRequest::prompt("hi").system("be brief");
        let turns = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]);
        assert_eq!(
            json!(chat(&request, "m", false).unwrap()),
            json!({"model": "m", "messages": turns, "stream": false})
        );
        let request = TextRequest { json: true, max_tokens: Some(5), temperature: Some(1.5), ..request };
        let body = json!(chat(&request, "m", true).unwrap());
        assert_eq!(body["messages"].as_array().unwrap().len(), 3);
        assert_eq!((&body["format"], &body["stream"]), (&json!("json"), &json!(true)));
        assert_eq!(body["options"], json!({"num_predict": 5, "temperature": 1.5}));
    }

    #[test]
    fn what_is_not_passed_on_is_told() {
        crate::wire::try_each(|request| json!(chat(request, "m", false).unwrap()), unsaid);
    }

    #[test]
    fn tools_images_and_schemas_have_their_forms() {
        let say = |role, parts| Said { role, content: Content::Parts(parts) };
        let image = |source| Part::Image(Image { source, detail: None });
        let data = ImageSource::Data { media_type: "image/png".into(), data: vec![1, 2, 3].into() };
        let call =
            ToolCall { id: "1".into(), name: "f".into(), arguments: "{\"a\":1}".into(), signature: None };
        let result = ToolResult { id: "1".into(), content: "7".into() };
        let request = TextRequest {
            messages: vec![
                say(Role::User, vec![Part::Text("look".into()), image(data)]),
                say(Role::Assistant, vec![Part::ToolCall(call)]),
                say(Role::Tool, vec![Part::ToolResult(result)]),
            ],
            tools: vec![Offered { name: "f".into(), ..Offered::default() }],
            schema: Some(OutputSchema { schema: "{\"type\":\"object\"}".into(), ..OutputSchema::default() }),
            seed: Some(7),
            stop: vec!["END".into()],
            ..TextRequest::default()
        };
        let parameters = json!({"type": "object", "properties": {}});
        let expected = json!({
            "model": "m", "stream": false, "format": {"type": "object"}, "options": {"seed": 7, "stop": ["END"]},
            "messages": [
                {"role": "user", "content": "look", "images": ["AQID"]},
                {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
                {"role": "tool", "content": "7", "tool_name": "f"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "description": "f", "parameters": parameters}}],
        });
        assert_eq!(json!(chat(&request, "m", false).unwrap()), expected);
        let chosen = |choice| TextRequest { tool_choice: Some(choice), ..request.clone() };
        assert!(json!(chat(&chosen(ToolChoice::None), "m", false).unwrap()).get("tools").is_none());
        let forced = chosen(ToolChoice::Required);
        assert_eq!(chat(&forced, "m", false).unwrap_err().kind, ErrorKind::Unsupported);
        let elsewhere = vec![say(Role::User, vec![image(ImageSource::Url("https://x/y".into()))])];
        let request = TextRequest { messages: elsewhere, ..request };
        assert_eq!(chat(&request, "m", false).unwrap_err().kind, ErrorKind::Unsupported);
    }
}
