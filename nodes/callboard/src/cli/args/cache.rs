//! `cache`: what the caches of answers did, and clearing them.

use clap::{Args, Subcommand};

/// The arguments of `cache`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard cache
  callboard cache --output json | jq '.total[] | {kind, hits_memory, misses}'
  callboard cache clear --kind text.generate

Without a command, shows what the caches of all nodes did together since each started, for each namespace and kind of task.
A node that does not answer is named, and is missing in the sums.")]
pub struct CacheArgs {
    /// What to do; without it, show what they did.
    #[command(subcommand)]
    pub command: Option<CacheCommand>,
    /// The key of an admin, where keys are configured (openai.keys). Only `clear` needs one.
    #[arg(long, global = true, env = "CALLBOARD_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: Option<String>,
}

/// What to do to the caches.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Forget cached answers, on every node and in what nodes share.
    #[command(
        after_help = "Examples:\n  callboard cache clear\n  callboard cache clear --kind text.generate\n  callboard cache clear --namespace shop --kind text.generate\n\nRedis need not be there for it. Answers by idempotency key stay: they are no cache."
    )]
    Clear(CacheClearArgs),
}

/// The arguments of `cache clear`.
#[derive(Clone, Debug, Args)]
pub struct CacheClearArgs {
    /// Only answers to this kind of task. [default: all]
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only answers to calls of this namespace; `default` is that of calls which name none. [default: all]
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}
