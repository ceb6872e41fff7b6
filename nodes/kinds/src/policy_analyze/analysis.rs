//! An analysis, and how it is read out of what a provider answered.

use crate::model;
use serde::Serialize;
use serde_json::{Map, Value};

/// The most items of one list, and the most characters of one item. All four lists at their limits are
/// well below the limit of a result.
const ITEMS: usize = 30;
const ITEM_CHARS: usize = 1_000;

/// What a policy is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Analysis {
    /// From 0 to 100.
    pub(super) score: u8,
    pub(super) strengths: Vec<String>,
    pub(super) risks: Vec<String>,
    pub(super) missing_clauses: Vec<String>,
    pub(super) suggestions: Vec<String>,
}

impl Analysis {
    /// Reads an answer: a JSON object, alone or in a fence. Fields of no interest are left out.
    ///
    /// The error says all that is wrong, in words a model can mend its answer by.
    pub(super) fn read(answer: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(unfence(answer)).map_err(|e| format!("it is not valid JSON: {e}"))?;
        let Value::Object(fields) = value else {
            return Err("it is JSON, but not an object".to_owned());
        };
        let mut problems = Vec::new();
        let analysis = Self {
            score: score(&fields, &mut problems),
            strengths: list(&fields, "strengths", &mut problems),
            risks: list(&fields, "risks", &mut problems),
            missing_clauses: list(&fields, "missing_clauses", &mut problems),
            suggestions: list(&fields, "suggestions", &mut problems),
        };
        if problems.is_empty() { Ok(analysis) } else { Err(problems.join("; ")) }
    }
}

/// What is inside the first Markdown fence, or all of it if there is none.
fn unfence(answer: &str) -> &str {
    let answer = answer.trim();
    // A fence inside a JSON string is no fence of the answer.
    if answer.starts_with('{') {
        return answer;
    }
    let Some((_, fenced)) = answer.split_once("```") else {
        return answer;
    };
    // The rest of the opening line is the language.
    let fenced = fenced.split_once('\n').map_or(fenced, |(_, body)| body);
    match fenced.rsplit_once("```") {
        // What follows the closing fence is talk. A fence with JSON behind it stands inside a string.
        Some((body, talk)) if !talk.contains(['}', ']']) => body.trim(),
        _ => fenced.trim(),
    }
}

fn score(fields: &Map<String, Value>, problems: &mut Vec<String>) -> u8 {
    match fields.get("score").and_then(Value::as_f64) {
        Some(score) if (0.0..=100.0).contains(&score) => score.round() as u8,
        _ => {
            problems.push("`score` must be a number from 0 to 100".to_owned());
            0
        }
    }
}

fn list(fields: &Map<String, Value>, name: &str, problems: &mut Vec<String>) -> Vec<String> {
    let texts = fields.get(name).and_then(Value::as_array).and_then(|items| {
        items.iter().map(|item| item.as_str().map(|text| model::storable(text.to_owned()))).collect()
    });
    let texts: Vec<String> = match texts {
        Some(texts) => texts,
        None => {
            problems.push(format!("`{name}` must be an array of strings"));
            return Vec::new();
        }
    };
    if texts.len() > ITEMS || texts.iter().any(|text| text.chars().count() > ITEM_CHARS) {
        problems.push(format!("`{name}` must have at most {ITEMS} items of at most {ITEM_CHARS} characters"));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"score": 71.6, "strengths": ["clear"], "risks": [], "missing_clauses": ["a \u0000b"],
        "suggestions": ["say who pays\n```\n"], "confidence": "high"}"#;

    #[test]
    fn an_analysis_is_read_alone_and_in_a_fence() {
        let expected = Analysis {
            score: 72,
            strengths: vec!["clear".into()],
            risks: vec![],
            missing_clauses: vec!["a b".into()],
            suggestions: vec!["say who pays\n```\n".into()],
        };
        for answer in [
            GOOD.to_owned(),
            format!("\n{GOOD}\n"),
            format!("```json\n{GOOD}\n```"),
            format!("```\n{GOOD}\n```\n"),
            format!("Here it is:\n\n```json\r\n{GOOD}\r\n```\nAnything else?"),
            format!("```json\n{GOOD}"),
        ] {
            assert_eq!(Analysis::read(&answer), Ok(expected.clone()), "{answer}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        let problems =
            Analysis::read(r#"{"score": 101, "strengths": "many", "risks": [1], "suggestions": []}"#);
        let problems = problems.unwrap_err();
        for field in ["`score`", "`strengths`", "`risks`", "`missing_clauses`"] {
            assert!(problems.contains(field), "{problems}");
        }
        assert!(!problems.contains("`suggestions`"), "{problems}");
    }

    #[test]
    fn what_is_no_analysis_is_refused() {
        let many = format!(r#"{{"score": 1, "risks": [{}""]}}"#, r#""","#.repeat(ITEMS));
        let long = format!(r#"{{"score": 1, "risks": ["{}"]}}"#, "x".repeat(ITEM_CHARS + 1));
        for (answer, problem) in [
            ("", "valid JSON"),
            ("I cannot do that.", "valid JSON"),
            ("{\"score\": 7", "valid JSON"),
            ("```", "valid JSON"),
            ("``````", "valid JSON"),
            ("[]", "not an object"),
            ("{}", "`score`"),
            (r#"{"score": "72"}"#, "`score`"),
            (r#"{"score": -1}"#, "`score`"),
            (r#"{"score": null}"#, "`score`"),
            (&many, "`risks` must have at most 30"),
            (&long, "`risks` must have at most 30"),
        ] {
            let error = Analysis::read(answer).unwrap_err();
            assert!(error.contains(problem), "{answer}: {error}");
        }
    }
}
