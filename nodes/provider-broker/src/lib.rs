//! The ProviderBroker: everything that is about calling providers of language and image models, and the
//! only place that knows their keys.
//!
//! A call goes through [`Broker`] (limits of the request) to the router (which provider, how long, what
//! after a failure) to an adapter (the wire). Invariants:
//! - An answer is whole or an error. A stream that was cut, stalled or closed without a finish reason ends
//!   with an error, never silently.
//! - Everything is bounded: each attempt and the whole call in time, each answer and each line in bytes.
//! - No message, log line or description holds a key.
//! - Nothing is spawned by [`Broker`]: dropping a call, or its stream, drops the connection to the provider
//!   with it.
//! - A provider that fails over and over is not called: see [`BreakerState`]. Retries are few and budgeted; the
//!   task's retry policy does the rest.
//!
//! It does not validate what a model wrote: who asked knows what it should be.

mod accounts;
mod actor;
mod admin;
mod admission;
mod anthropic;
mod breaker;
mod broker;
mod clear;
pub mod config;
mod cost;
mod experiment;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod gemini;
mod gen_ai;
mod health;
mod keys;
mod offline;
mod ollama;
mod openai;
pub mod provider;
mod reload;
mod route;
mod secret;
mod service;
mod shared;
mod stages;
mod warm;
mod window;
mod wire;

pub use accounts::{
    Budget, BudgetStatus, DEFAULT_NAMESPACE, EVERY as EXCHANGED_EVERY, Measure, Quota, QuotaStatus, Span,
};
pub use actor::{ActorService, ProviderBroker};
pub use admin::Said;
pub use admission::{Limit, PREFIX as LIMITS};
pub use breaker::{BreakerState, BreakerStatus};
pub use broker::{Broker, Deps, Env, Jitter, Observe};
pub use config::Config;
pub use cost::Price;
pub use experiment::{ArmStatus, ExperimentStatus, Moments, Scored, SharesSet, Tally};
pub use gen_ai::Measured;
pub use health::{KeyStatus, ProviderCounts, ProviderStatus};
pub use offline::{Offline, SKELETON_PREFIX};
pub use provider::Provider;
pub use reload::{ReadConfig, Reloaded};
pub use route::{Piece, PieceStream, RouteStatus, SwitchState, Switched, TargetStatus, WeightStatus};
pub use service::Service;
pub use shared::{Sharing, Tell};
pub use stages::{CacheCounts, Cleared, StageCounts};
pub use warm::EVERY as WARMED_EVERY;
