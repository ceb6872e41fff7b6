//! `experiments`, and what is done to them.

use clap::{Args, Subcommand};

/// The arguments of `experiments`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard experiments
  callboard experiments report summary
  callboard experiments share summary 0.25
  callboard experiments rollback summary --reason 'wrong answers'

Without a command, lists them with what came of their arms, on all nodes. Shares that are set here stand above the
configuration, on every node and over restarts, until `reset`.")]
pub struct ExperimentsArgs {
    /// What to do; without it, list them.
    #[command(subcommand)]
    pub command: Option<ExperimentsCommand>,
    /// The key of an admin, where keys are configured (openai.keys).
    #[arg(long, global = true, env = "CALLBOARD_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: Option<String>,
}

/// What to do with an experiment.
#[derive(Debug, Subcommand)]
pub enum ExperimentsCommand {
    /// Show one, and whether its arms differ.
    #[command(after_help = "\
Examples:
  callboard experiments report summary
  callboard experiments report summary --output json | jq -r '.arms[].verdict'

p is how likely a difference as large is if there is none. What is said to be better or worse has the number of
comparisons taken into account.")]
    Report(ExperimentArgs),
    /// Say how good an answer was.
    #[command(after_help = "\
Examples:
  callboard experiments score summary --arm new --score 0.8
  callboard experiments score summary --subject user-17 --score 1

Every answer names its arm. With a subject it counts for the arm that the subject has now.")]
    Score(ScoreArgs),
    /// Give an arm a share of all subjects, on every node.
    #[command(after_help = "\
Examples:
  callboard experiments share summary 0.1
  callboard experiments share summary 0.25 --reason 'no complaints at 0.1'
  callboard experiments share three-ways 0.5 --arm cheap

Only subjects between the old share and the new one change arms.")]
    Share(ShareArgs),
    /// Give all subjects to the first arm, on every node.
    #[command(after_help = "Examples:\n  callboard experiments rollback summary --reason 'wrong answers'")]
    Rollback(RollbackArgs),
    /// Have an experiment follow the shares of the configuration again.
    #[command(after_help = "Examples:\n  callboard experiments reset summary")]
    Reset(ExperimentArgs),
}

/// An experiment.
#[derive(Clone, Debug, Args)]
pub struct ExperimentArgs {
    /// The experiment's name.
    pub name: String,
}

/// The arguments of `experiments score`.
#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// The experiment's name.
    pub name: String,
    /// The arm that the answer names.
    #[arg(long, value_name = "ARM", required_unless_present = "subject", conflicts_with = "subject")]
    pub arm: Option<String>,
    /// Whom it was for: the user, the task or the namespace, as the experiment goes by.
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// How good it was, from -1000 to 1000; higher is better.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub score: f64,
}

/// The arguments of `experiments share`.
#[derive(Clone, Debug, Args)]
pub struct ShareArgs {
    /// The experiment's name.
    pub name: String,
    /// The share, from 0 to 1.
    pub share: f64,
    /// The arm. [default: the second of two]
    #[arg(long, value_name = "ARM")]
    pub arm: Option<String>,
    /// Why, for others to see.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// The arguments of `experiments rollback`.
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// The experiment's name.
    pub name: String,
    /// Why, for others to see.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}
