//! Circuit breakers: a provider that fails is left out until a single call has found it well again.
//!
//! There is one for each model of each provider: a model may be overloaded or unknown to an account while its
//! neighbours answer. [`machine`] decides, [`board`] holds them all.
//!
//! Each node has its own. What one node learns costs the others a few failures, and nothing has to be shared
//! that could be away when providers fail.

mod board;
mod machine;

pub use board::BreakerStatus;
pub(crate) use board::{Board, Permit, Standing, whole_seconds};
pub use machine::BreakerState;
pub(crate) use machine::{Outcome, Refusal};
