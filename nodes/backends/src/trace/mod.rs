//! Where spans go.

pub mod otlp;
