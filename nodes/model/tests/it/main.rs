//! The hand-off holds in every scenario, and each planted bug is found.

mod bugs;
mod scenarios;
