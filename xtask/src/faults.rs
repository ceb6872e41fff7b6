//! `cargo xtask faults`: the fault run on three replicas. ARGS go to it.

use crate::{shell, workspace};
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// Builds it and runs it.
///
/// # Errors
/// This machine cannot run it, or the run found something.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Err(why) = possible() {
        bail!("the fault run is not possible here: {why}");
    }
    // Of the workspace, as all tests are built: for a package alone, what it stands on would be built anew.
    let run = ["test", "--workspace", "--test", "faults", "--", "run"];
    shell::run(shell::cargo(&workspace::root()?, run.into_iter().chain(args.iter().map(String::as_str))))
}

/// Whether network namespaces can be made here.
///
/// # Errors
/// Says what is missing.
pub(crate) fn possible() -> Result<(), String> {
    let works = |command: &mut Command| {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !works(Command::new("ip").arg("netns")) {
        return Err("there is no `ip` (Debian: apt-get install iproute2)".into());
    }
    if !works(Command::new("unshare").args(["--net", "true"])) {
        return Err("network namespaces need root".into());
    }
    Ok(())
}
