//! The truth about tasks.

mod codec;
mod names;
pub mod postgres;
pub mod sqlite;
