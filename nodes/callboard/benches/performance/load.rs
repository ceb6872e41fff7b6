//! The load: the same calls for every system that is measured.

use crate::Result;
use callboard_client::v1;
use callboard_client::v1::task_service_client::TaskServiceClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 4;
/// Calls in flight where each task is one call.
pub(crate) const IN_FLIGHT: usize = 64;
/// Tasks of one batch.
pub(crate) const BATCH: usize = 500;
/// Bytes of a task's input.
pub(crate) const INPUT: usize = 256;

/// How tasks are submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Each is one call, [`IN_FLIGHT`] at once.
    OneByOne,
    /// [`BATCH`] in a call, one in flight on each connection.
    Batched,
}

pub(crate) fn request() -> v1::SubmitTaskRequest {
    let text = "x".repeat(INPUT - r#"{"text":""}"#.len());
    v1::SubmitTaskRequest {
        kind: "echo".into(),
        input: format!(r#"{{"text":"{text}"}}"#).into(),
        request_id: callboard_client::new_request_id(),
        ..Default::default()
    }
}

/// The connections, spread over the addresses.
pub(crate) async fn connect(endpoints: &[Endpoint]) -> Result<Vec<Channel>> {
    let connect = (0..CONNECTIONS).map(|n| endpoints[n % endpoints.len()].connect());
    Ok(futures::future::try_join_all(connect).await?)
}

/// Submits so many tasks and returns once all are acknowledged.
pub(crate) async fn submit(channels: &[Channel], way: Way, tasks: usize) -> Result<()> {
    submit_to("default", channels, way, tasks).await
}

/// The same, to a queue.
pub(crate) async fn submit_to(
    queue: &'static str,
    channels: &[Channel],
    way: Way,
    tasks: usize,
) -> Result<()> {
    let request = move || v1::SubmitTaskRequest { queue: queue.into(), ..request() };
    let (lines, calls) = match way {
        Way::OneByOne => (IN_FLIGHT, tasks),
        Way::Batched => (CONNECTIONS, tasks / BATCH),
    };
    let left = Arc::new(AtomicUsize::new(calls));
    let mut load = JoinSet::new();
    for i in 0..lines {
        let mut client = TaskServiceClient::new(channels[i % channels.len()].clone());
        let left = Arc::clone(&left);
        load.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                match way {
                    Way::OneByOne => _ = client.submit_task(request()).await?,
                    Way::Batched => batch(&mut client, request).await?,
                }
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(done) = load.join_next().await {
        done??;
    }
    Ok(())
}

async fn batch(
    client: &mut TaskServiceClient<Channel>,
    request: impl Fn() -> v1::SubmitTaskRequest,
) -> std::result::Result<(), tonic::Status> {
    let requests = (0..BATCH).map(|_| request()).collect();
    let answer = client.batch_submit_tasks(v1::BatchSubmitTasksRequest { requests }).await?;
    for outcome in answer.into_inner().outcomes {
        if let Some(v1::batch_submit_tasks_outcome::Outcome::Error(error)) = outcome.outcome {
            return Err(tonic::Status::internal(error.message));
        }
    }
    Ok(())
}

/// Submits 50 tasks a second, and returns their ids and when each was called for.
pub(crate) async fn slowly(channel: &Channel, span: Duration) -> Result<Vec<(String, Duration)>> {
    let mut client = TaskServiceClient::new(channel.clone());
    let mut every = tokio::time::interval(Duration::from_millis(20));
    let mut sent = Vec::new();
    let began = std::time::Instant::now();
    while began.elapsed() < span {
        every.tick().await;
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let task = client.submit_task(request()).await?.into_inner().task.ok_or("no task")?;
        sent.push((task.id, at));
    }
    Ok(sent)
}

/// When a task's handler started.
pub(crate) async fn started(client: &mut TaskServiceClient<Channel>, id: String) -> Result<Duration> {
    let task =
        client.get_task(v1::GetTaskRequest { id, view: 0 }).await?.into_inner().task.ok_or("no task")?;
    let started = task.started_at.ok_or("a task did not start")?;
    Ok(Duration::new(u64::try_from(started.seconds)?, u32::try_from(started.nanos)?))
}
