//! What the embedded backends promise.

mod others;
mod postgres_store;
mod redis;
mod sqlite_store;
