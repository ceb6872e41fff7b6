//! Circuit breakers: a provider that fails is left out until a single call has found it well again.
//!
//! There is one for each model of each provider, and one for each key of it with that model: a model may be overloaded
//! or unknown to an account while its neighbours answer, and a key's quota be spent while other keys go through.
//! [`machine`] decides, [`board`] holds them all and says which failure tells of whom.
//!
//! Each node has its own, and tells the others when one opens or closes: see [`shared`](crate::shared). Nothing has to be
//! shared for one to work: what a node is not told costs it a few failures. Once a cool-down is over each node lets one call
//! try the provider; the first that succeeds closes the breaker everywhere, and one that fails prolongs it everywhere.

mod board;
mod machine;

pub use board::BreakerStatus;
pub(crate) use board::{Board, Permit, Standing, tells_of_key, whole_seconds};
pub use machine::BreakerState;
pub(crate) use machine::{Outcome, Refusal};
