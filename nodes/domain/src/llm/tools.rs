//! Tools: functions that a model may ask its caller to run. Callboard runs none: it carries what is said of them.

/// A function that a model may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON schema of its arguments, as JSON: an object. Without one it takes none.
    pub parameters: Option<String>,
    /// Whether the model must keep to the schema. A wire without such a switch leaves it out.
    pub strict: Option<bool>,
}

/// Whether a model shall ask for tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it thinks right.
    Auto,
    /// It must not.
    None,
    /// It must ask for at least one.
    Required,
    /// It must ask for this one.
    Named(String),
}

impl ToolChoice {
    /// Whether a text alone would be no answer.
    #[must_use]
    pub const fn is_forced(&self) -> bool {
        matches!(self, Self::Required | Self::Named(_))
    }
}

/// What a model would have a tool do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// What its result is known by; never empty in an answer of the broker.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments as the model wrote them: a JSON object as a rule, but nobody has checked.
    pub arguments: String,
    /// What a provider wants to see again beside the call, if it does (Gemini's thought signature).
    pub signature: Option<String>,
}

/// A piece of a call, in a stream. Each has an index; the first piece of a call has its id and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCallDelta {
    /// Which call of the answer it is, from 0.
    pub index: u32,
    /// The call's id; empty but on its first piece.
    pub id: String,
    /// The tool; empty but on the call's first piece.
    pub name: String,
    /// More of the arguments.
    pub arguments: String,
    /// See [`ToolCall::signature`].
    pub signature: Option<String>,
}

/// What a tool has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolResult {
    /// The call that it answers.
    pub id: String,
    /// What it said.
    pub content: String,
}

/// The form that an answer must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputSchema {
    /// Its name.
    pub name: String,
    /// What it is for, for the model.
    pub description: Option<String>,
    /// The JSON schema, as JSON: an object.
    pub schema: String,
    /// Whether the model must keep to it. A wire that has no switch always keeps to it.
    pub strict: Option<bool>,
}
