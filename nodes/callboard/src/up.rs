//! `callboard up`: one node in this process, from its configuration to its end.

use crate::config::Config;
use crate::log::Log;
use crate::node::{self, Deps, Running, VERSION};
use anyhow::Context as _;
use callboard_ports::SystemClock;
use callboard_provider_broker::ReadConfig;
use callboard_sdk::Registry;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// What a started node tells whoever started it.
pub struct Ready<'a> {
    /// The node.
    pub node: &'a Running,
    /// Its configuration.
    pub config: &'a Config,
}

/// Runs a node that hosts the kinds of `registry` until it is told to stop, or cannot go on. `announce` is called once it serves.
///
/// # Errors
/// The node cannot start.
pub fn run(
    config: Config,
    registry: Registry,
    announce: impl FnOnce(Ready<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    run_reloading(config, None, registry, announce)
}

/// The same. With what reads the configuration of providers again it does so on SIGHUP, and when an admin asks.
///
/// # Errors
/// The node cannot start.
pub fn run_reloading(
    config: Config,
    read_config: Option<ReadConfig>,
    registry: Registry,
    announce: impl FnOnce(Ready<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let log = Log::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("callboard")
        .build()
        .context("cannot start the runtime")?;
    let exit = runtime.block_on(serve(config, read_config, registry, log.clone(), announce));
    log.close();
    // A handler that blocks its thread must not keep the process.
    runtime.shutdown_background();
    exit
}

async fn serve(
    config: Config,
    read_config: Option<ReadConfig>,
    registry: Registry,
    log: Log,
    announce: impl FnOnce(Ready<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    // Before the node starts, so that a signal is never missed.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let deps = Deps {
        clock: Arc::new(SystemClock),
        env: Arc::new(|name| std::env::var(name).ok()),
        read_config,
        registry,
        log,
    };
    let node = node::start(config.clone(), deps).await?;
    announce(Ready { node: &node, config: &config })?;
    let reloads = async {
        while hangup.recv().await.is_some() {
            node.reload().await;
        }
        std::future::pending::<()>().await;
    };
    let code = tokio::select! {
        () = reloads => ExitCode::FAILURE,
        _ = interrupt.recv() => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::SUCCESS,
        () = node.left() => ExitCode::SUCCESS,
        why = node.gave_up() => {
            tracing::error!(why, "the node stops");
            ExitCode::FAILURE
        }
    };
    let grace = config.node.drain_grace;
    tracing::info!(?grace, "stopping; what runs may end, again to stop at once");
    tokio::select! {
        (finished, returned) = node.stop() => tracing::info!(finished, returned, "stopped"),
        _ = interrupt.recv() => tracing::warn!("stopped at once: the next start takes up what ran"),
        _ = terminate.recv() => tracing::warn!("stopped at once: the next start takes up what ran"),
    }
    Ok(code)
}

/// What a person reads once the node serves: where it is, and what to try next from where they stand.
#[must_use]
pub fn banner(ready: &Ready<'_>, program: &str, here: &Path) -> String {
    let Ready { node, config } = ready;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "callboard {VERSION}, node `{}`, is ready\n", node.name);
    let _ = writeln!(text, "  API        {}  (gRPC, with health and reflection)", node.public);
    if config.openai.enabled {
        let who = match (config.openai.keys.is_empty(), node.public.ip().is_loopback()) {
            (true, true) => "for programs on this machine",
            (true, false) => "closed: it needs keys, see openai.keys",
            (false, _) => "with a key",
        };
        let _ = writeln!(text, "  OpenAI     http://{}/v1  ({who})", node.public);
    }
    if let Some(admin) = node.admin {
        let _ = writeln!(text, "  admin      http://{admin}  (/livez, /readyz, /metrics)");
    }
    let _ = writeln!(text, "  data       {}", node.data_dir.display());
    let names: Vec<_> = config.broker.providers.iter().map(|p| p.name.as_str()).collect();
    let _ = writeln!(text, "  providers  {}", names.join(", then "));
    if names == [callboard_provider_broker::config::OFFLINE] {
        let _ = writeln!(
            text,
            "             answers are made from templates and labelled so; set OPENAI_API_KEY, or start with\n             \
             --openai-base-url http://localhost:11434/v1, for real ones"
        );
    }
    let default = node.public.ip().is_loopback() && node.public.port() == 7070;
    let at = if default { String::new() } else { format!(" --addr {}", node.public) };
    let brief = if here.join("examples/campaign.json").is_file() {
        "@examples/campaign.json".to_owned()
    } else {
        r#"'{"product":"a tea that tells the time","audience":"people who are late"}'"#.to_owned()
    };
    let _ = writeln!(
        text,
        "\nTry next, in another terminal:\n  \
         {program} submit{at} text.generate --input '{{\"prompt\":\"a haiku about tea\"}}' --wait\n  \
         {program} submit{at} campaign.generate --input {brief} --watch\n  \
         {program} top{at}\n\nCtrl-C stops the node; its tasks go on at the next start."
    );
    text
}
