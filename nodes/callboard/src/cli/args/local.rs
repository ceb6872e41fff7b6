//! The arguments of the commands that run on this machine.

use crate::config::Role;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The arguments of `up`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  callboard up
  callboard up --data-dir /var/lib/callboard --config callboard.toml
  callboard up --openai-base-url http://localhost:11434/v1 --openai-model llama3.2
  callboard up --config deploy/cluster.toml --name b --port-offset 100

`callboard config default` prints a configuration file with comments.
Options win over the environment, the environment over the file.")]
pub struct UpArgs {
    /// The folder that holds the data. [default: ./callboard-data]
    #[arg(long, env = "CALLBOARD_DATA_DIR", hide_env_values = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address of the API. [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// The address of health and metrics. [default: 127.0.0.1:7072]
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<SocketAddr>,
    /// The address other nodes of the cluster connect to. [default: 127.0.0.1:7071]
    #[arg(long, value_name = "ADDR")]
    pub mesh_listen: Option<SocketAddr>,
    /// Add this to the ports of all three listeners: for several nodes on one machine.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port_offset: u16,
    /// The node's name. [default: the host's]
    #[arg(long)]
    pub name: Option<String>,
    /// Host only this role; may be given several times. [default: all]
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<Role>,
    /// Allow an address that others can reach, although nothing is encrypted and nobody is asked for a key.
    #[arg(long)]
    pub insecure: bool,
    /// How many tasks to run at once. [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub slots: Option<u32>,
    /// A provider that speaks OpenAI's API, such as http://localhost:11434/v1 for Ollama.
    #[arg(long, value_name = "URL")]
    pub openai_base_url: Option<String>,
    /// The model to ask it for.
    #[arg(long, value_name = "NAME")]
    pub openai_model: Option<String>,
}

/// The arguments of `demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  callboard demo
  OPENAI_API_KEY=.. callboard demo
  callboard demo --openai-base-url http://localhost:11434/v1 --openai-model llama3.2

Without a key it needs no network: the answers come from the offline generator and say so.")]
pub struct DemoArgs {
    /// A provider that speaks OpenAI's API, such as http://localhost:11434/v1 for Ollama.
    #[arg(long, value_name = "URL")]
    pub openai_base_url: Option<String>,
    /// The model to ask it for.
    #[arg(long, value_name = "NAME")]
    pub openai_model: Option<String>,
    /// Keep the node's data, and say where it is.
    #[arg(long)]
    pub keep_data: bool,
    /// Plain lines instead of progress bars.
    #[arg(long)]
    pub plain: bool,
    /// How many small tasks to run beside the large ones.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch_size: u32,
}

/// The arguments of `config`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  callboard config default > callboard.toml")]
pub struct ConfigArgs {
    /// What to show.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to show of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with its default and a comment.
    #[command(after_help = "Examples:\n  callboard config default > callboard.toml")]
    Default,
}

/// The arguments of `certs`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  callboard certs init --node a --node b --node c")]
pub struct CertsArgs {
    /// What to make.
    #[command(subcommand)]
    pub command: CertsCommand,
}

/// What to make of certificates.
#[derive(Clone, Debug, Subcommand)]
pub enum CertsCommand {
    /// Make a CA for a cluster, unless there is one, and a certificate for each node that is named.
    Init(CertsInitArgs),
}

/// The arguments of `certs init`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  callboard certs init --node a --node b --node c
  callboard certs init --out /etc/callboard/certs --node web-1 --address 10.0.0.1
  callboard certs init --node a --force

A node needs ca.pem, its NAME.pem and its NAME-key.pem.
Keep ca-key.pem away from the nodes: whoever has it can make nodes.")]
pub struct CertsInitArgs {
    /// The folder of the certificates.
    #[arg(long, value_name = "FOLDER", default_value = "certs")]
    pub out: PathBuf,
    /// Make a certificate for the node of this name; may be given several times.
    #[arg(long = "node", value_name = "NAME")]
    pub nodes: Vec<String>,
    /// A host or IP address of the node, for people and other tools: nodes know each other by the CA. May be
    /// given several times, for one node at a time.
    #[arg(long = "address", value_name = "HOST", requires = "nodes")]
    pub addresses: Vec<String>,
    /// How long the nodes' certificates are valid.
    #[arg(long, value_name = "N", default_value_t = 365)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::certs::DAYS_MAX)))]
    pub days: u32,
    /// Replace the files of nodes that have some. A CA is never replaced.
    #[arg(long)]
    pub force: bool,
}

/// The arguments of `keys`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  callboard keys new team-a")]
pub struct KeysArgs {
    /// What to make.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What to make of keys.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key for the OpenAI-compatible endpoint, and its hash for the configuration.
    New(KeysNewArgs),
}

/// The arguments of `keys new`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  callboard keys new team-a
  callboard keys new team-a --output json
  callboard keys new ops --admin

The key is shown once and kept nowhere: the configuration holds its hash.")]
pub struct KeysNewArgs {
    /// Whose key it is: 1 to 64 characters.
    pub name: String,
    /// Whether it may make an admin's calls too: `callboard providers disable` and the like.
    #[arg(long)]
    pub admin: bool,
}

/// The arguments of `completions`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  callboard completions bash > ~/.local/share/bash-completion/completions/callboard
  callboard completions zsh > ~/.zfunc/_callboard
  callboard completions fish > ~/.config/fish/completions/callboard.fish")]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}
