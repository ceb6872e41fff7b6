//! When which part of a script runs, as k6 itself says before the run.

use super::asked::span;
use anyhow::{Context as _, Result};
use serde_json::Value;

/// One scenario of a script, in seconds from the start of the test.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// Its name.
    pub(super) name: String,
    /// When it begins.
    pub(super) begins: f64,
    /// When it ends; what it has begun may take longer.
    pub(super) ends: f64,
}

/// The scenarios, the earliest first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schedule(pub(super) Vec<Part>);

impl Schedule {
    /// Reads what `k6 inspect` prints.
    ///
    /// # Errors
    /// It has no scenarios, or one without a duration.
    pub(super) fn read(inspected: &str) -> Result<Self> {
        let options: Value = serde_json::from_str(inspected).context("`k6 inspect` does not print JSON")?;
        let scenarios = options["scenarios"].as_object().context("the script has no scenarios")?;
        let mut parts = Vec::new();
        for (name, scenario) in scenarios {
            let begins = scenario["startTime"].as_str().and_then(span).unwrap_or_default();
            let lasts = lasts(scenario).with_context(|| format!("scenario {name} has no duration"))?;
            parts.push(Part { name: name.clone(), begins, ends: begins + lasts });
        }
        parts.sort_by(|a, b| a.begins.total_cmp(&b.begins).then_with(|| a.name.cmp(&b.name)));
        Ok(Self(parts))
    }

    /// When the last part ends.
    pub(super) fn ends(&self) -> f64 {
        self.0.iter().map(|part| part.ends).fold(0.0, f64::max)
    }

    /// The part of that name.
    pub(super) fn part(&self, name: &str) -> Option<&Part> {
        self.0.iter().find(|part| part.name == name)
    }

    /// The parts, if they follow each other: then they are worth showing.
    pub(super) fn phases(&self) -> &[Part] {
        if self.0.iter().any(|part| part.begins > 0.0) { &self.0 } else { &[] }
    }
}

/// A constant rate has a duration, a rising one stages.
fn lasts(scenario: &Value) -> Option<f64> {
    if let Some(duration) = scenario["duration"].as_str() {
        return span(duration);
    }
    scenario["stages"].as_array()?.iter().map(|stage| span(stage["duration"].as_str()?)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_k6_prints_them() {
        let schedule = Schedule::read(
            r#"{"scenarios": {
                "spike": {"executor": "constant-arrival-rate", "startTime": "30s", "duration": "1m0s"},
                "before": {"executor": "constant-arrival-rate", "startTime": "0s", "duration": "30s"},
                "ramp": {"stages": [{"duration": "10s", "target": 5}, {"duration": "20s", "target": 9}]}}}"#,
        )
        .unwrap();
        let parts: Vec<_> = schedule.0.iter().map(|p| (p.name.as_str(), p.begins, p.ends)).collect();
        assert_eq!(parts, [("before", 0.0, 30.0), ("ramp", 0.0, 30.0), ("spike", 30.0, 90.0)]);
        assert_eq!((schedule.ends(), schedule.phases().len()), (90.0, 3));
        assert_eq!(schedule.part("spike").map(|part| part.ends), Some(90.0));
    }

    #[test]
    fn another_shape_is_refused() {
        assert!(Schedule::read("k6").is_err());
        assert!(Schedule::read(r#"{"scenarios": null}"#).is_err());
        let error = Schedule::read(r#"{"scenarios": {"a": {"vus": 1}}}"#).unwrap_err().to_string();
        assert_eq!(error, "scenario a has no duration");
    }
}
