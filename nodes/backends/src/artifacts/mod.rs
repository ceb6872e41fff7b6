//! Backends of the artifacts.

pub mod folder;
