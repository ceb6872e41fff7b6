//! Backends of the hand-off.

pub mod embedded;
pub mod rabbitmq;
pub mod relay;
