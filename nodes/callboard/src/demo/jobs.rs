//! What the demo submits, and how it follows it.

use super::screen::Screen;
use anyhow::Context as _;
use callboard_client::{Client, Error, Update, is_terminal, v1};
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;
use tokio::sync::watch;

const CAMPAIGN: &str = include_str!("../../../../examples/campaign.json");
const POLICY: &str = include_str!("../../../../examples/return-policy.json");
/// How often the batch is counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);

const THINGS: [&str; 10] = [
    "umbrella",
    "teapot",
    "bicycle bell",
    "desk lamp",
    "notebook",
    "rain coat",
    "hammock",
    "kettle",
    "compass",
    "scarf",
];

/// The tasks of the demo.
pub(super) struct Jobs {
    pub(super) campaign: String,
    pub(super) policy: String,
    batch: usize,
    /// How far the campaign has come.
    percent: watch::Sender<u64>,
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

/// Submits the small texts.
pub(super) async fn submit_batch(client: &Client, size: u32) -> anyhow::Result<usize> {
    let text = |n: u32| {
        let thing = THINGS[n as usize % THINGS.len()];
        let prompt = format!("One line to sell a {thing}, number {n} of a series.");
        request("text.generate", serde_json::json!({ "prompt": prompt }).to_string(), 5)
    };
    let texts: Vec<_> = (1..=size).map(text).collect();
    for chunk in texts.chunks(500) {
        for outcome in client.submit_batch(chunk.to_vec()).await? {
            outcome?;
        }
    }
    Ok(texts.len())
}

/// Shows the batch run, until `share` of `total` tasks has ended.
pub(super) async fn count(client: &Client, screen: &Screen, total: usize, share: f64) -> anyhow::Result<()> {
    loop {
        let counts = client.cluster().await?.tasks.context("the node counts no tasks")?;
        let done = usize::try_from(counts.succeeded + counts.failed + counts.cancelled)?;
        let waiting = counts.queued + counts.scheduled;
        screen.batch(done, &format!("{} run, {waiting} wait", counts.running));
        #[expect(clippy::cast_precision_loss, reason = "a share of some thousand")]
        if done as f64 >= share * total as f64 {
            return Ok(());
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

impl Jobs {
    /// Submits the two large tasks, before everything that waits.
    pub(super) async fn submit(client: &Client, batch: usize) -> anyhow::Result<Self> {
        let campaign = client.submit(request("campaign.generate", CAMPAIGN, 9)).await?.task.id;
        let policy = client.submit(request("policy.analyze", POLICY, 9)).await?.task.id;
        Ok(Self { campaign, policy, batch, percent: watch::channel(0).0 })
    }

    /// Shows the large tasks run to their ends, also across a restart of the node.
    pub(super) async fn follow(&self, client: &Client, screen: &Screen) -> anyhow::Result<()> {
        let campaign = follow_one(client, &self.campaign, |percent, text| {
            screen.campaign(percent, text);
            self.percent.send_replace(percent);
        });
        let policy = follow_one(client, &self.policy, |percent, text| screen.policy(percent, text));
        futures::try_join!(campaign, policy)?;
        Ok(())
    }

    /// Waits until the campaign has come so far.
    pub(super) async fn campaign_reaches(&self, percent: u64) {
        // The sender is ours, so the wait ends only with what it waits for.
        let _ = self.percent.subscribe().wait_for(|now| *now >= percent).await;
    }

    /// Shows the batch run to its end.
    pub(super) async fn count_all(&self, client: &Client, screen: &Screen) -> anyhow::Result<()> {
        count(client, screen, self.batch + 2, 1.0).await
    }

    pub(super) async fn outcome(&self, client: &Client) -> anyhow::Result<Outcome> {
        let mut tasks: Vec<v1::Task> =
            client.list_all(v1::TaskFilter::default()).boxed().try_collect().await?;
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
