//! In which order providers are tried, and names for sets of them.

use super::{ProviderConfig, is_name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most routes.
const ROUTES: usize = 256;
/// The most targets of one route.
const TARGETS: usize = 32;
/// The most that a weight may be.
pub(crate) const WEIGHT: u32 = 1_000;
/// The most characters of the name of a model.
const MODEL_CHARS: usize = 128;

/// How the order is found in which providers are tried. The offline generator stays behind the others with each of them
/// but [`Policy::Priority`], which leaves it where the configuration has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// As the configuration lists them.
    #[default]
    Priority,
    /// Drawn, each with its weight.
    Weighted,
    /// The faster one of two that are drawn.
    LeastLatency,
    /// The one first that costs least for the call.
    Cheapest,
    /// Calls for the same subject go to the same one.
    Sticky,
}

impl Policy {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Weighted => "weighted",
            Self::LeastLatency => "least_latency",
            Self::Cheapest => "cheapest",
            Self::Sticky => "sticky",
        }
    }
}

/// The order of providers for calls that name no route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Routing {
    /// How it is found.
    pub policy: Policy,
    /// The weights of providers, 0 to 1000; that of one which is not named here is 1. One with 0 is tried after the others.
    pub weights: BTreeMap<String, u32>,
}

/// A route: a name for models of providers, which a call may give as its model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Its name: at most 64 of `a-z 0-9 . _ -`, unique.
    pub name: String,
    /// How the order is found; as in [`Routing`] if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Where it leads: 1 to 32.
    pub providers: Vec<Target>,
}

/// A model of a provider on a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The provider.
    pub provider: String,
    /// The model; the provider's own if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its share of the calls where the policy looks at weights, relative to the others', 0 to 1000. With 0 it is tried
    /// after the others.
    #[serde(default = "one")]
    pub weight: u32,
    /// How many tokens its model takes, of prompt and answer together. Calls that seem to need more try the others first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
}

const fn one() -> u32 {
    1
}

impl Routing {
    /// Every key that is wrong, and why.
    pub(super) fn problems(&self, providers: &[ProviderConfig]) -> Vec<(String, &'static str)> {
        let mut problems = Vec::new();
        for (name, weight) in &self.weights {
            let field = format!("routing.weights.{name}");
            if providers.iter().all(|provider| provider.name != *name) {
                problems.push((field.clone(), "must name one of the providers"));
            }
            if *weight > WEIGHT {
                problems.push((field, "must be at most 1000"));
            }
        }
        problems
    }
}

/// Every key of the routes that is wrong, and why.
pub(super) fn route_problems(
    routes: &[RouteConfig],
    providers: &[ProviderConfig],
) -> Vec<(String, &'static str)> {
    let mut problems = Vec::new();
    if routes.len() > ROUTES {
        problems.push(("routes".to_owned(), "must be at most 256"));
    }
    for (i, route) in routes.iter().enumerate() {
        let field = |key: &str| format!("routes[{i}].{key}");
        if !is_name(&route.name) {
            problems.push((field("name"), "must be 1 to 64 of a-z, 0-9, '.', '_' and '-'"));
        } else if routes[..i].iter().any(|other| other.name == route.name) {
            problems.push((field("name"), "must be unique"));
        } else if route.name == "auto" {
            problems.push((field("name"), "must not be `auto`, which stands for every provider's own model"));
        }
        if route.providers.is_empty() || route.providers.len() > TARGETS {
            problems.push((field("providers"), "must be 1 to 32"));
        }
        for (j, target) in route.providers.iter().enumerate() {
            let field = |key: &str| field(&format!("providers[{j}].{key}"));
            if providers.iter().all(|provider| provider.name != target.provider) {
                problems.push((field("provider"), "must name one of the providers"));
            }
            let same = |other: &Target| (&other.provider, &other.model) == (&target.provider, &target.model);
            if route.providers[..j].iter().any(same) {
                problems.push((field("model"), "is on this route already"));
            }
            if target.model.as_ref().is_some_and(|model| model.is_empty() || model.len() > MODEL_CHARS) {
                problems.push((field("model"), "must be 1 to 128 characters, or left out"));
            }
            if target.weight > WEIGHT {
                problems.push((field("weight"), "must be at most 1000"));
            }
            if target.context_tokens == Some(0) {
                problems.push((field("context_tokens"), "must be over zero, or left out"));
            }
        }
    }
    problems
}
