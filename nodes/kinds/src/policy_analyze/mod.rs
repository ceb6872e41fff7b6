//! `policy.analyze`: what a shop's policy is worth, and what it lacks.
//!
//! A provider is asked for JSON. What is no JSON or has another shape is asked again with what was wrong;
//! after [`ASKS`] useless answers the local rules of [`rules`] take over, and the result says so. A
//! provider that does not answer at all is a failed attempt instead: another one may well do better.

mod analysis;
mod ask;
mod checklist;
mod rules;

use crate::model::{self, Origin};
use analysis::Analysis;
use callboard_sdk::llm::{ErrorKind, TextRequest};
use callboard_sdk::{Failure, Kind, KindSpec, TaskContext, limits};
use serde::{Deserialize, Serialize};

/// How often a provider is asked.
const ASKS: u8 = 3;

/// The kind.
pub(crate) struct PolicyAnalyze;

/// What it takes; the limits are in the schema.
#[derive(Deserialize)]
pub(crate) struct Input {
    policy_type: PolicyType,
    text: String,
}

/// What the policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PolicyType {
    Return,
    Privacy,
    Shipping,
    Terms,
    Other,
}

/// What it gives.
#[derive(Serialize)]
pub(crate) struct Output {
    #[serde(flatten)]
    analysis: Analysis,
    #[serde(flatten)]
    origin: Origin,
    offline: bool,
    source: Source,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    Provider,
    Fallback,
}

impl Kind for PolicyAnalyze {
    type Input = Input;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        callboard_sdk::spec(
            "policy.analyze",
            "Scores a shop's policy: strengths, risks, missing clauses, suggestions.",
        )
        .input(include_str!("input.schema.json"))
        .result(include_str!("result.schema.json"))
        .example(r#"{"policy_type": "return", "text": "You may return unworn items within 14 days."}"#)
        .build()
    }

    async fn run(&self, ctx: &TaskContext, input: Input) -> Result<Output, Failure> {
        let mut useless: Option<ask::Useless> = None;
        for nth in 1..=ASKS {
            let (percent, message) = match nth {
                1 => (10, "asking for the analysis".to_owned()),
                _ => (10 + 25 * (nth - 1), format!("asking again, {nth} of {ASKS}: the answer was unusable")),
            };
            ctx.progress(percent, message);
            let request = TextRequest {
                messages: ask::conversation(&input, useless.as_ref()),
                json: true,
                idempotency_key: Some(ctx.idempotency_key(&format!("analysis-{nth}"))),
                ..TextRequest::default()
            };
            let response = match model::unless_cancelled(ctx, ctx.llm().text(request)).await? {
                Ok(response) => response,
                Err(error) if error.kind == ErrorKind::MalformedAnswer => {
                    useless = Some(ask::Useless { answer: String::new(), problem: error.message });
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match Analysis::read(&response.text) {
                Ok(analysis) => {
                    ctx.progress(100, "done");
                    return Ok(Output {
                        analysis,
                        offline: model::is_offline(&response.summary),
                        origin: response.summary.into(),
                        source: Source::Provider,
                    });
                }
                Err(problem) => useless = Some(ask::Useless { answer: response.text, problem }),
            }
        }
        ctx.progress(90, "no answer was usable: applying the local rules");
        let problem = useless.map(|u| u.problem).unwrap_or_default();
        let output = by_rules(&input, &problem);
        ctx.progress(100, "done");
        Ok(output)
    }
}

fn by_rules(input: &Input, problem: &str) -> Output {
    let reason = format!("{ASKS} answers in a row were no analysis, so local rules made it: {problem}");
    Output {
        analysis: rules::analyze(input.policy_type, &input.text),
        origin: Origin {
            provider: "local".to_owned(),
            model: rules::NAME.to_owned(),
            degraded: true,
            degraded_reason: Some(limits::cut_message(reason)),
        },
        offline: false,
        source: Source::Fallback,
    }
}
