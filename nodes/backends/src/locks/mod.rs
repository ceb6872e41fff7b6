//! Backends of the locks.

pub mod embedded;
