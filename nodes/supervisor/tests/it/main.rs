//! What holds of membership whatever happens.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod members;
