//! The hand-off, the locks, the token buckets and the artifacts.

mod artifacts;
mod handoff;
mod locks;
mod overflow;
mod queued;
mod token_buckets;
