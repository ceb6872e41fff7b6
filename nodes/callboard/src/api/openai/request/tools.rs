//! Tools and the form of answers, as OpenAI's clients ask for them.

use crate::api::openai::error::Error;
use callboard_contracts::v1;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    function: Option<Function>,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    description: Option<String>,
    /// As it is: the order of its fields matters to models.
    #[serde(default)]
    parameters: Option<Box<RawValue>>,
    #[serde(default)]
    strict: Option<bool>,
}

/// The form of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Format {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    json_schema: Option<Schema>,
}

#[derive(Debug, Deserialize)]
struct Schema {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    schema: Option<Box<RawValue>>,
    #[serde(default)]
    strict: Option<bool>,
}

/// The tools for the broker.
pub(super) fn tools(tools: Vec<Tool>) -> Result<Vec<v1::Tool>, Error> {
    let read = |(i, tool): (usize, Tool)| match tool.function.filter(|_| tool.kind == "function") {
        Some(function) => Ok(v1::Tool {
            name: function.name,
            description: function.description.unwrap_or_default(),
            parameters: function
                .parameters
                .map(|json| String::from(Box::<str>::from(json)))
                .unwrap_or_default(),
            strict: function.strict,
        }),
        None if tool.kind == "function" => {
            let at = format!("tools[{i}].function");
            Err(Error::invalid(Some(at), "a tool of the type `function` needs a function"))
        }
        None => {
            let what = format!("tools of the type `{}` are not passed on; `function` is", tool.kind);
            Err(Error::unsupported(&format!("tools[{i}].type"), &what))
        }
    };
    tools.into_iter().enumerate().map(read).collect()
}

/// Whether they shall be called: `none`, `auto`, `required`, or one by its name.
pub(super) fn choice(choice: &Value) -> Result<v1::ToolChoice, Error> {
    let mode = |mode: v1::ToolMode| v1::ToolChoice { mode: mode.into(), name: String::new() };
    match (choice.as_str(), choice["function"]["name"].as_str()) {
        (Some("auto"), _) => Ok(mode(v1::ToolMode::Auto)),
        (Some("none"), _) => Ok(mode(v1::ToolMode::None)),
        (Some("required"), _) => Ok(mode(v1::ToolMode::Required)),
        (None, Some(name)) => Ok(v1::ToolChoice { name: name.to_owned(), ..mode(v1::ToolMode::Named) }),
        _ => {
            let what =
                "it is `none`, `auto`, `required`, or {\"type\": \"function\", \"function\": {\"name\": ..}}";
            Err(Error::unsupported("tool_choice", what))
        }
    }
}

/// Whether the answer shall be JSON, and of which form.
pub(super) fn format(format: Option<Format>) -> Result<(bool, Option<v1::OutputSchema>), Error> {
    let Some(format) = format else { return Ok((false, None)) };
    match format.kind.as_str() {
        "text" => Ok((false, None)),
        "json_object" => Ok((true, None)),
        "json_schema" => {
            let missing = |field: &str| {
                let at = format!("response_format.{field}");
                Error::invalid(
                    Some(at),
                    format!("`response_format` of the type `json_schema` needs `{field}`"),
                )
            };
            let schema = format.json_schema.ok_or_else(|| missing("json_schema"))?;
            let json = schema.schema.ok_or_else(|| missing("json_schema.schema"))?;
            let schema = v1::OutputSchema {
                name: schema.name,
                description: schema.description.unwrap_or_default(),
                schema: Box::<str>::from(json).into(),
                strict: schema.strict,
            };
            Ok((false, Some(schema)))
        }
        other => {
            let what = format!("`{other}` is not passed on; `text`, `json_object` and `json_schema` are");
            Err(Error::unsupported("response_format", &what))
        }
    }
}
