//! Backends of the locks.

pub mod embedded;
pub mod redis;
