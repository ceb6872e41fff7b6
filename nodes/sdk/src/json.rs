//! Reads JSON, and finds the keys that stand twice in one object.
//!
//! Readers differ in what they make of such a key: the first value, the last, or an error. So a document
//! that has one could pass its schema by one value and run with the other.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};
use std::fmt;

/// The most keys that are named.
const NAMED: usize = 20;

/// Reads a document. Beside it come the paths, below `root`, of the keys that stand twice, up to 20 of them.
///
/// # Errors
/// The text is no JSON, no UTF-8, or nested deeper than 127.
pub(crate) fn read(json: &[u8], root: &str) -> serde_json::Result<(Value, Vec<String>)> {
    let mut twice = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Reader { path: &Path::Root(root), twice: &mut twice }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, twice))
}

/// Where the reader is. It lies on the stack, and costs nothing unless it is shown.
enum Path<'a> {
    Root(&'a str),
    Key(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(root) => f.write_str(root),
            Self::Key(above, key) => write!(f, "{above}.{key}"),
            Self::Item(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

struct Reader<'a> {
    path: &'a Path<'a>,
    twice: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = Path::Item(self.path, list.len());
            match items.next_element_seed(Reader { path: &path, twice: &mut *self.twice })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let path = Path::Key(self.path, &key);
            let value = fields.next_value_seed(Reader { path: &path, twice: &mut *self.twice })?;
            match object.entry(key) {
                Entry::Vacant(free) => {
                    free.insert(value);
                }
                Entry::Occupied(taken) if self.twice.len() < NAMED => {
                    self.twice.push(Path::Key(self.path, taken.key()).to_string());
                }
                Entry::Occupied(_) => {}
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_serde_json_reads() {
        let text = r#" {"a": [null, true, -1, 18446744073709551615, 1.5, "x\n\u00e9"], "b": {"c": {}}} "#;
        let (value, twice) = read(text.as_bytes(), "input").unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        assert!(twice.is_empty());
        let deep = "[".repeat(200);
        for wrong in ["", "{", "{} {}", "[1,]", "nul", "1e999", r#""\ud800""#, deep.as_str()] {
            assert!(read(wrong.as_bytes(), "input").is_err(), "{wrong}");
        }
        assert!(read(b"\"\xff\"", "input").is_err());
    }

    #[test]
    fn a_key_that_stands_twice_is_found_wherever_it_is() {
        let text = r#"{"a": 1, "b": [0, {"c": 1, "d": {}, "c": 2}], "a": 1, "\u0061": 3}"#;
        let (_, twice) = read(text.as_bytes(), "input").unwrap();
        assert_eq!(twice, ["input.b[1].c", "input.a", "input.a"]);
    }
}
