//! Tools and the form of answers, as they are asked for.

use crate::wire::raw;
use callboard_domain::llm::{Error, TextRequest, ToolChoice};
use serde::Serialize;
use serde_json::value::RawValue;

/// The schema of a tool that takes nothing: the API wants one.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Debug, Serialize)]
pub(super) struct Output<'a> {
    format: Format<'a>,
}

#[derive(Debug, Serialize)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a RawValue,
}

/// The tools of a request.
///
/// # Errors
/// If the schema of one is no JSON.
pub(super) fn tools(request: &TextRequest) -> Result<Vec<Tool<'_>>, Error> {
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in &request.tools {
        let parameters = tool.parameters.as_deref().unwrap_or(NO_PARAMETERS);
        tools.push(Tool {
            name: &tool.name,
            description: tool.description.as_deref(),
            input_schema: raw("the schema of a tool", parameters)?,
            // Not every model knows the word, and without it none is strict.
            strict: tool.strict.filter(|strict| *strict),
        });
    }
    Ok(tools)
}

/// Whether tools shall be called. Nothing is said of what holds anyway.
pub(super) fn choice(request: &TextRequest) -> Option<Choice<'_>> {
    if request.tools.is_empty() {
        return None;
    }
    let (kind, name) = match &request.tool_choice {
        None | Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name.as_str())),
    };
    let one = (request.parallel_tool_calls == Some(false) && kind != "none").then_some(true);
    let said = kind != "auto" || one.is_some();
    said.then_some(Choice { kind, name, disable_parallel_tool_use: one })
}

/// The form that the answer shall have.
///
/// # Errors
/// If the schema is no JSON.
pub(super) fn output(request: &TextRequest) -> Result<Option<Output<'_>>, Error> {
    let Some(schema) = &request.schema else { return Ok(None) };
    let schema = raw("the schema", &schema.schema)?;
    Ok(Some(Output { format: Format { kind: "json_schema", schema } }))
}
