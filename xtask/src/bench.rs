//! `cargo xtask bench`: measures nodes end to end, embedded and on cluster backends; with `--gateway`, the endpoint that
//! speaks OpenAI's API, between a client and a provider.

use crate::{shell, workspace};
use anyhow::Result;

const GATEWAY: &str = "--gateway";

/// Runs a bench of the binary's crate in its release build. `args` go to the bench.
///
/// # Errors
/// If it does not build or fails.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let root = workspace::root()?;
    let bench = if args.iter().any(|arg| arg == GATEWAY) { "gateway" } else { "performance" };
    let fixed = ["bench", "--package", "callboard", "--bench", bench, "--"];
    let rest = args.iter().map(String::as_str).filter(|arg| *arg != GATEWAY);
    shell::run(shell::cargo(&root, fixed.into_iter().chain(rest)))
}
