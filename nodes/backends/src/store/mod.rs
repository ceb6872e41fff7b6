//! The truth about tasks.

pub mod sqlite;
