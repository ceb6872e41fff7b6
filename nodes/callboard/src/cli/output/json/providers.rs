//! What an admin has done to providers, and how attempts at them went.

use super::{seconds, set, time};
use crate::cli::output::style::word;
use callboard_client::v1;
use serde::Serialize;

/// What an admin has switched.
#[derive(Serialize)]
pub(super) struct Switch<'a> {
    state: String,
    reason: Option<&'a str>,
    author: Option<&'a str>,
    at: Option<String>,
}

impl<'a> From<&'a v1::ProviderSwitch> for Switch<'a> {
    fn from(switch: &'a v1::ProviderSwitch) -> Self {
        Self {
            state: word(switch.state().as_str_name(), "PROVIDER_SWITCH_STATE_"),
            reason: set(&switch.reason),
            author: set(&switch.author),
            at: time(switch.at.as_ref()),
        }
    }
}

/// A weight that an admin has set.
#[derive(Serialize)]
pub(super) struct Weight<'a> {
    key: Option<&'a str>,
    weight: u32,
    configured: u32,
    reason: Option<&'a str>,
    author: Option<&'a str>,
    at: Option<String>,
}

impl<'a> From<&'a v1::ProviderWeight> for Weight<'a> {
    fn from(weight: &'a v1::ProviderWeight) -> Self {
        Self {
            key: set(&weight.key),
            weight: weight.weight,
            configured: weight.configured,
            reason: set(&weight.reason),
            author: set(&weight.author),
            at: time(weight.at.as_ref()),
        }
    }
}

/// What a reload did.
#[derive(Serialize)]
pub struct Reloads<'a> {
    nodes: Vec<Reloaded<'a>>,
}

#[derive(Serialize)]
struct Reloaded<'a> {
    node: &'a str,
    providers: &'a [String],
    changed: &'a [String],
    after_restart: &'a [String],
    error: Option<&'a str>,
}

impl<'a> From<&'a [v1::ProviderReload]> for Reloads<'a> {
    fn from(nodes: &'a [v1::ProviderReload]) -> Self {
        let nodes = nodes.iter().map(|done| Reloaded {
            node: &done.node,
            providers: &done.providers,
            changed: &done.changed,
            after_restart: &done.after_restart,
            error: set(&done.error),
        });
        Self { nodes: nodes.collect() }
    }
}

/// The calls that are at a provider.
#[derive(Serialize)]
pub struct Load<'a> {
    provider: &'a str,
    nodes: Vec<NodeLoad<'a>>,
}

#[derive(Serialize)]
struct NodeLoad<'a> {
    node: &'a str,
    in_flight: Option<u32>,
    off: Option<bool>,
    error: Option<&'a str>,
}

impl<'a> Load<'a> {
    /// What each node said.
    #[must_use]
    pub fn new(provider: &'a str, nodes: &'a [v1::ProviderNodeLoad]) -> Self {
        let nodes = nodes.iter().map(|of| NodeLoad {
            node: &of.node,
            in_flight: of.error.is_empty().then_some(of.in_flight),
            off: of.error.is_empty().then_some(of.off),
            error: set(&of.error),
        });
        Self { provider, nodes: nodes.collect() }
    }
}

/// One attempt at a provider: of a call, or a test.
#[derive(Serialize)]
pub struct Attempt<'a> {
    provider: &'a str,
    key: Option<&'a str>,
    model: &'a str,
    duration_seconds: Option<f64>,
    error: Option<&'a str>,
    message: Option<&'a str>,
}

impl<'a> From<&'a v1::ProviderAttempt> for Attempt<'a> {
    fn from(attempt: &'a v1::ProviderAttempt) -> Self {
        Self {
            provider: &attempt.provider,
            key: set(&attempt.key),
            model: &attempt.model,
            duration_seconds: seconds(attempt.duration.as_ref()),
            error: set(&attempt.error),
            message: set(&attempt.message),
        }
    }
}
