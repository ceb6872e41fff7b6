//! The kinds a worker hosts.

use crate::kind::{Handler, Kind, Typed};
use crate::schema;
use callboard_domain::{KindSpec, limits};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A kind that cannot be hosted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two kinds have one name.
    #[error("two kinds are named `{0}`")]
    Duplicate(String),
    /// A name, schema or default is wrong.
    #[error("kind `{kind}`: {problem}")]
    Invalid {
        /// The kind.
        kind: String,
        /// What is wrong.
        problem: String,
    },
}

/// A kind that is hosted.
#[derive(Clone)]
pub struct Entry {
    /// Its name, schemas and defaults.
    pub spec: Arc<KindSpec>,
    /// What runs it.
    pub handler: Arc<dyn Handler>,
}

/// The kinds a worker hosts, by name.
#[derive(Clone, Default)]
pub struct Registry {
    entries: BTreeMap<String, Entry>,
}

impl Registry {
    /// No kinds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind.
    ///
    /// # Errors
    /// Its name is taken, or its specification is wrong: a schema that is none, an example that does not
    /// fit it, a default over its limit.
    pub fn with(self, kind: impl Kind) -> Result<Self, Error> {
        self.with_handler(Typed(kind))
    }

    /// Adds a kind that works on bytes.
    ///
    /// # Errors
    /// As [`Registry::with`].
    pub fn with_handler(mut self, handler: impl Handler) -> Result<Self, Error> {
        let spec = handler.spec();
        check(&spec).map_err(|problem| Error::Invalid { kind: spec.name.clone(), problem })?;
        let name = spec.name.clone();
        let entry = Entry { spec: Arc::new(spec), handler: Arc::new(handler) };
        if self.entries.insert(name.clone(), entry).is_some() {
            return Err(Error::Duplicate(name));
        }
        Ok(self)
    }

    /// The kind of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}

fn check(spec: &KindSpec) -> Result<(), String> {
    let named = |text: &str| {
        (1..=limits::NAME_CHARS).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    if !named(&spec.name) || !named(&spec.queue) {
        return Err("names and queues are 1 to 64 of a-z, 0-9, '.', '_' and '-'".into());
    }
    if spec.timeout.is_zero() || spec.timeout > limits::TIMEOUT {
        return Err("the timeout must be over zero and at most 24 h".into());
    }
    if !(1..=limits::ATTEMPTS).contains(&spec.max_attempts) {
        return Err(format!("max_attempts must be 1 to {}", limits::ATTEMPTS));
    }
    let input = schema::Validator::new(&spec.input_schema).map_err(|e| format!("input schema: {e}"))?;
    schema::Validator::new(&spec.result_schema).map_err(|e| format!("result schema: {e}"))?;
    input.check(spec.example_input.as_bytes()).map_err(|violations| {
        let list: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        format!("the example input does not fit its schema: {}", list.join("; "))
    })
}
