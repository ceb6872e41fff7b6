//! What is sent, and where to: the model is a part of the path.

use super::content::{Content, contents, instructions};
use super::tools::{Config, Tools, config, tools};
use crate::wire::{Hint, dropped, raw};
use callboard_domain::llm::{Error, ErrorKind, TextRequest};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Config<'a>>,
    #[serde(skip_serializing_if = "Generation::is_nothing")]
    generation_config: Generation<'a>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Generation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawValue>,
}

impl Generation<'_> {
    /// Whether it asks for nothing.
    fn is_nothing(&self) -> bool {
        let Self { max_output_tokens, temperature, top_p, seed, presence_penalty, frequency_penalty, .. } =
            self;
        let numbers = [temperature, top_p, presence_penalty, frequency_penalty];
        max_output_tokens.is_none()
            && seed.is_none()
            && numbers.iter().all(|number| number.is_none())
            && self.stop_sequences.is_empty()
            && self.response_mime_type.is_none()
    }
}

/// The body of a call.
///
/// # Errors
/// If a schema is no JSON.
pub(super) fn content<'a>(request: &'a TextRequest, model: &str) -> Result<Body<'a>, Error> {
    let (said, contents) = contents(request, model);
    let schema = request.schema.as_ref().map(|schema| raw("the schema", &schema.schema)).transpose()?;
    Ok(Body {
        contents,
        system_instruction: instructions(said),
        tools: tools(request)?,
        tool_config: config(request),
        generation_config: Generation {
            max_output_tokens: request.max_tokens,
            temperature: request.temperature,
            top_p: request.top_p,
            // Only the lower half has room: which number it is does not matter.
            seed: request.seed.map(|seed| i32::try_from(seed & 0x7fff_ffff).unwrap_or_default()),
            presence_penalty: request.presence_penalty,
            frequency_penalty: request.frequency_penalty,
            stop_sequences: &request.stop,
            response_mime_type: (request.json || schema.is_some()).then_some("application/json"),
            response_json_schema: schema,
        },
    })
}

/// What a request hints at and the API is not told.
pub(super) fn unsaid(request: &TextRequest) -> Vec<&'static str> {
    dropped(request, [Hint::ParallelToolCalls, Hint::Strict, Hint::Detail])
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
    use callboard_domain::llm::{
        Content as Holds, Image, ImageSource, Message as Said, OutputSchema, Part, Role, Tool, ToolCall,
        ToolChoice, ToolResult,
    };
    use serde_json::json;

    #[test]
    fn a_request_has_only_what_was_asked_for() {
        assert_eq!(
            json!(content(&TextRequest::prompt("hi"), "m").unwrap()),
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
            json!(content(&request, "m").unwrap()),
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
    fn what_is_not_passed_on_is_told() {
        crate::wire::try_each(|request| json!(content(request, "m").unwrap()), unsaid);
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

    #[test]
    fn tools_are_offered_called_and_answered_in_parts() {
        let say = |role, parts| Said { role, content: Holds::Parts(parts) };
        let call = |id: &str, name: &str, signature: Option<&str>| {
            let (id, name, arguments) = (id.into(), name.into(), "{\"a\":1}".into());
            Part::ToolCall(ToolCall { id, name, arguments, signature: signature.map(str::to_owned) })
        };
        let result = |id: &str, content: &str| {
            say(Role::Tool, vec![Part::ToolResult(ToolResult { id: id.into(), content: content.into() })])
        };
        let request = TextRequest {
            messages: vec![
                Said { role: Role::User, content: "go".into() },
                say(Role::Assistant, vec![call("1", "f", Some("s")), call("2", "g", None)]),
                result("1", "{\"t\":7}"),
                result("2", "warm"),
                say(Role::Assistant, vec![call("3", "f", None)]),
                result("3", "[1]"),
            ],
            tools: vec![Tool {
                name: "f".into(),
                parameters: Some("{\"type\":\"object\"}".into()),
                ..Tool::default()
            }],
            tool_choice: Some(ToolChoice::Named("f".into())),
            ..TextRequest::default()
        };
        let called = |name: &str| json!({"functionCall": {"name": name, "args": {"a": 1}}});
        let mut signed = called("f");
        signed["thoughtSignature"] = json!("s");
        let answered =
            |name: &str, response| json!({"functionResponse": {"name": name, "response": response}});
        let expected = json!({
            "contents": [
                {"role": "user", "parts": [{"text": "go"}]},
                {"role": "model", "parts": [signed, called("g")]},
                {"role": "user", "parts": [
                    answered("f", json!({"t": 7})), answered("g", json!({"output": "warm"})),
                ]},
                {"role": "model", "parts": [called("f")]},
                {"role": "user", "parts": [answered("f", json!({"output": "[1]"}))]},
            ],
            "tools": [{"functionDeclarations": [
                {"name": "f", "description": "f", "parametersJsonSchema": {"type": "object"}},
            ]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        });
        assert_eq!(json!(content(&request, "gemini-2.5-flash").unwrap()), expected);
        // Models of the third generation insist on a signature, of the first call of a turn.
        let third = json!(content(&request, "models/gemini-3-pro").unwrap());
        let signatures = [1, 3]
            .map(|turn| third["contents"][turn]["parts"][0]["thoughtSignature"].as_str().unwrap().to_owned());
        assert_eq!(signatures, ["s", "skip_thought_signature_validator"]);
        assert!(third["contents"][1]["parts"][1].get("thoughtSignature").is_none());
    }

    #[test]
    fn images_and_schemas_and_sampling_have_their_forms() {
        let image = |source| Part::Image(Image { source, detail: None });
        let data = ImageSource::Data { media_type: "image/png".into(), data: vec![1, 2, 3].into() };
        let parts = vec![
            image(ImageSource::Url("https://x/y.JPG?z".into())),
            image(ImageSource::Url("https://x/y".into())),
            image(data),
        ];
        let schema = OutputSchema {
            name: "s".into(),
            schema: "{\"type\":\"object\"}".into(),
            ..OutputSchema::default()
        };
        let request = TextRequest {
            messages: vec![Said { role: Role::User, content: Holds::Parts(parts) }],
            schema: Some(schema),
            top_p: Some(0.5),
            seed: Some(-1),
            presence_penalty: Some(0.5),
            stop: vec!["END".into()],
            ..TextRequest::default()
        };
        let body = json!(content(&request, "m").unwrap());
        let parts = json!([
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x/y.JPG?z"}},
            {"fileData": {"fileUri": "https://x/y"}},
            {"inlineData": {"mimeType": "image/png", "data": "AQID"}},
        ]);
        assert_eq!(body["contents"][0]["parts"], parts);
        let config = json!({
            "topP": 0.5, "seed": i32::MAX, "presencePenalty": 0.5, "stopSequences": ["END"],
            "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
        });
        assert_eq!(body["generationConfig"], config);
    }
}
