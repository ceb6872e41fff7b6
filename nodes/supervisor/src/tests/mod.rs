//! The loops on tokio's paused clock, against a scripted store and network.

mod cutoff;
mod events;
mod join;
mod keeper;
mod observe;
mod reconcile;
mod stub;
mod world;
