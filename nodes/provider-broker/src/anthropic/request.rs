//! What is sent.

use callboard_domain::llm::{Role, TextRequest};
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

/// The body of a message.
pub(super) fn message<'a>(request: &'a TextRequest, model: &'a str, stream: bool) -> Body<'a> {
    let mut instructions: Vec<&str> = Vec::new();
    let mut messages = Vec::new();
    for said in &request.messages {
        let content = said.content.as_str();
        match said.role {
            Role::System => instructions.push(content),
            Role::User => messages.push(Message { role: "user", content }),
            Role::Assistant => messages.push(Message { role: "assistant", content }),
        }
    }
    instructions.extend(request.json.then_some(AS_JSON));
    Body {
        model,
        max_tokens: request.max_tokens.unwrap_or(MAX_TOKENS),
        messages,
        system: instructions.join("\n\n"),
        // Others go up to 2, and the API refuses what is over 1.
        temperature: request.temperature.map(|t| t.min(1.0)),
        stream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::Message as Said;
    use serde_json::json;

    #[test]
    fn a_request_has_only_what_was_asked_for() {
        assert_eq!(
            json!(message(&TextRequest::prompt("hi"), "m", false)),
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
        let body = json!(message(&request, "m", true));
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
}
