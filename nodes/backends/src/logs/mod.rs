//! Where lines of the log go, beside standard error.

pub mod otlp;
