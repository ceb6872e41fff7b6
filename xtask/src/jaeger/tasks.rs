//! The campaigns: submitted and looked at by the command line, as a person would.

use crate::shell;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const KIND: &str = "campaign.generate";
/// How long tasks may take, in all.
const END_WITHIN: Duration = Duration::from_secs(60);

/// `callboard`, told which replicas there are.
pub(super) struct Cli {
    pub(super) binary: PathBuf,
    /// With commas between them; the first is asked.
    pub(super) addresses: String,
}

/// A task as `callboard get` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) state: String,
    /// The replica that runs it, or ran it.
    pub(super) node: String,
    pub(super) attempt: u64,
    /// The id of its trace.
    pub(super) trace: String,
}

impl Task {
    fn read(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json).context("callboard printed no JSON")?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let traceparent = text("traceparent");
        let trace = traceparent.split('-').nth(1).with_context(|| format!("no trace in `{traceparent}`"))?;
        Ok(Self {
            id: text("id"),
            state: text("state"),
            node: text("node"),
            attempt: value["attempt"].as_u64().unwrap_or_default(),
            trace: trace.to_owned(),
        })
    }

    fn has_ended(&self) -> bool {
        ["succeeded", "failed", "cancelled"].contains(&self.state.as_str())
    }
}

impl Cli {
    /// Submits a campaign by a call of its own.
    ///
    /// # Errors
    /// It is refused, or no replica answers.
    pub(super) fn submit(&self, brief: &Path) -> Result<Task> {
        let input = format!("@{}", brief.display());
        Task::read(&self.say(&["submit", KIND, "--input", &input])?)
    }

    /// Submits campaigns in one call: a line of the file each. Returns their ids.
    ///
    /// # Errors
    /// One is refused, or no replica answers.
    pub(super) fn submit_batch(&self, file: &Path) -> Result<Vec<String>> {
        let said = self.say(&["submit", KIND, "--batch", &file.display().to_string()])?;
        said.lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).context("callboard printed no JSON")?;
                Ok(line["id"].as_str().with_context(|| format!("refused: {line}"))?.to_owned())
            })
            .collect()
    }

    /// Waits until the replica that is asked reaches so many, itself among them: one that has just started calls no
    /// model on another yet, and a task's attempt on it fails.
    ///
    /// # Errors
    /// It does not answer, or not in time.
    pub(super) fn joined(&self, replicas: usize) -> Result<()> {
        let until = Instant::now() + END_WITHIN;
        loop {
            let reached = reached(&self.say(&["nodes"])?)?;
            if reached == replicas {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{} reaches {reached} of {replicas} replicas", self.addresses);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A task as it is now.
    ///
    /// # Errors
    /// No replica answers.
    pub(super) fn get(&self, id: &str) -> Result<Task> {
        Task::read(&self.say(&["get", id])?)
    }

    /// Waits until a task has succeeded.
    ///
    /// # Errors
    /// It ends otherwise, or not in time.
    pub(super) fn end(&self, id: &str) -> Result<Task> {
        let until = Instant::now() + END_WITHIN;
        loop {
            let task = self.get(id)?;
            if task.state == "succeeded" {
                return Ok(task);
            }
            if task.has_ended() || Instant::now() > until {
                bail!(
                    "task {id} should have succeeded, and is {} after attempt {}",
                    task.state,
                    task.attempt
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first of these tasks that runs on a replica, as soon as one does. None if all end before.
    ///
    /// # Errors
    /// No replica answers, or they do not end in time.
    pub(super) fn running_on(&self, replica: &str, ids: &[String]) -> Result<Option<String>> {
        let until = Instant::now() + END_WITHIN;
        loop {
            let mut all_ended = true;
            for id in ids {
                let task = self.get(id)?;
                if task.state == "running" && task.node == replica {
                    return Ok(Some(task.id));
                }
                all_ended &= task.has_ended();
            }
            if all_ended {
                return Ok(None);
            }
            if Instant::now() > until {
                bail!("tasks have not ended after {} s", END_WITHIN.as_secs());
            }
        }
    }

    fn say(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(args).args(["--addr", &self.addresses, "--output", "json"]);
        shell::read(command)
    }
}

/// How many of the nodes that `callboard nodes` shows could be reached.
fn reached(json: &str) -> Result<usize> {
    let value: Value = serde_json::from_str(json).context("callboard printed no JSON")?;
    let nodes = value["nodes"].as_array().context("callboard printed no nodes")?;
    Ok(nodes.iter().filter(|node| node["unreachable"].as_str().is_none_or(str::is_empty)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_do_not_answer_are_not_reached() {
        let json = r#"{"nodes": [{"name": "a"}, {"name": "b", "unreachable": null}, {"name": "c", "unreachable": "no"}]}"#;
        assert_eq!(reached(json).unwrap(), 2);
        assert!(reached("{}").is_err());
    }

    #[test]
    fn a_task_is_read_as_the_command_line_prints_it() {
        let task = Task::read(
            r#"{"id": "01a2", "state": "running", "attempt": 2, "node": "b",
                "traceparent": "00-135a0589c3212f2b3037b2b1f0a2364a-456b215dbd29f3dc-01", "result": null}"#,
        )
        .unwrap();
        assert_eq!((task.node.as_str(), task.attempt), ("b", 2));
        assert_eq!(task.trace, "135a0589c3212f2b3037b2b1f0a2364a");
        assert!(!task.has_ended());
        // Of a task that nobody has taken.
        let queued =
            r#"{"id": "01a2", "state": "queued", "attempt": 0, "node": null, "traceparent": "00-1-2-01"}"#;
        assert_eq!(Task::read(queued).unwrap().node, "");
        assert!(Task::read("{}").is_err() && Task::read("nothing").is_err());
    }
}
