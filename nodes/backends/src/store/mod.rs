//! The truth about tasks.

mod codec;
mod names;
pub mod postgres;
mod recent;
pub mod sqlite;
