//! Backends of the token buckets.

pub mod embedded;
pub mod redis;
