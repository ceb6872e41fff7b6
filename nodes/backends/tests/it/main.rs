//! What the embedded backends promise.

mod others;
mod postgres_store;
mod rabbitmq;
mod redis;
mod sqlite_store;
