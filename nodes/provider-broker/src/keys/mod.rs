//! The keys of providers: which one a call goes over, and what is known of each.
//!
//! - Calls are shared out among a provider's keys by weight, over those that are healthy ([`Ring::pick`]).
//! - A key has a limit of calls over it at once, if it is given one.
//! - What a provider says in its headers is left of a key, for a model, is all that is sent until the reset that it
//!   named ([`Key::send`]). That is known to the node which was told; where nothing is left, the others are told of it
//!   ([`Key::adopt`]).
//! - A key from a file is read again there: within seconds of its use, and at once when it was rejected.
//!
//! Whether a key works at all is its breaker's to know.

mod allowance;
mod call;
mod headers;
mod key;
mod ring;
mod source;
mod turns;

pub(crate) use allowance::Spent;
pub(crate) use call::CallKey;
pub(crate) use key::{InFlight, Key, Sending, answered, call_key, unreached};
pub(crate) use ring::{Keys, Ring};
