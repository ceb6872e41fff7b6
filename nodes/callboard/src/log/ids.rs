//! The ids of what is being done.

use callboard_domain::TraceContext;
use callboard_ports::trace::Value;
use callboard_runtime::mesh::{self, Context};
use tracing::Metadata;

/// The task and its attempt, the trace, the request.
#[derive(Debug, Default)]
pub(super) struct Ids {
    context: Context,
    trace: Option<TraceContext>,
}

/// What an id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Id<'a> {
    Text(&'a str),
    Made(String),
    Number(u32),
}

impl std::fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Made(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl Ids {
    /// Of what the current task of the runtime does. None outside of requests and attempts.
    pub(super) fn current() -> Self {
        let context = mesh::current();
        let trace = context.trace();
        Self { context, trace }
    }

    /// The place in a trace.
    pub(super) const fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// All but the place in a trace.
    pub(super) fn attributes(&self) -> Vec<(&'static str, Value)> {
        let named = self.named().into_iter();
        let value = |id: Id<'_>| match id {
            Id::Text(text) => text.to_owned().into(),
            Id::Made(text) => text.into(),
            Id::Number(number) => number.into(),
        };
        named.map(|(name, id)| (name, value(id))).collect()
    }

    /// By name, but for those that the line itself tells.
    pub(super) fn beside(&self, line: &Metadata<'_>) -> Vec<(&'static str, Id<'_>)> {
        let mut ids = self.named();
        if let Some(trace) = self.trace {
            ids.push(("trace_id", Id::Made(format!("{:032x}", trace.trace_id()))));
            ids.push(("span_id", Id::Made(format!("{:016x}", trace.span_id()))));
        }
        ids.retain(|(name, _)| line.fields().field(name).is_none());
        ids
    }

    fn named(&self) -> Vec<(&'static str, Id<'_>)> {
        let mut ids = Vec::new();
        if let Some(attempt) = &self.context.fence {
            ids.push(("task.id", Id::Text(&attempt.task_id)));
            ids.push(("attempt", Id::Number(attempt.attempt)));
        } else if !self.context.request_id.is_empty() {
            // That of an attempt says no more than the two above.
            ids.push(("request.id", Id::Text(&self.context.request_id)));
        }
        ids
    }
}
