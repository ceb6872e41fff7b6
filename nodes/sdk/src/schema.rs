//! JSON schemas: the one parse of an input.
//!
//! Beside the schema, an input must be what every store can hold and every reader reads alike: UTF-8, no
//! U+0000, not too deep, no key twice in one object.

use crate::json;
use callboard_domain::{Violation, limits};
use serde_json::Value;

/// The most violations that are named.
const NAMED: usize = 20;

/// A compiled JSON schema (draft 2020-12 unless it says otherwise). References to other documents are
/// not followed.
pub struct Validator {
    /// `None`: anything goes, and a valid JSON text is all that is asked.
    schema: Option<jsonschema::Validator>,
}

/// A schema that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Validator {
    /// Compiles a schema.
    ///
    /// # Errors
    /// The text is no JSON, or no schema.
    pub fn new(schema: &str) -> Result<Self, Error> {
        let schema: Value = serde_json::from_str(schema).map_err(|e| Error(e.to_string()))?;
        if schema == Value::Bool(true) {
            return Ok(Self { schema: None });
        }
        let schema = jsonschema::validator_for(&schema).map_err(|e| Error(e.to_string()))?;
        Ok(Self { schema: Some(schema) })
    }

    /// Checks an input.
    ///
    /// # Errors
    /// Every wrong field, up to 20 of them, as paths below `input`.
    pub fn check(&self, json: &[u8]) -> Result<(), Vec<Violation>> {
        let Some(schema) = &self.schema else {
            return self.check_text(json);
        };
        let (value, twice) = json::read(json, "input").map_err(|e| vec![not_json(&e)])?;
        let mut wrong: Vec<_> =
            twice.iter().map(|path| violation(path, "must not stand twice in one object".into())).collect();
        if may_hold_nul(json) {
            find_nul(&value, "input", &mut wrong);
        }
        if depth(&value) > limits::INPUT_DEPTH {
            wrong.push(violation("input", format!("must not be nested deeper than {}", limits::INPUT_DEPTH)));
        }
        for error in schema.iter_errors(&value).take(NAMED) {
            wrong.push(violation(&path(&error.instance_path().to_string()), error.to_string()));
        }
        wrong.truncate(NAMED);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn check_text(&self, json: &[u8]) -> Result<(), Vec<Violation>> {
        if may_hold_nul(json) {
            let value: Value = serde_json::from_slice(json).map_err(|e| vec![not_json(&e)])?;
            let mut wrong = Vec::new();
            find_nul(&value, "input", &mut wrong);
            return if wrong.is_empty() { Ok(()) } else { Err(wrong) };
        }
        // Walks the text without building anything.
        serde_json::from_slice::<serde::de::IgnoredAny>(json).map(drop).map_err(|e| vec![not_json(&e)])?;
        std::str::from_utf8(json)
            .map(drop)
            .map_err(|e| vec![violation("input", format!("must be UTF-8: {e}"))])
    }
}

fn violation(field: &str, description: String) -> Violation {
    Violation { field: field.to_owned(), description: limits::cut_message(description) }
}

fn not_json(error: &serde_json::Error) -> Violation {
    violation("input", format!("must be JSON: {error}"))
}

/// `/key_points/0` as `input.key_points[0]`.
fn path(pointer: &str) -> String {
    let mut path = String::from("input");
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            path.push('.');
            path.push_str(&part);
        }
    }
    path
}

/// Whether the text may hold U+0000: it must be escaped in JSON, so it is cheap to rule out.
fn may_hold_nul(json: &[u8]) -> bool {
    json.windows(6).any(|w| w == b"\\u0000")
}

fn find_nul(value: &Value, path: &str, wrong: &mut Vec<Violation>) {
    let bad = |path: &str| {
        violation(path, "must not hold the character U+0000: not every store can keep it".into())
    };
    match value {
        Value::String(text) if text.contains('\0') => wrong.push(bad(path)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| find_nul(item, &format!("{path}[{i}]"), wrong));
        }
        Value::Object(fields) => {
            for (name, item) in fields {
                let path = format!("{path}.{}", name.replace('\0', "\\u0000"));
                if name.contains('\0') {
                    wrong.push(bad(&path));
                }
                find_nul(item, &path, wrong);
            }
        }
        _ => {}
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(schema: &str, json: &str) -> Vec<String> {
        match Validator::new(schema).unwrap().check(json.as_bytes()) {
            Ok(()) => Vec::new(),
            Err(wrong) => wrong.into_iter().map(|v| v.field).collect(),
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let schema = r#"{"type": "object", "required": ["a"], "properties":
            {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}}}"#;
        assert_eq!(fields(schema, r#"{"a": 1, "b": [1, "x"]}"#), ["input.a", "input.b[1]"]);
        assert_eq!(fields(schema, "{}"), ["input"]);
        assert_eq!(fields(schema, "{"), ["input"]);
        assert!(fields(schema, r#"{"a": "x"}"#).is_empty());
    }

    #[test]
    fn a_key_that_stands_twice_is_named() {
        let json = r#"{"a": 1, "b": {"c": 1, "c": 2}, "a": 1}"#;
        assert_eq!(fields(r#"{"type": "object"}"#, json), ["input.b.c", "input.a"]);
    }

    #[test]
    fn a_nul_is_refused_wherever_it_hides_and_an_escaped_backslash_is_not_one() {
        for schema in ["true", r#"{"type": "object"}"#] {
            assert_eq!(fields(schema, r#"{"a": ["x\u0000"]}"#), ["input.a[0]"]);
            assert!(fields(schema, r#"{"a": "\\u0000"}"#).is_empty());
        }
    }

    #[test]
    fn what_is_too_deep_or_not_utf8_is_refused() {
        let deep = format!("{}{}", "[".repeat(110), "]".repeat(110));
        assert_eq!(fields("{}", &deep), ["input"]);
        for schema in ["true", "{}"] {
            let wrong = Validator::new(schema).unwrap().check(b"\"\xff\"");
            assert_eq!(wrong.unwrap_err()[0].field, "input");
        }
    }
}
