//! Where observations come from on a node, and how they get to the actor.

use callboard_contracts::mesh::v1::ReportRequest;
use callboard_domain::alert::Observation;
use callboard_domain::convert::observation_to_proto;
use callboard_domain::{Event, State, Timestamp};
use callboard_ports::Store;
use callboard_ports::store::{Commit, CommitObserver};
use callboard_runtime::mesh::{AlertClient, Error};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many observations wait. Beyond, they are dropped: an alert is about the first, and counts are
/// allowed to fall short under a storm.
const WAITING: usize = 1_024;
const DEADLINE: Duration = Duration::from_secs(10);
/// How often what the actor may have taken is brought again.
const DOUBTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Takes observations from anywhere on the node. Never blocks.
#[derive(Clone)]
pub struct Reporter {
    sender: mpsc::Sender<Observation>,
}

impl Reporter {
    /// A reporter, and what [`report_loop`] reads from.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Observation>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, receiver)
    }

    /// Passes an observation on.
    pub fn report(&self, seen: Observation) {
        if self.sender.try_send(seen).is_err() {
            tracing::debug!("an observation was dropped: too many wait");
        }
    }
}

/// Brings observations to the Alert actor, in batches, until every [`Reporter`] is gone. What the actor certainly
/// did not take is brought again, and a few times what it may have taken: an alert that counts something twice
/// is better than none.
pub async fn report_loop(mut seen: mpsc::Receiver<Observation>, alerts: AlertClient) {
    let mut batch = Vec::new();
    while seen.recv_many(&mut batch, 1_000).await > 0 {
        let observations: Vec<_> = batch.drain(..).map(|o| observation_to_proto(&o)).collect();
        let mut doubtful = 0;
        loop {
            let request = ReportRequest { context: None, observations: observations.clone() };
            match alerts.report(request, DEADLINE).await {
                Err(Error::DidNotRun(_)) => tokio::time::sleep(PAUSE).await,
                Err(Error::MayHaveRun(_)) if doubtful < DOUBTS => {
                    doubtful += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot report to the alert actor");
                    break;
                }
                Ok(_) => break,
            }
        }
    }
}

/// Sees tasks that fail for good among the store's commits.
pub struct TaskFailures {
    sender: mpsc::Sender<Event>,
}

impl TaskFailures {
    /// An observer, and what [`failures_loop`] reads from.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, receiver)
    }
}

impl CommitObserver for TaskFailures {
    fn committed(&self, commit: &Commit) {
        for event in &commit.events {
            // Under a storm of failures the alert is about the first of them.
            if event.state == State::Failed && self.sender.try_send(event.clone()).is_err() {
                tracing::debug!("a failed task was not counted: too many wait");
            }
        }
    }
}

/// Reports tasks that failed for good: one observation a kind and batch.
pub async fn failures_loop(mut failed: mpsc::Receiver<Event>, store: Arc<dyn Store>, reporter: Reporter) {
    let mut batch = Vec::new();
    while failed.recv_many(&mut batch, 1_000).await > 0 {
        // Events do not name the kind.
        let tasks = match store.get(batch.iter().map(|event| event.task_id).collect()).await {
            Ok(tasks) => tasks,
            Err(error) => {
                tracing::warn!(%error, "cannot read failed tasks");
                Vec::new()
            }
        };
        let mut by_kind: HashMap<Arc<str>, Observation> = HashMap::new();
        for task in tasks {
            let error = task.error.map(|e| format!("{}: {}", e.reason, e.message)).unwrap_or_default();
            let seen = by_kind.entry(Arc::clone(&task.spec.kind)).or_insert_with(|| Observation {
                rule: "task_failed".into(),
                subject: task.spec.kind.to_string(),
                message: String::new(),
                firing: true,
                at: Timestamp::default(),
                count: 0,
            });
            seen.count += 1;
            seen.at = seen.at.max(task.finished_at.unwrap_or_default());
            seen.message = format!("task {} failed for good: {error}", task.spec.id);
        }
        by_kind.into_values().for_each(|seen| reporter.report(seen));
        batch.clear();
    }
}
