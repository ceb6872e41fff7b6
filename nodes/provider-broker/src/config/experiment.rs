//! Experiments: which share of callers goes which way.

use super::{ProviderConfig, RouteConfig, is_name};
use serde::{Deserialize, Serialize};

/// The most experiments.
const EXPERIMENTS: usize = 64;
/// The most arms of one.
const ARMS: usize = 8;
/// The most that a share may be.
const SHARE: u32 = 10_000;

/// What decides on the arm of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The subject of the call: at the endpoint its user, else its API key.
    #[default]
    User,
    /// The task that calls.
    Task,
    /// The namespace of the caller: at the endpoint that of its API key.
    Key,
}

/// An experiment: a name that a call may give as its model, which leads one way or another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its name: at most 64 of `a-z 0-9 . _ -`, unique among experiments and routes.
    pub name: String,
    /// What decides on the arm of a call.
    #[serde(default)]
    pub subject: Subject,
    /// Its arms, 2 to 8. The first is what the others are compared with, and that of calls without a subject.
    pub arms: Vec<ArmConfig>,
}

/// One way an experiment leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmConfig {
    /// Its name: at most 64 of `a-z 0-9 . _ -`, unique in the experiment.
    pub name: String,
    /// Its share of the subjects, relative to the others', 0 to 10000.
    pub share: u32,
    /// The route it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Or the provider, and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// And the model there; or the model, wherever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// Every key of the experiments that is wrong, and why.
pub(super) fn experiment_problems(
    experiments: &[Experiment],
    routes: &[RouteConfig],
    providers: &[ProviderConfig],
) -> Vec<(String, &'static str)> {
    let mut problems = Vec::new();
    if experiments.len() > EXPERIMENTS {
        problems.push(("experiments".to_owned(), "must be at most 64"));
    }
    for (i, experiment) in experiments.iter().enumerate() {
        let field = |key: &str| format!("experiments[{i}].{key}");
        let name = &experiment.name;
        let taken = experiments[..i].iter().any(|other| other.name == *name)
            || routes.iter().any(|route| route.name == *name);
        if !is_name(name) {
            problems.push((field("name"), "must be 1 to 64 of a-z, 0-9, '.', '_' and '-'"));
        } else if taken || name == "auto" {
            problems.push((field("name"), "must be unique among experiments and routes, and not `auto`"));
        }
        if !(2..=ARMS).contains(&experiment.arms.len()) {
            problems.push((field("arms"), "must be 2 to 8"));
        } else if experiment.arms.iter().all(|arm| arm.share == 0) {
            problems.push((field("arms"), "must not all have a share of 0"));
        }
        for (j, arm) in experiment.arms.iter().enumerate() {
            let unique = experiment.arms[..j].iter().all(|other| other.name != arm.name);
            let wrong = arm.problems(routes, providers).into_iter();
            let named = (!is_name(&arm.name) || !unique)
                .then_some(("name", "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', and unique"));
            problems.extend(
                named.into_iter().chain(wrong).map(|(key, what)| (field(&format!("arms[{j}].{key}")), what)),
            );
        }
    }
    problems
}

impl ArmConfig {
    fn problems(
        &self,
        routes: &[RouteConfig],
        providers: &[ProviderConfig],
    ) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        let beside = self.provider.is_some() || self.model.is_some();
        match &self.route {
            None if !beside => problems.push(("route", "must be set, or provider, or model")),
            Some(_) if beside => problems.push(("route", "must not be set beside provider or model")),
            Some(name) if routes.iter().all(|route| route.name != *name) => {
                problems.push(("route", "must name one of the routes"));
            }
            _ => {}
        }
        if self.provider.as_ref().is_some_and(|name| providers.iter().all(|p| p.name != *name)) {
            problems.push(("provider", "must name one of the providers"));
        }
        if self.model.as_ref().is_some_and(String::is_empty) {
            problems.push(("model", "must not be empty; leave it out instead"));
        }
        if self.share > SHARE {
            problems.push(("share", "must be at most 10000"));
        }
        problems
    }
}
