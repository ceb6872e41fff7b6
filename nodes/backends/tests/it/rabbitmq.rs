//! The hand-off through a real RabbitMQ, and the relay before it.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod contract;
mod outage;
mod queues;
mod relay;
mod repair;
mod rows;
mod support;
mod trace;
