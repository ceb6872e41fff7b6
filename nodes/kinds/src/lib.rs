//! The built-in task kinds, one folder each.
//!
//! - `echo` gives its input back, and sleeps, fails or panics on demand.
//! - `text.generate` and `image.generate` are one call to a model each.
//! - `campaign.generate` makes a text and an image of a marketing brief.
//! - `policy.analyze` scores a shop's policy and names what it lacks.
//!
//! Each folder holds the kind's JSON schemas beside its code: `additionalProperties` is false everywhere
//! but in `echo`, and every result fits its schema.
//!
//! A kind calls models and stores images only through its `TaskContext`: no provider, key or file is
//! known here. Calls are dropped as soon as the task is cancelled, and an answer that is less than what
//! was asked for says so in its result.

mod campaign_generate;
mod echo;
mod image_generate;
mod model;
mod policy_analyze;
mod text_generate;
mod whole;

use callboard_sdk::{Registry, registry};

/// Every built-in kind.
///
/// # Errors
/// A kind's specification is wrong: a fault of this crate, and a test's business.
pub fn all() -> Result<Registry, registry::Error> {
    register(Registry::new())
}

/// Adds every built-in kind to a registry.
///
/// # Errors
/// The registry has a kind of one of their names already.
pub fn register(registry: Registry) -> Result<Registry, registry::Error> {
    registry
        .with_handler(echo::Echo)?
        .with(text_generate::TextGenerate)?
        .with(image_generate::ImageGenerate)?
        .with(campaign_generate::CampaignGenerate)?
        .with(policy_analyze::PolicyAnalyze)
}
