//! What is sent.

use super::message::{Message, messages};
use super::tools::{Choice, Output, Tool, choice, output, tools};
use crate::wire::{Hint, dropped};
use callboard_domain::llm::{Error, TextRequest};
use serde::Serialize;

/// How many tokens are asked for where a call names no limit: the API wants one, and every model can write so
/// many.
const MAX_TOKENS: u32 = 4_096;
/// The API has no switch for it.
const AS_JSON: &str = "Respond with one JSON object and nothing else: no text around it, no code fence.";

#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    system: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Output<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

/// The body of a message. The API has no seed and no penalties: they are left out.
///
/// # Errors
/// If a schema is no JSON.
pub(super) fn message<'a>(request: &'a TextRequest, model: &'a str, stream: bool) -> Result<Body<'a>, Error> {
    let (mut instructions, messages) = messages(request);
    instructions.extend((request.json && request.schema.is_none()).then_some(AS_JSON.into()));
    Ok(Body {
        model,
        max_tokens: request.max_tokens.unwrap_or(MAX_TOKENS),
        messages,
        system: instructions.join("\n\n"),
        // Others go up to 2, and the API refuses what is over 1.
        temperature: request.temperature.map(|t| t.min(1.0)),
        // Newer models refuse both at once.
        top_p: request.top_p.filter(|_| request.temperature.is_none()),
        stop_sequences: &request.stop,
        tools: tools(request)?,
        tool_choice: choice(request),
        output_config: output(request)?,
        stream,
    })
}

/// What a request hints at and the API is not told, or only up to where it goes.
pub(super) fn unsaid(request: &TextRequest) -> Vec<&'static str> {
    let never = [Hint::Seed, Hint::PresencePenalty, Hint::FrequencyPenalty, Hint::Detail];
    let hot = request.temperature.is_some_and(|t| t > 1.0).then_some(Hint::Temperature);
    let both = request.temperature.is_some().then_some(Hint::TopP);
    dropped(request, never.into_iter().chain(hot).chain(both))
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::{
        Content, Image, ImageSource, Message as Said, OutputSchema, Part, Role, Tool as Offered, ToolCall,
        ToolChoice, ToolResult,
    };
    use serde_json::json;

    #[test]
    fn a_request_has_only_what_was_asked_for() {
        assert_eq!(
            json!(message(&TextRequest::prompt("hi"), "m", false).unwrap()),
            json!({"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}]})
        );
    }

    #[test]
    fn instructions_go_into_the_system_prompt_and_turns_keep_their_order() {
        let say = |role, content: &str| Said { role, content: content.into() };
        let request = TextRequest {
            messages: vec![
                say(Role::System, "be brief"),
                say(Role::User, "a"),
                say(Role::Assistant, "b"),
                say(Role::System, "be kind"),
                say(Role::User, "c"),
            ],
            max_tokens: Some(5),
            temperature: Some(1.5),
            json: true,
            ..TextRequest::default()
        };
        let body = json!(message(&request, "m", true).unwrap());
        assert_eq!(body["system"], format!("be brief\n\nbe kind\n\n{AS_JSON}"));
        let turns = json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ]);
        assert_eq!(body["messages"], turns);
        assert_eq!(
            (&body["max_tokens"], &body["temperature"], &body["stream"]),
            (&json!(5), &json!(1.0), &json!(true))
        );
    }

    #[test]
    fn tools_are_offered_chosen_called_and_answered_in_blocks() {
        let say = |role, parts| Said { role, content: Content::Parts(parts) };
        let call = |id: &str, arguments: &str| {
            let (id, name, arguments) = (id.into(), "f".into(), arguments.into());
            Part::ToolCall(ToolCall { id, name, arguments, signature: None })
        };
        let result = |id: &str| {
            say(Role::Tool, vec![Part::ToolResult(ToolResult { id: id.into(), content: "7".into() })])
        };
        let offered = |parameters: Option<&str>| Offered {
            name: "f".into(),
            parameters: parameters.map(str::to_owned),
            strict: Some(false),
            ..Offered::default()
        };
        let request = TextRequest {
            messages: vec![
                Said { role: Role::User, content: "go".into() },
                say(Role::Assistant, vec![Part::Text("so".into()), call("1", "{\"a\":1}"), call("2", "")]),
                result("1"),
                result("2"),
                Said { role: Role::User, content: "and?".into() },
            ],
            tools: vec![offered(Some("{\"type\":\"object\"}")), offered(None)],
            tool_choice: Some(ToolChoice::Named("f".into())),
            parallel_tool_calls: Some(false),
            stop: vec!["END".into()],
            top_p: Some(0.5),
            seed: Some(7),
            ..TextRequest::default()
        };
        let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "7"});
        let uses = |id: &str, input| json!({"type": "tool_use", "id": id, "name": "f", "input": input});
        let expected = json!({
            "model": "m", "max_tokens": 4096, "top_p": 0.5, "stop_sequences": ["END"],
            "messages": [
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "so"}, uses("1", json!({"a": 1})), uses("2", json!({})),
                ]},
                {"role": "user", "content": [result("1"), result("2"), {"type": "text", "text": "and?"}]},
            ],
            "tools": [
                {"name": "f", "input_schema": {"type": "object"}},
                {"name": "f", "input_schema": {"type": "object", "properties": {}}},
            ],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        });
        assert_eq!(json!(message(&request, "m", false).unwrap()), expected);
        let chosen = |choice, parallel_tool_calls| {
            let request = TextRequest { tool_choice: Some(choice), parallel_tool_calls, ..request.clone() };
            json!(message(&request, "m", false).unwrap())["tool_choice"].clone()
        };
        assert_eq!(chosen(ToolChoice::Auto, None), json!(null));
        assert_eq!(chosen(ToolChoice::Required, Some(true)), json!({"type": "any"}));
        assert_eq!(chosen(ToolChoice::None, Some(false)), json!({"type": "none"}));
    }

    #[test]
    fn what_is_not_passed_on_is_told() {
        crate::wire::try_each(|request| json!(message(request, "m", false).unwrap()), unsaid);
        let both = TextRequest { temperature: Some(1.5), top_p: Some(0.5), ..TextRequest::prompt("hi") };
        assert_eq!(unsaid(&both), ["temperature", "top_p"]);
    }

    #[test]
    fn images_and_schemas_have_their_forms() {
        let image = |source| Part::Image(Image { source, detail: Some("low".into()) });
        let data = ImageSource::Data { media_type: "image/png".into(), data: vec![1, 2, 3].into() };
        let parts =
            vec![image(ImageSource::Url("https://x/y".into())), image(data), Part::Text("what?".into())];
        let schema = OutputSchema {
            name: "s".into(),
            schema: "{\"type\":\"object\"}".into(),
            ..OutputSchema::default()
        };
        let request = TextRequest {
            messages: vec![Said { role: Role::User, content: Content::Parts(parts) }],
            schema: Some(schema),
            json: true,
            top_p: Some(0.5),
            temperature: Some(0.5),
            ..TextRequest::default()
        };
        let body = json!(message(&request, "m", false).unwrap());
        let blocks = json!([
            {"type": "image", "source": {"type": "url", "url": "https://x/y"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AQID"}},
            {"type": "text", "text": "what?"},
        ]);
        assert_eq!(body["messages"][0]["content"], blocks);
        assert_eq!(
            body["output_config"],
            json!({"format": {"type": "json_schema", "schema": {"type": "object"}}})
        );
        assert_eq!((body.get("top_p"), body.get("system")), (None, None));
    }
}
