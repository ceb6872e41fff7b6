//! What is known of a task kind.

use std::time::Duration;

/// A task kind as its workers register it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindSpec {
    /// Its name, for example `text.generate`.
    pub name: String,
    /// Its version: raised when its schemas change.
    pub version: u32,
    /// What it does, in a sentence.
    pub description: String,
    /// The JSON schema of its input. The schema `true` accepts anything, and the input is not parsed.
    pub input_schema: String,
    /// The JSON schema of its result.
    pub result_schema: String,
    /// An input to try.
    pub example_input: String,
    /// The queue its tasks wait in by default.
    pub queue: String,
    /// The time an attempt may take by default.
    pub timeout: Duration,
    /// How many failed attempts are allowed by default.
    pub max_attempts: u32,
}
