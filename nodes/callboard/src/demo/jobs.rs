//! What the demo submits, and how it follows it.

use super::screen::Screen;
use anyhow::Context as _;
use callboard_client::{Client, Error, Update, is_terminal, v1};
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;

const CAMPAIGN: &str = include_str!("../../../../examples/campaign.json");
const POLICY: &str = include_str!("../../../../examples/return-policy.json");
/// How often the batch is counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);

const THINGS: [&str; 10] =
    ["umbrella", "teapot", "bicycle bell", "desk lamp", "notebook", "rain coat", "hammock", "kettle", "compass", "scarf"];

/// The tasks of the demo.
pub(super) struct Jobs {
    pub(super) campaign: String,
    pub(super) policy: String,
    batch: usize,
}

/// How the tasks came out.
pub(super) struct Outcome {
    pub(super) campaign: v1::Task,
    pub(super) policy: v1::Task,
    /// Every task, oldest first.
    pub(super) tasks: Vec<v1::Task>,
}

fn request(kind: &str, input: impl Into<bytes::Bytes>, priority: u32) -> v1::SubmitTaskRequest {
    v1::SubmitTaskRequest {
        kind: kind.into(),
        input: input.into(),
        priority: Some(priority),
        ..Default::default()
    }
}

impl Jobs {
    pub(super) async fn submit(client: &Client, batch: u32) -> anyhow::Result<Self> {
        let texts = (1..=batch).map(|n| {
            let thing = THINGS[n as usize % THINGS.len()];
            let prompt = format!("One line to sell a {thing}, number {n} of a series.");
            request("text.generate", serde_json::json!({ "prompt": prompt }).to_string(), 5)
        });
        let texts: Vec<_> = texts.collect();
        for chunk in texts.chunks(500) {
            for outcome in client.submit_batch(chunk.to_vec()).await? {
                outcome?;
            }
        }
        let campaign = client.submit(request("campaign.generate", CAMPAIGN, 9)).await?.task.id;
        let policy = client.submit(request("policy.analyze", POLICY, 9)).await?.task.id;
        Ok(Self { campaign, policy, batch: texts.len() })
    }

    /// Shows the tasks run, until `share` of the batch is done; with 1.0, until everything is.
    pub(super) async fn follow(&self, client: &Client, screen: &Screen, share: f64) -> anyhow::Result<()> {
        let campaign = follow_one(client, &self.campaign, |percent, text| screen.campaign(percent, text));
        let policy = follow_one(client, &self.policy, |percent, text| screen.policy(percent, text));
        let whole = share >= 1.0;
        let batch = self.count(client, screen, share);
        if whole {
            futures::try_join!(campaign, policy, batch)?;
            return Ok(());
        }
        tokio::select! {
            done = batch => done,
            failed = async { futures::future::try_join(campaign, policy).await.err() } => match failed {
                Some(error) => Err(error),
                None => self.count(client, screen, share).await,
            },
        }
    }

    async fn count(&self, client: &Client, screen: &Screen, share: f64) -> anyhow::Result<()> {
        let total = self.batch + 2;
        loop {
            let counts = client.cluster().await?.tasks.context("the node counts no tasks")?;
            let done = usize::try_from(counts.succeeded + counts.failed + counts.cancelled)?;
            // The two large ones are counted too; the bar is about the batch.
            screen.batch(done.min(self.batch), &format!("{} run, {} wait", counts.running, counts.queued + counts.scheduled));
            #[expect(clippy::cast_precision_loss, reason = "a share of some thousand")]
            if done >= total || (share < 1.0 && done as f64 >= share * total as f64) {
                return Ok(());
            }
            tokio::time::sleep(COUNT_EVERY).await;
        }
    }

    pub(super) async fn outcome(&self, client: &Client) -> anyhow::Result<Outcome> {
        let mut tasks: Vec<v1::Task> = client.list_all(v1::TaskFilter::default()).boxed().try_collect().await?;
        tasks.reverse();
        anyhow::ensure!(
            tasks.len() == self.batch + 2,
            "{} tasks were acknowledged, the node has {}",
            self.batch + 2,
            tasks.len()
        );
        if let Some(task) = tasks.iter().find(|t| t.state() != v1::TaskState::Succeeded) {
            let error = task.error.clone().unwrap_or_default();
            anyhow::bail!("task {} did not succeed: {} {}", task.id, error.reason, error.message);
        }
        let campaign = client.get(&self.campaign, true).await?;
        let policy = client.get(&self.policy, true).await?;
        Ok(Outcome { campaign, policy, tasks })
    }
}

/// Watches one task to its end, across a restart of the node.
async fn follow_one(client: &Client, id: &str, mut show: impl FnMut(u64, &str)) -> anyhow::Result<()> {
    let mut updates = client.watch(id, Some(0));
    while let Some(update) = updates.next().await {
        match update? {
            Update::Event(event) => match (&event.progress, event.r#type()) {
                (Some(progress), _) => show(u64::from(progress.percent), &progress.message),
                (None, v1::TaskEventType::Lost) => show(0, "interrupted, waits to run again"),
                (None, v1::TaskEventType::Claimed) => show(0, &format!("attempt {}", event.attempt)),
                _ => {}
            },
            Update::Task(task) if is_terminal(task.state()) => {
                show(100, &format!("{} on attempt {}", state(&task), task.attempt));
            }
            Update::Task(_) => {}
            Update::Interrupted(Error { .. }) => show(0, "the node is gone"),
        }
    }
    Ok(())
}

fn state(task: &v1::Task) -> &'static str {
    match task.state() {
        v1::TaskState::Succeeded => "succeeded",
        v1::TaskState::Failed => "failed",
        _ => "ended",
    }
}
