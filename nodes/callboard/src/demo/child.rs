//! The demo's node: this program's own `up`, in a process that can be killed.

use crate::cli::args::DemoArgs;
use anyhow::Context as _;
use serde::Deserialize;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const START_WITHIN: Duration = Duration::from_secs(20);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Few enough that the batch takes some seconds.
const SLOTS: &str = "8";
/// Templates take no time; with this they take as long as a fast provider, so that there is a middle.
const CONFIG: &str = "[broker]\noffline_latency = \"120ms\"\n";

/// A node process. It is killed when dropped.
pub(super) struct Child {
    process: tokio::process::Child,
    /// Where it listens.
    pub(super) address: String,
    providers: Vec<String>,
}

/// The line that `up --output json` prints once it serves.
#[derive(Deserialize)]
struct Ready {
    api: String,
    providers: Vec<String>,
}

impl Child {
    /// Starts a node on a data folder: on a free port, or where it was before.
    pub(super) async fn start(args: &DemoArgs, data: &Path, address: Option<&str>) -> anyhow::Result<Self> {
        let config = data.join("demo.toml");
        std::fs::write(&config, CONFIG).context("cannot write the node's configuration")?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args([
            "up",
            "--output",
            "json",
            "--name",
            "demo",
            "--slots",
            SLOTS,
            "--admin-listen",
            "127.0.0.1:0",
        ]);
        command.args(["--listen", address.unwrap_or("127.0.0.1:0")]).arg("--config").arg(&config);
        command.arg("--data-dir").arg(data.join("node"));
        if let Some(url) = &args.openai_base_url {
            command.args(["--openai-base-url", url]);
        }
        if let Some(model) = &args.openai_model {
            command.args(["--openai-model", model]);
        }
        // The node's own log would tear the progress bars; what matters of it is in the events.
        command.env("CALLBOARD_LOG__FILTER", "off");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("cannot start the node")?;
        let stdout = process.stdout.take().context("the node has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_WITHIN, lines.next_line())
            .await
            .context("the node does not start")??;
        let Some(line) = line else {
            let output = process.wait_with_output().await?;
            anyhow::bail!("the node does not start: {}", String::from_utf8_lossy(&output.stderr).trim());
        };
        let Ready { api, providers } = serde_json::from_str(&line).context("the node says something else")?;
        Ok(Self { process, address: api, providers })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// Who answers, honestly.
    pub(super) fn providers_line(&self) -> String {
        if self.providers == [callboard_provider_broker::config::OFFLINE] {
            return "No provider is configured, so answers come from the offline generator: made from templates, and \
                    labelled so. Set OPENAI_API_KEY, or give --openai-base-url, for real ones."
                .into();
        }
        format!("Answers come from {}.", self.providers.join(", then "))
    }

    /// Kills it with SIGKILL: it can do nothing about it.
    pub(super) async fn kill9(&mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("cannot kill the node")
    }

    /// Asks it to stop, and waits.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = self.pid().to_string();
        // Neither the standard library nor tokio sends other signals than SIGKILL.
        let told = Command::new("kill").args(["-TERM", &pid]).status().await.is_ok_and(|s| s.success());
        if !told || tokio::time::timeout(STOP_WITHIN, self.process.wait()).await.is_err() {
            self.kill9().await?;
        }
        Ok(())
    }
}
