//! JSON answers: the skeleton that a message holds, filled in.

use super::prompt::Prompt;
use super::{SKELETON_PREFIX, text};
use callboard_domain::llm::Message;
use serde_json::{Map, Number, Value, json};

/// The most bytes of strings that a filled skeleton holds; past it they are empty and arrays are short. A
/// skeleton comes from outside: nested arrays would grow without bound.
const FILL_BYTES: usize = 128 << 10;
/// The most values.
const FILL_VALUES: usize = 4_000;

/// The JSON answer to a conversation.
pub(super) fn answer(messages: &[Message], prompt: &Prompt) -> String {
    match messages.last().and_then(|m| find(&m.content.text())) {
        Some(skeleton) => fill(&skeleton, prompt),
        None => json!({"answer": text::answer(prompt), "offline": true}).to_string(),
    }
}

/// A skeleton, filled in.
pub(super) fn fill(skeleton: &Map<String, Value>, prompt: &Prompt) -> String {
    Filler { prompt, bytes: FILL_BYTES, values: FILL_VALUES }.object("", skeleton).to_string()
}

/// The first object after the prefix, on the last line that begins with it.
fn find(message: &str) -> Option<Map<String, Value>> {
    let starts = message.match_indices(SKELETON_PREFIX).map(|(at, _)| at);
    let at = starts.filter(|at| *at == 0 || message[..*at].ends_with('\n')).last()?;
    let rest = &message[at + SKELETON_PREFIX.len()..];
    // What follows the object does not matter.
    serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()
}

struct Filler<'a> {
    prompt: &'a Prompt,
    bytes: usize,
    values: usize,
}

impl Filler<'_> {
    fn object(&mut self, path: &str, skeleton: &Map<String, Value>) -> Value {
        let mut filled = Map::new();
        for (key, shape) in skeleton {
            filled.insert(key.clone(), self.value(&format!("{path}.{key}"), key, 0, shape));
        }
        Value::Object(filled)
    }

    fn value(&mut self, path: &str, field: &str, n: usize, shape: &Value) -> Value {
        self.values = self.values.saturating_sub(1);
        if self.values == 0 {
            return empty(shape);
        }
        match shape {
            Value::Null => Value::Null,
            Value::Bool(_) => Value::Bool(self.prompt.number(path, 2) == 1),
            Value::Number(number) => self.number(path, number),
            Value::String(hint) => Value::String(self.string(path, field, n, hint)),
            Value::Object(object) => self.object(path, object),
            Value::Array(items) => {
                let blank = Value::String(String::new());
                let shape = items.first().unwrap_or(&blank);
                let length = 2 + usize::try_from(self.prompt.number(path, 2)).unwrap_or(0);
                (0..length).map(|i| self.value(&format!("{path}[{i}]"), field, i, shape)).collect()
            }
        }
    }

    /// From 0 to 100; with a fraction if the skeleton's has one.
    fn number(&self, path: &str, shape: &Number) -> Value {
        if shape.is_f64() && shape.as_f64().is_some_and(|f| f.fract() != 0.0) {
            let tenths = u32::try_from(self.prompt.number(path, 1_001)).unwrap_or(0);
            return json!(f64::from(tenths) / 10.0);
        }
        json!(self.prompt.number(path, 101))
    }

    /// A sentence, or one of the choices that the skeleton names, as in `low|medium|high`.
    fn string(&mut self, path: &str, field: &str, n: usize, hint: &str) -> String {
        let choices: Vec<_> = hint.split('|').map(str::trim).collect();
        let text = if choices.len() > 1 && choices.iter().all(|c| !c.is_empty()) {
            self.prompt.pick(path, &choices).to_owned()
        } else {
            text::sentence(self.prompt, field, n)
        };
        match self.bytes.checked_sub(text.len()) {
            Some(left) => {
                self.bytes = left;
                text
            }
            None => String::new(),
        }
    }
}

fn empty(shape: &Value) -> Value {
    match shape {
        Value::Null => Value::Null,
        Value::Bool(_) => Value::Bool(false),
        Value::Number(_) => json!(0),
        Value::String(_) => json!(""),
        Value::Array(_) => json!([]),
        Value::Object(_) => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::llm::Role;

    fn ask(content: &str) -> Value {
        let messages = [Message { role: Role::User, content: content.into() }];
        serde_json::from_str(&answer(&messages, &Prompt::of(&messages))).unwrap()
    }

    #[test]
    fn a_skeleton_is_filled_with_its_own_shape() {
        let skeleton = r#"{"score": 0, "ratio": 0.5, "strengths": [""], "level": "low|high", "ok": true, "none": null,
            "parts": [{"title": "", "n": 1}], "free": []}"#;
        let filled = ask(&format!(
            "Analyse.\n<text>Returns within days.</text>\nJSON skeleton: {skeleton}\nThank you"
        ));
        assert!(filled["score"].as_u64().unwrap() <= 100);
        assert!((0.0..=100.0).contains(&filled["ratio"].as_f64().unwrap()));
        let strengths = filled["strengths"].as_array().unwrap();
        assert!((2..=3).contains(&strengths.len()));
        assert!(strengths.iter().all(|s| s.as_str().unwrap().ends_with('.')), "{strengths:?}");
        assert!(["low", "high"].contains(&filled["level"].as_str().unwrap()));
        assert!(filled["ok"].is_boolean() && filled["none"].is_null());
        assert!(filled["parts"][1]["n"].is_u64() && filled["parts"][1]["title"].is_string());
        assert!(filled["free"][0].is_string());
        assert_eq!(filled.as_object().unwrap().len(), 8);
    }

    #[test]
    fn only_a_line_of_its_own_is_a_skeleton_and_the_last_counts() {
        assert!(ask("say JSON skeleton: {\"a\": 1}")["answer"].is_string());
        assert!(ask("JSON skeleton: {broken")["answer"].is_string());
        let filled = ask("JSON skeleton: {\"a\": 1}\nJSON skeleton: {\"b\": 1}");
        assert!(filled.get("a").is_none() && filled["b"].is_u64());
    }

    #[test]
    fn a_skeleton_that_would_explode_does_not() {
        let deep = format!("JSON skeleton: {{\"a\": {}\"x\"{}}}", "[".repeat(60), "]".repeat(60));
        assert!(ask(&deep).to_string().len() < 4 * FILL_BYTES);
        let wide: Vec<_> = (0..20_000).map(|n| format!("\"k{n}\": [\"\"]")).collect();
        assert!(ask(&format!("JSON skeleton: {{{}}}", wide.join(","))).to_string().len() < 4 * FILL_BYTES);
    }
}
