//! A skeleton of the answers that a JSON schema describes: what is common in schemas is understood, no more.

use serde_json::{Map, Value, json};

/// The deepest that schemas are followed: one may refer to itself.
const DEPTH: usize = 12;
/// The most values of a skeleton.
const VALUES: usize = 2_000;

/// The skeleton of a schema; `None` if it describes no object.
pub(super) fn skeleton(schema: &str) -> Option<Map<String, Value>> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    let mut left = VALUES;
    match shape(&schema, &schema, DEPTH, &mut left)? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// A value that stands for all that a schema allows; `None` past the limits.
fn shape(schema: &Value, root: &Value, depth: usize, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(1)?;
    let depth = depth.checked_sub(1)?;
    if let Some(path) = schema["$ref"].as_str() {
        return shape(root.pointer(path.strip_prefix('#')?)?, root, depth, left);
    }
    if let Some(value) = schema.get("const") {
        return Some(fixed(value));
    }
    if let Some(choices) = schema["enum"].as_array() {
        let texts: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
        let all_texts = texts.len() == choices.len() && !texts.iter().any(|text| text.contains('|'));
        return Some(if all_texts { json!(texts.join("|")) } else { fixed(choices.first()?) });
    }
    for several in ["anyOf", "oneOf"] {
        if let Some(first) = schema[several].as_array().and_then(|schemas| schemas.first()) {
            return shape(first, root, depth, left);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    Some(match kind {
        Some("null") => Value::Null,
        Some("boolean") => json!(true),
        Some("integer") => json!(0),
        Some("number") => json!(0.5),
        Some("string") => json!(""),
        Some("array") => json!([shape(&schema["items"], root, depth, left)?]),
        _ if schema.get("properties").is_some() || kind == Some("object") => {
            let mut object = Map::new();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                object.insert(name.clone(), shape(property, root, depth, left)?);
            }
            Value::Object(object)
        }
        _ => json!(""),
    })
}

/// A value that must be as it is: a text of one choice is filled in with it.
fn fixed(value: &Value) -> Value {
    match value.as_str() {
        Some(text) => json!(format!("{text}|{text}")),
        None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_becomes_a_skeleton() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"}, "age": {"type": "integer"}, "ratio": {"type": ["number", "null"]},
                "level": {"enum": ["low", "high"]}, "kind": {"const": "x"}, "ok": {"type": "boolean"},
                "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
                "other": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            },
            "$defs": {"tag": {"type": "object", "properties": {"t": {"type": "string"}}}},
        });
        let expected = json!({
            "name": "", "age": 0, "ratio": 0.5, "level": "low|high", "kind": "x|x", "ok": true,
            "tags": [{"t": ""}], "other": null,
        });
        assert_eq!(Value::Object(skeleton(&schema.to_string()).unwrap()), expected);
    }

    #[test]
    fn one_that_is_no_object_or_has_no_end_has_none() {
        let endless = json!({"type": "object", "properties": {"a": {"$ref": "#"}}});
        for schema in [endless.to_string(), "{\"type\":\"string\"}".into(), "{".into(), "[]".into()] {
            assert_eq!(skeleton(&schema), None, "{schema}");
        }
    }
}
