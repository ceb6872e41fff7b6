//! What is sent.

use crate::wire::json_hint;
use callboard_domain::llm::{Role, TextRequest};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    /// Always sent: the API streams if nothing is said.
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
}

/// The body of a chat.
pub(super) fn chat<'a>(request: &'a TextRequest, model: &'a str, stream: bool) -> Body<'a> {
    let role = |role| match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    // Without it a model may go on writing blanks for ever in its JSON mode.
    let hint = json_hint(request).map(|content| Message { role: "system", content });
    let said = request.messages.iter().map(|m| Message { role: role(m.role), content: &m.content });
    let options = Options { num_predict: request.max_tokens, temperature: request.temperature };
    Body {
        model,
        messages: hint.into_iter().chain(said).collect(),
        stream,
        format: request.json.then_some("json"),
        options: (options != Options::default()).then_some(options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_has_only_what_was_asked_for() {
        let request = TextRequest::prompt("hi").system("be brief");
        let turns = json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]);
        assert_eq!(
            json!(chat(&request, "m", false)),
            json!({"model": "m", "messages": turns, "stream": false})
        );
        let request = TextRequest { json: true, max_tokens: Some(5), temperature: Some(1.5), ..request };
        let body = json!(chat(&request, "m", true));
        assert_eq!(body["messages"].as_array().unwrap().len(), 3);
        assert_eq!((&body["format"], &body["stream"]), (&json!("json"), &json!(true)));
        assert_eq!(body["options"], json!({"num_predict": 5, "temperature": 1.5}));
    }
}
