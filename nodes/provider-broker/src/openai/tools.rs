//! Tools and the form of answers, as they are asked for and as tools are called.

use crate::wire::raw;
use callboard_domain::llm::{Error, TextRequest, ToolCall, ToolChoice};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Choice<'a> {
    Mode(&'static str),
    Named {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Name<'a>,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct Name<'a> {
    name: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct Format<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<Schema<'a>>,
}

#[derive(Debug, Serialize)]
struct Schema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// The tools of a request.
///
/// # Errors
/// If the schema of one is no JSON.
pub(super) fn tools(request: &TextRequest) -> Result<Vec<Tool<'_>>, Error> {
    request
        .tools
        .iter()
        .map(|tool| {
            let parameters = tool.parameters.as_deref();
            Ok(Tool {
                kind: "function",
                function: Function {
                    name: &tool.name,
                    description: tool.description.as_deref(),
                    parameters: parameters.map(|json| raw("the schema of a tool", json)).transpose()?,
                    strict: tool.strict,
                },
            })
        })
        .collect()
}

/// Whether tools shall be called.
pub(super) fn choice(choice: &ToolChoice) -> Choice<'_> {
    match choice {
        ToolChoice::Auto => Choice::Mode("auto"),
        ToolChoice::None => Choice::Mode("none"),
        ToolChoice::Required => Choice::Mode("required"),
        ToolChoice::Named(name) => Choice::Named { kind: "function", function: Name { name } },
    }
}

/// The form that the answer shall have.
///
/// # Errors
/// If the schema is no JSON.
pub(super) fn format(request: &TextRequest) -> Result<Option<Format<'_>>, Error> {
    let Some(schema) = &request.schema else {
        return Ok(request.json.then_some(Format { kind: "json_object", json_schema: None }));
    };
    let json_schema = Schema {
        name: &schema.name,
        description: schema.description.as_deref(),
        schema: raw("the schema", &schema.schema)?,
        strict: schema.strict,
    };
    Ok(Some(Format { kind: "json_schema", json_schema: Some(json_schema) }))
}

/// A call of a tool, or a piece of one.
#[derive(Debug, Deserialize)]
pub(super) struct Called {
    #[serde(default)]
    pub(super) index: Option<u64>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    function: Option<Wanted>,
    #[serde(default)]
    extra_content: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Wanted {
    #[serde(default)]
    name: Option<String>,
    /// A text; some servers send the object.
    #[serde(default)]
    arguments: Value,
}

impl Called {
    /// The call, or what a piece says of one.
    pub(super) fn into_call(self) -> ToolCall {
        let Wanted { name, arguments } = self.function.unwrap_or_default();
        let signature = self.extra_content.as_ref().and_then(|e| e["google"]["thought_signature"].as_str());
        ToolCall {
            id: self.id.unwrap_or_default(),
            name: name.unwrap_or_default(),
            arguments: match arguments {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => other.to_string(),
            },
            signature: signature.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::chat;
    use super::*;
    use callboard_domain::llm::{ErrorKind, OutputSchema, Tool as Offered};
    use serde_json::json;

    #[test]
    fn tools_and_schemas_are_passed_on_as_they_are() {
        let request = TextRequest {
            tools: vec![
                Offered {
                    name: "f".into(),
                    description: Some("does f".into()),
                    parameters: Some(
                        r#"{"type": "object", "properties": {"z": {}, "a": {"const": 1.10}}}"#.into(),
                    ),
                    strict: Some(true),
                },
                Offered { name: "g".into(), ..Offered::default() },
            ],
            tool_choice: Some(ToolChoice::Named("f".into())),
            parallel_tool_calls: Some(false),
            schema: Some(OutputSchema {
                name: "s".into(),
                schema: "{\"b\":0,\"a\":1}".into(),
                strict: Some(true),
                ..OutputSchema::default()
            }),
            ..TextRequest::prompt("hi")
        };
        let body = chat(&request, "m", false).unwrap();
        // The order of fields matters to models.
        let text = serde_json::to_string(&body).unwrap();
        assert!(
            text.contains(
                r#""parameters":{"type": "object", "properties": {"z": {}, "a": {"const": 1.10}}}"#
            )
        );
        let body = json!(body);
        assert_eq!(body["tools"][1], json!({"type": "function", "function": {"name": "g"}}));
        assert_eq!(body["tools"][0]["function"]["strict"], true);
        assert_eq!(body["tool_choice"], json!({"type": "function", "function": {"name": "f"}}));
        assert_eq!(body["parallel_tool_calls"], false);
        let schema = json!({"name": "s", "schema": {"a": 1, "b": 0}, "strict": true});
        assert_eq!(body["response_format"], json!({"type": "json_schema", "json_schema": schema}));
        let none = TextRequest { tools: Vec::new(), ..request.clone() };
        assert!(json!(chat(&none, "m", false).unwrap()).get("tool_choice").is_none());
        let wrong = Offered { parameters: Some("{".into()), ..Offered::default() };
        let request = TextRequest { tools: vec![wrong], ..request };
        assert_eq!(chat(&request, "m", false).unwrap_err().kind, ErrorKind::InvalidRequest);
    }
}
