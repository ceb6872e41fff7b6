//! `providers` and what an admin does to them.

use crate::cli::values;
use clap::{Args, Subcommand};
use std::time::Duration;

/// The arguments of `providers`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard providers
  callboard providers disable openai --reason 'wrong answers since noon'
  callboard providers reset openai

Without a command, lists them in the order they are tried. What is switched stands above the configuration, on every
node and over restarts, until `reset`.")]
pub struct ProvidersArgs {
    /// What to do; without it, list them.
    #[command(subcommand)]
    pub command: Option<ProvidersCommand>,
    /// The key of an admin, where keys are configured (openai.keys).
    #[arg(long, global = true, env = "CALLBOARD_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: Option<String>,
}

/// What to do to a provider.
#[derive(Debug, Subcommand)]
pub enum ProvidersCommand {
    /// Let calls go to a provider again.
    #[command(after_help = "Examples:\n  callboard providers enable openai")]
    Enable(SwitchArgs),
    /// Send no new calls to a provider.
    #[command(
        after_help = "Examples:\n  callboard providers disable openai --reason 'the bill'\n\nCalls in flight end by themselves."
    )]
    Disable(SwitchArgs),
    /// Send no new calls to a provider that is to go away, and wait until those in flight have ended.
    #[command(
        after_help = "Examples:\n  callboard providers drain local\n  callboard providers drain local --timeout 10m --reason 'a new machine'\n  callboard providers drain local --no-wait\n\nIt says how many calls each node still has in flight there. Exits with 124 if there are some when the time is over;\nthe provider stays drained."
    )]
    Drain(DrainProviderArgs),
    /// Try a provider before all others.
    #[command(after_help = "Examples:\n  callboard providers primary anthropic --reason 'cheaper this week'")]
    Primary(SwitchArgs),
    /// Give a provider, or one of its keys, another share of the calls.
    #[command(
        after_help = "Examples:\n  callboard providers weight openai 3 --reason 'a larger quota'\n  callboard providers weight openai 10 --of-key second\n  callboard providers weight openai --as-configured\n\nOf a provider it counts on routes whose policy is weighted or sticky; with 0 it is tried after the others. Of a key it\nis its share of the provider's calls."
    )]
    Weight(WeightArgs),
    /// Have a provider follow the configuration again.
    #[command(after_help = "Examples:\n  callboard providers reset openai")]
    Reset(NameArgs),
    /// Call a provider for one token, and say how that went.
    #[command(
        after_help = "Examples:\n  callboard providers test openai\n  callboard providers test openai --model gpt-4o\n\nIt works for one that is disabled or left out too, and costs what one token costs. Exits with 1 if the provider fails."
    )]
    Test(TestArgs),
    /// Close the circuit breakers of a provider.
    #[command(after_help = "Examples:\n  callboard providers close-breaker openai")]
    CloseBreaker(NameArgs),
    /// Begin the quotas of a provider anew, on every node.
    #[command(after_help = "Examples:\n  callboard providers reset-quota openai")]
    ResetQuota(NameArgs),
    /// Have every node read its configuration of providers again.
    #[command(
        after_help = "Examples:\n  callboard providers reload\n  callboard providers reload --node node-b\n\nEach node has a file of its own, and says what changed. Where the file is wrong nothing changes, and what is wrong is\nsaid; the other nodes are reloaded, and the exit code is 1. SIGHUP does the same on one node."
    )]
    Reload(ReloadArgs),
}

/// A provider, and why.
#[derive(Clone, Debug, Args)]
pub struct SwitchArgs {
    /// The provider's name.
    pub name: String,
    /// Why, for others to see.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// The arguments of `providers drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainProviderArgs {
    /// The provider's name.
    pub name: String,
    /// Why, for others to see.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// The longest to wait.
    #[arg(long, value_name = "SPAN", value_parser = values::span, default_value = "2m")]
    pub timeout: Duration,
    /// Do not wait.
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
}

/// The arguments of `providers reload`.
#[derive(Clone, Debug, Args)]
pub struct ReloadArgs {
    /// Only this node. [default: every node that calls providers]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}

/// The arguments of `providers weight`.
#[derive(Clone, Debug, Args)]
pub struct WeightArgs {
    /// The provider's name.
    pub name: String,
    /// The weight, relative to the others': 0 to 1000, of a key 1 to 1000.
    #[arg(value_name = "N", required_unless_present = "as_configured", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub weight: Option<u32>,
    /// Have it follow the configuration again.
    #[arg(long, conflicts_with = "weight")]
    pub as_configured: bool,
    /// The weight is that of one of its keys.
    #[arg(long = "of-key", value_name = "ID", default_value = "")]
    pub of_key: String,
    /// Why, for others to see.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// A provider.
#[derive(Clone, Debug, Args)]
pub struct NameArgs {
    /// The provider's name.
    pub name: String,
}

/// The arguments of `providers test`.
#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// The provider's name.
    pub name: String,
    /// The model. [default: the provider's own]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
}
