//! The arguments of the commands about tasks.

use crate::cli::values;
use callboard_client::v1;
use callboard_domain::Timestamp;
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// The arguments of `submit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard submit text.generate --input '{\"prompt\":\"a haiku about tea\"}' --wait
  callboard submit campaign.generate --input @examples/campaign.json --watch
  callboard submit text.generate --batch examples/texts.ndjson --priority 2
  echo '{\"sleep_ms\":500}' | callboard submit echo --delay 10s

A batch has one JSON value a line: the input of KIND, or, without KIND, an object:
  {\"kind\":\"echo\",\"input\":{\"sleep_ms\":5},\"priority\":7,\"delay\":\"10s\"}
  {\"kind\":\"echo\",\"queue\":\"slow\",\"at\":\"2026-01-31T18:30:00Z\",\"timeout\":\"5m\"}
  {\"kind\":\"echo\",\"max_attempts\":3,\"request_id\":\"order-7\"}
The options are the defaults of every line. With --request-id a batch may be sent
again safely: the number of the line is added to it.")]
pub struct SubmitArgs {
    /// The task kind; `callboard kinds` lists them.
    #[arg(required_unless_present = "batch")]
    pub kind: Option<String>,
    /// The input as JSON, @FILE, or - for standard input, which is also read where it is no terminal.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    pub input: Option<String>,
    /// A file with one task a line, or - for standard input.
    #[arg(long, value_name = "FILE|-", conflicts_with = "input")]
    pub batch: Option<String>,
    /// From 0 to 9; higher goes first. [default: 5]
    #[arg(long, short, value_name = "0-9", value_parser = clap::value_parser!(u32).range(0..=9))]
    pub priority: Option<u32>,
    /// Run no earlier than this time.
    #[arg(long, value_name = "RFC3339", value_parser = values::time, conflicts_with = "delay")]
    pub at: Option<Timestamp>,
    /// Run no earlier than after this span, such as 10s, 5m or 2h.
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub delay: Option<Duration>,
    /// The time an attempt may take, at most 24h. [default: the kind's]
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub timeout: Option<Duration>,
    /// The queue to wait in. [default: the kind's]
    #[arg(long)]
    pub queue: Option<String>,
    /// How many failed attempts are allowed. [default: the kind's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub max_attempts: Option<u32>,
    /// Makes the command idempotent: sent again with the same id, it finds the same task.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Wait until the task ends, and print its result.
    #[arg(long, short)]
    pub wait: bool,
    /// Print the task's events until it ends.
    #[arg(long, conflicts_with_all = ["wait", "batch"])]
    pub watch: bool,
}

/// The states of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the doc comments would show as help for words that explain themselves")]
pub enum StateArg {
    Scheduled,
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl From<StateArg> for v1::TaskState {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Scheduled => Self::Scheduled,
            StateArg::Queued => Self::Queued,
            StateArg::Running => Self::Running,
            StateArg::Succeeded => Self::Succeeded,
            StateArg::Failed => Self::Failed,
            StateArg::Cancelled => Self::Cancelled,
        }
    }
}

/// The arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard list
  callboard list --state queued,running --kind text.generate
  callboard list --limit 1000 --output json | jq -r '.tasks[].id'")]
pub struct ListArgs {
    /// Only tasks in one of these states.
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<StateArg>,
    /// Only tasks of this kind.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only tasks of this queue.
    #[arg(long)]
    pub queue: Option<String>,
    /// The most tasks to list.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Go on where an earlier list ended.
    #[arg(long, value_name = "TOKEN")]
    pub page_token: Option<String>,
}

/// The arguments of `get`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard get 0c07398f
  callboard get 01939e2c-7e10-7cc3-98c4-dc0c0c07398f --output json | jq .state")]
pub struct GetArgs {
    /// The task's id, or its last digits.
    pub id: String,
    /// Where Jaeger's pages are, to print the address of the task's trace.
    #[arg(long, value_name = "URL", env = "CALLBOARD_JAEGER_URL")]
    pub jaeger: Option<String>,
}

/// The arguments of `watch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard watch 0c07398f
  callboard watch 0c07398f --from-start --output json")]
pub struct WatchArgs {
    /// The task's id, or its last digits.
    pub id: String,
    /// Begin with the events that have happened already.
    #[arg(long)]
    pub from_start: bool,
}

/// The arguments of `wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard wait 0c07398f
  callboard wait 0c07398f --timeout 30s || echo \"exit code $?\"")]
pub struct WaitArgs {
    /// The task's id, or its last digits.
    pub id: String,
    /// Stop waiting after this span. The task goes on.
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    pub timeout: Option<Duration>,
}

/// The arguments of `cancel`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard cancel 0c07398f")]
pub struct CancelArgs {
    /// The task's id, or its last digits.
    pub id: String,
}

/// The arguments of `retry`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard retry 0c07398f
  callboard retry 0c07398f --wait")]
pub struct RetryArgs {
    /// The id of a task that has ended, or its last digits.
    pub id: String,
    /// Wait until the new task ends, and print its result.
    #[arg(long, short)]
    pub wait: bool,
}

/// The arguments of `result`.
#[derive(Debug, Args)]
#[command(override_usage = "callboard result <ID> [--output FILE]")]
#[command(after_help = "\
Examples:
  callboard result 0c07398f
  callboard result 0c07398f --output result.json
  callboard result 0c07398f | jq -r .text")]
pub struct ResultArgs {
    /// The task's id, or its last digits.
    pub id: String,
}

/// The arguments of `artifact`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard artifact get sha256:9f86d0..0f00a08 --output banner.png")]
pub struct ArtifactArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ArtifactCommand,
}

/// What to do with artifacts.
#[derive(Debug, Subcommand)]
pub enum ArtifactCommand {
    /// Read one artifact, to a file or to standard output.
    Get(ArtifactGetArgs),
}

/// The arguments of `artifact get`.
#[derive(Debug, Args)]
#[command(override_usage = "callboard artifact get <DIGEST> [--output FILE]")]
#[command(after_help = "\
Examples:
  callboard artifact get sha256:9f86d0..0f00a08 --output banner.png
  callboard artifact get sha256:9f86d0..0f00a08 > banner.png

A task's result holds the digests of its artifacts. Binary data is not written to
a terminal.")]
pub struct ArtifactGetArgs {
    /// The artifact's digest: sha256: and 64 hexadecimal digits.
    pub digest: String,
}

/// The arguments of `events`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callboard events 0c07398f
  callboard events 0c07398f --output json | jq '.events[].type'")]
pub struct EventsArgs {
    /// The task's id, or its last digits.
    pub id: String,
}
