//! What the embedded backends promise.

mod others;
mod sqlite_store;
