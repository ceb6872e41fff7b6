//! How an answer came about, for a person who wants to know all of it.

use super::cluster;
use super::style::{clean, word};
use super::time::{duration, span};
use callboard_client::v1;

/// What of a call its provider was not told; none if it was told all.
#[must_use]
pub fn dropped(summary: &v1::GenerateSummary) -> Option<String> {
    let names = summary.dropped_parameters.join(", ");
    (!names.is_empty())
        .then(|| clean(&format!("not passed on, as {} has no word for it: {names}", summary.provider)))
}

/// The summary, and a line for each thing more that is known: the experiment, the price table, every attempt.
#[must_use]
pub fn told_in_full(summary: &v1::GenerateSummary) -> String {
    let mut lines = vec![cluster::summary(summary)];
    if !summary.experiment.is_empty() {
        lines.push(format!("  experiment {}, arm {}", summary.experiment, summary.arm));
    }
    match (summary.cost_picodollars, summary.prices_version.as_str()) {
        (None, _) => lines.push("  cost unknown: the model has no price in the configuration".into()),
        (Some(_), "") => {}
        (Some(_), version) => lines.push(format!("  by the prices of {version}")),
    }
    lines.extend(summary.attempts.iter().enumerate().map(|(i, attempt)| {
        let key = if attempt.key.is_empty() { String::new() } else { format!(", {}", attempt.key) };
        let took = duration(attempt.duration.as_ref()).map(span).unwrap_or_default();
        let end = match (attempt.error.is_empty(), attempt.message.is_empty()) {
            (true, _) => "answered".to_owned(),
            (false, true) => word(&attempt.error, "PROVIDER_"),
            (false, false) => format!("{}: {}", word(&attempt.error, "PROVIDER_"), attempt.message),
        };
        format!("  attempt {}: {} ({}{key}), {took}: {end}", i + 1, attempt.provider, attempt.model)
    }));
    let lines: Vec<_> = lines.iter().map(|line| clean(line)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_and_what_was_dropped_is_told() {
        let attempt = |provider: &str, millis: i32, error: &str, message: &str| v1::ProviderAttempt {
            provider: provider.into(),
            key: if error.is_empty() { "team-b".into() } else { String::new() },
            model: "m".into(),
            duration: Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 }),
            error: error.into(),
            message: message.into(),
        };
        let summary = v1::GenerateSummary {
            provider: "good".into(),
            key: "team-b".into(),
            model: "m".into(),
            input_tokens: 3,
            output_tokens: 5,
            cost_picodollars: Some(1_500_000_000),
            prices_version: "2026-11".into(),
            experiment: "summary".into(),
            arm: "new".into(),
            attempts: vec![
                attempt("bad", 250, "PROVIDER_OVERLOADED", "503: the model is\u{1b}[31m overloaded"),
                attempt("good", 40, "", ""),
            ],
            dropped_parameters: vec!["seed".into(), "top_p".into()],
            ..Default::default()
        };
        insta::assert_snapshot!(told_in_full(&summary));
        assert_eq!(dropped(&summary).unwrap(), "not passed on, as good has no word for it: seed, top_p");
        let plain = v1::GenerateSummary::default();
        assert_eq!(dropped(&plain), None);
        assert!(told_in_full(&plain).ends_with("the model has no price in the configuration"));
    }
}
