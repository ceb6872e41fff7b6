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

/// What a reload did.
#[derive(Serialize)]
pub struct Reloaded<'a> {
    providers: &'a [String],
    after_restart: &'a [String],
}

impl<'a> From<&'a v1::ReloadProvidersResponse> for Reloaded<'a> {
    fn from(done: &'a v1::ReloadProvidersResponse) -> Self {
        Self { providers: &done.providers, after_restart: &done.after_restart }
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
