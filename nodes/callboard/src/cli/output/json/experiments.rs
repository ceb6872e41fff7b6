//! Experiments.

use super::time;
use callboard_client::v1;
use callboard_domain::Money;
use serde::Serialize;

/// The experiments.
#[derive(Serialize)]
pub struct Experiments<'a> {
    experiments: Vec<Experiment<'a>>,
}

/// An experiment.
#[derive(Serialize)]
pub struct Experiment<'a> {
    name: &'a str,
    arms: Vec<Arm<'a>>,
    /// That an admin has set its shares.
    shares: Option<Shares<'a>>,
}

#[derive(Serialize)]
struct Shares<'a> {
    reason: &'a str,
    author: &'a str,
    at: Option<String>,
    outdated: bool,
}

/// What an answer was scored for.
#[derive(Serialize)]
pub struct Scored<'a> {
    /// The experiment.
    pub experiment: &'a str,
    /// The arm.
    pub arm: &'a str,
}

#[derive(Serialize)]
struct Arm<'a> {
    name: &'a str,
    /// Relative to the others', in the configuration.
    share: u32,
    /// Of all subjects, now.
    fraction: f64,
    successes: u64,
    failures: u64,
    mean_seconds: Option<f64>,
    tokens: u64,
    cost_usd: String,
    mean_cost_usd: Option<f64>,
    scores: u64,
    mean_score: Option<f64>,
    /// How likely a difference to the first arm as large as it is comes by chance.
    success_chance: Option<f64>,
    seconds_chance: Option<f64>,
    cost_chance: Option<f64>,
    score_chance: Option<f64>,
    /// What can be said of it beside the first.
    verdict: Option<&'a str>,
}

impl<'a> From<&'a v1::Experiment> for Experiment<'a> {
    fn from(of: &'a v1::Experiment) -> Self {
        let arm = |arm: &'a v1::ExperimentArm| Arm {
            name: &arm.name,
            share: arm.share,
            fraction: arm.fraction,
            successes: arm.successes,
            failures: arm.failures,
            mean_seconds: (arm.successes > 0).then_some(arm.mean_seconds),
            tokens: arm.tokens,
            cost_usd: Money::from_picodollars(arm.cost_picodollars).to_string(),
            mean_cost_usd: (arm.mean_dollars > 0.0).then_some(arm.mean_dollars),
            scores: arm.scores,
            mean_score: (arm.scores > 0).then_some(arm.mean_score),
            success_chance: arm.success_chance,
            seconds_chance: arm.seconds_chance,
            cost_chance: arm.cost_chance,
            score_chance: arm.score_chance,
            verdict: Some(arm.verdict.as_str()).filter(|text| !text.is_empty()),
        };
        let shares = |set: &'a v1::ExperimentShares| Shares {
            reason: &set.reason,
            author: &set.author,
            at: time(set.at.as_ref()),
            outdated: set.outdated,
        };
        Self {
            name: &of.name,
            arms: of.arms.iter().map(arm).collect(),
            shares: of.shares.as_ref().map(shares),
        }
    }
}

impl<'a> From<&'a [v1::Experiment]> for Experiments<'a> {
    fn from(list: &'a [v1::Experiment]) -> Self {
        Self { experiments: list.iter().map(Experiment::from).collect() }
    }
}
