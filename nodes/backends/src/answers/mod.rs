//! Backends of the answers that nodes share. A node by itself keeps its own in memory, and needs none.

pub mod redis;
