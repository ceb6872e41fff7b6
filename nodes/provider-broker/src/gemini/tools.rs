//! Tools as they are offered.

use crate::wire::raw;
use callboard_domain::llm::{Error, TextRequest, ToolChoice};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tools<'a> {
    function_declarations: Vec<Function<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Function<'a> {
    name: &'a str,
    /// The API wants one.
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config<'a> {
    function_calling_config: Calling<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Calling<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

/// The tools of a request: one list of them.
///
/// # Errors
/// If the schema of one is no JSON.
pub(super) fn tools(request: &TextRequest) -> Result<Vec<Tools<'_>>, Error> {
    let mut declared = Vec::with_capacity(request.tools.len());
    for tool in &request.tools {
        let parameters = tool.parameters.as_deref();
        declared.push(Function {
            name: &tool.name,
            description: tool.description.as_deref().unwrap_or(&tool.name),
            parameters_json_schema: parameters.map(|json| raw("the schema of a tool", json)).transpose()?,
        });
    }
    Ok(if declared.is_empty() { Vec::new() } else { vec![Tools { function_declarations: declared }] })
}

/// Whether they shall be called.
pub(super) fn config(request: &TextRequest) -> Option<Config<'_>> {
    let (mode, name) = match request.tool_choice.as_ref().filter(|_| !request.tools.is_empty())? {
        ToolChoice::Auto => ("AUTO", None),
        ToolChoice::None => ("NONE", None),
        ToolChoice::Required => ("ANY", None),
        ToolChoice::Named(name) => ("ANY", Some([name.as_str()])),
    };
    Some(Config { function_calling_config: Calling { mode, allowed_function_names: name } })
}
