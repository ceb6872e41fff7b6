//! The arguments. Each command's help ends with examples.

mod cache;
mod cluster;
mod experiments;
mod local;
mod models;
mod providers;
mod tasks;

pub use cache::{CacheArgs, CacheClearArgs, CacheCommand};
pub use cluster::{
    AlertsArgs, DoctorArgs, DrainArgs, GenerateArgs, HealthArgs, KindsArgs, LogLevelArgs, NodesArgs, TopArgs,
};
pub use experiments::{
    ExperimentArgs, ExperimentsArgs, ExperimentsCommand, RollbackArgs, ScoreArgs, ShareArgs,
};
pub use local::{
    CertsArgs, CertsCommand, CertsInitArgs, CompletionsArgs, ConfigArgs, ConfigCommand, DemoArgs, KeysArgs,
    KeysCommand, KeysNewArgs, UpArgs,
};
pub use models::{EmbedArgs, ImageArgs};
pub use providers::{
    DrainProviderArgs, NameArgs, ProvidersArgs, ProvidersCommand, ReloadArgs, SwitchArgs, TestArgs,
    WeightArgs,
};
pub use tasks::{
    ArtifactArgs, ArtifactCommand, ArtifactGetArgs, CancelArgs, EventsArgs, GetArgs, ListArgs, ResultArgs,
    RetryArgs, StateArg, SubmitArgs, WaitArgs, WatchArgs,
};

use super::values::{Output, OutputParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

const AFTER_HELP: &str = "\
Examples:
  callboard up
  callboard submit text.generate --input '{\"prompt\":\"a haiku about tea\"}' --wait
  callboard list --state running

Exit codes:
  0    done
  1    the task failed or was cancelled, or some item of several failed
  2    the arguments or the input are wrong
  3    no such task or artifact
  4    the node cannot be reached
  5    the node answered with another error
  124  `wait --timeout` ran out; the task goes on
  130  interrupted";

/// Runs AI and operations tasks to completion.
#[derive(Debug, Parser)]
#[command(name = "callboard", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The node to talk to; several, with commas between them, are tried in turn.
    #[arg(long, global = true, env = "CALLBOARD_ADDR", hide_env_values = true, value_name = "ADDR")]
    #[arg(value_delimiter = ',', default_value = "127.0.0.1:7070")]
    pub addr: Vec<String>,
    /// `table` for a person or `json` for a program. For `result`, `artifact get` and `image` also the file
    /// to write (./json for a file of that name).
    #[arg(long, short, global = true, value_name = "FORMAT", value_parser = OutputParser, default_value = "table")]
    #[arg(hide_possible_values = true)]
    pub output: Output,
    /// When to use colours.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the main job from end to end, on a node of its own in a temporary folder.
    Demo(DemoArgs),
    /// Run a node.
    Up(UpArgs),
    /// One of those that talk to a node.
    #[command(flatten)]
    Remote(Remote),
    /// Show the configuration.
    Config(ConfigArgs),
    /// Make certificates for the nodes of a cluster.
    Certs(CertsArgs),
    /// Make keys for the OpenAI-compatible endpoint.
    Keys(KeysArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
}

/// A command that talks to a node.
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Submit a task, or a file of them.
    Submit(SubmitArgs),
    /// List tasks, newest first.
    List(ListArgs),
    /// Show one task with its input and result.
    Get(GetArgs),
    /// Follow a task's events until it ends.
    Watch(WatchArgs),
    /// Wait until a task ends, and print its result.
    Wait(WaitArgs),
    /// Cancel a task.
    Cancel(CancelArgs),
    /// Run a task that has ended once more, as a new task.
    Retry(RetryArgs),
    /// Print a task's result, or write it to a file.
    Result(ResultArgs),
    /// Read artifacts: images and large results.
    Artifact(ArtifactArgs),
    /// Show a task's timeline.
    Events(EventsArgs),
    /// Generate a text through the providers, without a task.
    Generate(GenerateArgs),
    /// Turn texts into vectors through the providers.
    Embed(EmbedArgs),
    /// Generate an image through the providers, without a task.
    Image(ImageArgs),
    /// Show live rates, queue depths and the oldest waiting task.
    Top(TopArgs),
    /// List the nodes.
    Nodes(NodesArgs),
    /// Make a node leave the cluster: it finishes or hands back what it runs.
    Drain(DrainArgs),
    /// Show what nodes log, or change it while they run.
    LogLevel(LogLevelArgs),
    /// Tell by the exit code whether a node serves.
    Health(HealthArgs),
    /// List the LLM providers in the order they are tried, or switch, test and reset one.
    Providers(ProvidersArgs),
    /// Show what the caches of answers did, or clear them.
    Cache(CacheArgs),
    /// Show experiments and whether their arms differ, score answers, change shares, or roll back.
    Experiments(ExperimentsArgs),
    /// List the task kinds, or show one with its schemas.
    Kinds(KindsArgs),
    /// List the alerts.
    Alerts(AlertsArgs),
    /// Find out what is wrong with a set-up.
    Doctor(DoctorArgs),
}

impl Remote {
    /// Whether `--output` may name a file.
    #[must_use]
    pub fn writes_files(&self) -> bool {
        matches!(self, Self::Result(_) | Self::Artifact(_) | Self::Image(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn output_is_a_form_or_a_file_before_and_after_the_command() {
        let parse = |args: &[&str]| Cli::try_parse_from(args).unwrap().global.output;
        assert_eq!(parse(&["callboard", "list"]), Output::Table);
        assert_eq!(parse(&["callboard", "--output", "json", "list"]), Output::Json);
        assert_eq!(parse(&["callboard", "result", "0c07398f", "--output", "json"]), Output::Json);
        assert_eq!(
            parse(&["callboard", "result", "0c07398f", "-o", "r.json"]),
            Output::File("r.json".into())
        );
        assert_eq!(
            parse(&["callboard", "artifact", "get", "sha256:ab", "-o", "./json"]),
            Output::File("./json".into())
        );
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for args in [
            &["callboard", "submit"][..],
            &["callboard", "submit", "echo", "--at", "2026-01-01T00:00:00Z", "--delay", "1s"],
            &["callboard", "submit", "echo", "--priority", "10"],
            &["callboard", "submit", "echo", "--wait", "--watch"],
            &["callboard", "submit", "echo", "--batch", "-", "--input", "{}"],
            &["callboard", "list", "--state", "sleeping"],
        ] {
            assert_eq!(Cli::try_parse_from(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }
}
