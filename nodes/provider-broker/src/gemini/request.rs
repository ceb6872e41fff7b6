//! What is sent, and where to: the model is a part of the path.

use callboard_domain::llm::{Error, ErrorKind, Role, TextRequest};
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_config: Option<Generation>,
}

#[derive(Debug, Serialize)]
struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<Part<'a>>,
}

#[derive(Debug, Serialize)]
struct Part<'a> {
    text: &'a str,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Generation {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
}

/// The body of a call.
pub(super) fn content(request: &TextRequest) -> Body<'_> {
    let mut instructions = Vec::new();
    let mut contents = Vec::new();
    for said in &request.messages {
        let part = Part { text: &said.content };
        match said.role {
            Role::System => instructions.push(part),
            Role::User => contents.push(Content { role: Some("user"), parts: vec![part] }),
            Role::Assistant => contents.push(Content { role: Some("model"), parts: vec![part] }),
        }
    }
    let generation = Generation {
        max_output_tokens: request.max_tokens,
        temperature: request.temperature,
        response_mime_type: request.json.then_some("application/json"),
    };
    Body {
        contents,
        system_instruction: (!instructions.is_empty()).then_some(Content { role: None, parts: instructions }),
        generation_config: (generation != Generation::default()).then_some(generation),
    }
}

/// The path of a call of a model's method.
///
/// # Errors
/// If the name could not be one of a model: it must not lead anywhere else.
pub(super) fn path(model: &str, method: &str) -> Result<String, Error> {
    let (folder, name) = match model.split_once('/') {
        Some((folder @ ("models" | "tunedModels"), name)) => (folder, name),
        _ => ("models", model),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || !name.chars().all(allowed) {
        let message =
            format!("the model `{model}` cannot be one of Gemini's: letters, digits, '.', '_' and '-'");
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    Ok(format!("v1beta/{folder}/{name}:{method}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::Message as Said;
    use serde_json::json;

    #[test]
    fn a_request_has_only_what_was_asked_for() {
        assert_eq!(
            json!(content(&TextRequest::prompt("hi"))),
            json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
        );
    }

    #[test]
    fn instructions_stand_apart_and_turns_keep_their_order() {
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
        assert_eq!(
            json!(content(&request)),
            json!({
                "systemInstruction": {"parts": [{"text": "be brief"}, {"text": "be kind"}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "a"}]},
                    {"role": "model", "parts": [{"text": "b"}]},
                    {"role": "user", "parts": [{"text": "c"}]},
                ],
                "generationConfig": {
                    "maxOutputTokens": 5, "temperature": 1.5, "responseMimeType": "application/json",
                },
            })
        );
    }

    #[test]
    fn a_model_leads_nowhere_else() {
        assert_eq!(path("gemini-2.5-flash", "m").unwrap(), "v1beta/models/gemini-2.5-flash:m");
        assert_eq!(path("models/a", "m").unwrap(), "v1beta/models/a:m");
        assert_eq!(path("tunedModels/a", "m").unwrap(), "v1beta/tunedModels/a:m");
        for wrong in ["", "models/", "../files", "a?key=b", "a/b", "files/a", "a#", "a%2f", "ä"] {
            assert_eq!(path(wrong, "m").unwrap_err().kind, ErrorKind::InvalidRequest, "{wrong}");
        }
    }
}
