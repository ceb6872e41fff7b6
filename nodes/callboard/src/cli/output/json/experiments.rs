//! Experiments.

use callboard_client::v1;
use callboard_domain::Money;
use serde::Serialize;

/// The experiments.
#[derive(Serialize)]
pub struct Experiments<'a> {
    experiments: Vec<Experiment<'a>>,
}

#[derive(Serialize)]
struct Experiment<'a> {
    name: &'a str,
    arms: Vec<Arm<'a>>,
}

#[derive(Serialize)]
struct Arm<'a> {
    name: &'a str,
    share: u32,
    successes: u64,
    failures: u64,
    mean_seconds: Option<f64>,
    tokens: u64,
    cost_usd: String,
    scores: u64,
    mean_score: Option<f64>,
    /// How likely a difference to the first arm as large as it is comes by chance.
    success_chance: Option<f64>,
    seconds_chance: Option<f64>,
    score_chance: Option<f64>,
}

impl<'a> From<&'a [v1::Experiment]> for Experiments<'a> {
    fn from(list: &'a [v1::Experiment]) -> Self {
        let arm = |arm: &'a v1::ExperimentArm| Arm {
            name: &arm.name,
            share: arm.share,
            successes: arm.successes,
            failures: arm.failures,
            mean_seconds: (arm.successes > 0).then_some(arm.mean_seconds),
            tokens: arm.tokens,
            cost_usd: Money::from_picodollars(arm.cost_picodollars).to_string(),
            scores: arm.scores,
            mean_score: (arm.scores > 0).then_some(arm.mean_score),
            success_chance: arm.success_chance,
            seconds_chance: arm.seconds_chance,
            score_chance: arm.score_chance,
        };
        let experiment =
            |of: &'a v1::Experiment| Experiment { name: &of.name, arms: of.arms.iter().map(arm).collect() };
        Self { experiments: list.iter().map(experiment).collect() }
    }
}
