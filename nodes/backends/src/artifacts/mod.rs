//! Backends of the artifacts.

pub mod folder;
pub mod postgres;
