//! What is answered where tools are offered: each is called, until there is a result.

use serde_json::{Value, json};

/// A tool that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
}

impl Call {
    /// The arguments of every call.
    pub(super) fn arguments(last: &str) -> Value {
        json!({ "said": last })
    }
}

/// Which of the tools that are offered are called: those that must be, or all; only the first if only one may be.
pub(super) fn called<'a>(
    offered: impl Iterator<Item = &'a str>,
    forced: Option<&str>,
    one: bool,
    turn: usize,
) -> Vec<Call> {
    let wanted = offered.filter(|name| forced.is_none_or(|forced| forced == *name));
    let call = |(i, name): (usize, &str)| Call { id: format!("call_{turn}_{i}"), name: name.to_owned() };
    wanted.take(if one { 1 } else { usize::MAX }).enumerate().map(call).collect()
}

/// A text cut in two, as arguments come in a stream.
pub(super) fn halves(text: &str) -> (&str, &str) {
    text.split_at(text.floor_char_boundary(text.len() / 2))
}

/// What is said of images that were seen.
pub(super) fn seen(text: String, images: usize) -> String {
    match images {
        0 => text,
        n => format!("{text} +{n}"),
    }
}
