//! `cargo xtask openai-clients`: OpenAI's own clients against the endpoint that speaks OpenAI's API.

use crate::{shell, workspace};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;

const PYTHON: &str = "openai==3.57.0";
const NODE: &str = "openai@6.49.0";
/// Tells the tests where the clients are.
const FOLDER: &str = "CALLBOARD_TEST_OPENAI_CLIENTS";

/// Installs them below the target folder, and runs the tests that use them.
///
/// # Errors
/// They cannot be installed, or a test fails.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root()?;
    let folder = root.join("target/openai-clients");
    install(&folder)?;
    // Of the workspace, as all tests are built: for a package alone, what it stands on would be built anew.
    let run = ["test", "--workspace", "--test", "it", "--", "openai::clients", "--nocapture"];
    let mut run = shell::cargo(&root, run);
    run.env(FOLDER, folder);
    shell::run(run)
}

fn install(folder: &Path) -> Result<()> {
    let ready = folder.join("ready");
    let wanted = format!("{PYTHON} {NODE}");
    if std::fs::read_to_string(&ready).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    shell::complain(&format!("installing {PYTHON} for Python and {NODE} for Node.js, {}", folder.display()));
    let needed =
        "needed are Python 3 with venv, Node.js with npm, and that pip and npm reach their registries";
    let python = folder.join("python");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&python);
    shell::read(venv).context(needed)?;
    let mut pip = Command::new(python.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", PYTHON]);
    shell::read(pip).context(needed)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--prefix"]).arg(folder.join("node")).arg(NODE);
    shell::read(npm).context(needed)?;
    std::fs::write(&ready, wanted).with_context(|| format!("cannot write {}", ready.display()))
}
