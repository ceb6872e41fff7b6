//! `cargo xtask bench`: measures nodes end to end, embedded and on cluster backends.

use crate::{shell, workspace};
use anyhow::Result;

/// Runs the bench of the binary's crate in its release build. `args` go to the bench.
///
/// # Errors
/// If it does not build or fails.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let root = workspace::root()?;
    let fixed = ["bench", "--package", "callboard", "--bench", "performance", "--"];
    shell::run(shell::cargo(&root, fixed.into_iter().chain(args.iter().map(String::as_str))))
}
