//! `providers` and what an admin does to them.

use clap::{Args, Subcommand};

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
    /// Send no new calls to a provider that is to go away once its calls have ended.
    #[command(
        after_help = "Examples:\n  callboard providers drain local\n\n`callboard providers` shows how many calls are still at it, from the node that answers."
    )]
    Drain(SwitchArgs),
    /// Try a provider before all others.
    #[command(after_help = "Examples:\n  callboard providers primary anthropic --reason 'cheaper this week'")]
    Primary(SwitchArgs),
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
    /// Have a node read its configuration of providers again.
    #[command(
        after_help = "Examples:\n  callboard providers reload\n  callboard providers reload --addr node-b:7070\n\nEach node has a file of its own: this is about the node that answers. SIGHUP does the same. A file that is wrong\nchanges nothing, and what is wrong is said."
    )]
    Reload,
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
