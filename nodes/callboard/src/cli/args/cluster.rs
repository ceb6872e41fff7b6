//! The arguments of the commands about nodes, providers, kinds and alerts.

use crate::cli::values;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// The arguments of `generate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard generate 'a haiku about tea'
  callboard generate 'a haiku about tea' --stream --provider openai --model gpt-4o-mini
  callboard generate 'a haiku about tea' --model summary --verbose
  cat letter.txt | callboard generate - --system 'answer in one paragraph'")]
pub struct GenerateArgs {
    /// What to ask, or - for standard input.
    pub prompt: String,
    /// The instructions the model works under.
    #[arg(long)]
    pub system: Option<String>,
    /// The provider to use, and no other. [default: all, in order]
    #[arg(long)]
    pub provider: Option<String>,
    /// The model to use. [default: the provider's]
    #[arg(long)]
    pub model: Option<String>,
    /// The most tokens to generate.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// The time the call may take over all providers.
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub timeout: Option<Duration>,
    /// Print the text while it comes.
    #[arg(long)]
    pub stream: bool,
    /// Say on standard error all that is known of how the answer came about: every attempt with its key, the cost, the arm
    /// of an experiment. With `--output json` all of it is in the document anyway.
    #[arg(long, short)]
    pub verbose: bool,
    /// Whether an answer to the same call of before will do. [default: as the node is configured]
    #[arg(long, value_enum, value_name = "MODE")]
    pub cache: Option<Caching>,
}

/// Whether an answer of before will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Caching {
    /// It will, and a new one is kept.
    On,
    /// It will not, and the new one is not kept.
    Off,
    /// It will not, and the new one is kept instead.
    Refresh,
}

impl From<Caching> for callboard_client::v1::CacheMode {
    fn from(caching: Caching) -> Self {
        match caching {
            Caching::On => Self::On,
            Caching::Off => Self::Off,
            Caching::Refresh => Self::Refresh,
        }
    }
}

/// The arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard top
  callboard top --once --output json
  callboard top --interval 5s >> rates.log")]
pub struct TopArgs {
    /// Print one sample and end.
    #[arg(long)]
    pub once: bool,
    /// The span between two samples.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = values::span)]
    pub interval: Duration,
}

/// The arguments of `nodes`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard nodes
  callboard nodes --output json | jq '.nodes[].name'")]
pub struct NodesArgs {}

/// The arguments of `drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard drain node-b
  callboard drain node-b --grace 5m
  callboard drain node-b --addr node-a:7070

The node takes nothing more, lets what runs end, hands the rest off to others, and stops.
`callboard nodes` shows the names.")]
pub struct DrainArgs {
    /// The node's name.
    pub name: String,
    /// How long running tasks may go on. [default: the node's node.drain_grace]
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub grace: Option<Duration>,
}

/// The arguments of `log-level`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard log-level
  callboard log-level debug,h2=off,hyper=off,sqlx=off,lapin=off --node node-b
  callboard log-level info,callboard_worker=debug
  callboard log-level info,lapin=off

It holds until the node stops; what it starts with is log.filter in its configuration.")]
pub struct LogLevelArgs {
    /// What is logged from now on, as in RUST_LOG: a level (off, error, warn, info, debug, trace), or levels by
    /// module. Without it, shows what is logged now.
    pub filter: Option<String>,
    /// Only this node. [default: every node]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// The arguments of `health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard health
  callboard health --addr node-a:7070

It prints nothing if the node serves, and exits with 4 if it cannot be reached, with 1 if it drains: for the
health check of a container.")]
pub struct HealthArgs {}

/// The arguments of `kinds`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard kinds
  callboard kinds text.generate
  callboard kinds --output json | jq -r '.kinds[].name'")]
pub struct KindsArgs {
    /// Show this kind with its schemas and an example.
    pub name: Option<String>,
}

/// The arguments of `alerts`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard alerts
  callboard alerts --all")]
pub struct AlertsArgs {
    /// Also those that are over.
    #[arg(long)]
    pub all: bool,
}

/// The arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard doctor
  callboard doctor --addr node-a:7070
  callboard doctor --config callboard.toml --data-dir ./callboard-data

With --config or --data-dir it checks this machine's files and asks no node.
It exits with 1 if a check fails; warnings alone do not.")]
pub struct DoctorArgs {
    /// Check this configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check this data folder.
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
}
