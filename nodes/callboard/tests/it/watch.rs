//! Watches: the task first, every event once and in order, the task last; and no watcher costs the store
//! anything while nothing happens.

use crate::node::{DEADLINE, InProcess, UpProcess, callboard, request, scripted};
use callboard_contracts::v1::task_service_client::TaskServiceClient;
use callboard_contracts::v1::{
    Task, TaskEvent, TaskEventType, TaskState, WatchTaskRequest, WatchTaskResponse,
};
use futures::{FutureExt, future};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

/// A kind that reports progress for each permit it gets, and ends at the tenth.
fn steps() -> (impl callboard_sdk::Handler, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&permits);
    let handler = scripted("steps", move |ctx, input| {
        let gate = Arc::clone(&gate);
        async move {
            for step in 1..=10 {
                gate.acquire().await.unwrap().forget();
                ctx.progress(step * 10, format!("step {step}"));
            }
            Ok(input)
        }
        .boxed()
    });
    (handler, permits)
}

async fn with_steps() -> (InProcess, Arc<Semaphore>) {
    let (steps, permits) = steps();
    let node = InProcess::builder()
        .kinds(|kinds| kinds.with_handler(steps).unwrap())
        .config(|config| config.node.drain_grace = Duration::from_millis(50));
    (node.start().await, permits)
}

/// The service itself: the client library would hide a double and mend a gap.
async fn service(node: &InProcess) -> TaskServiceClient<Channel> {
    TaskServiceClient::connect(format!("http://{}", node.running.public)).await.unwrap()
}

async fn watch(
    service: &TaskServiceClient<Channel>,
    id: &str,
    after_seq: Option<u64>,
) -> Streaming<WatchTaskResponse> {
    let request = WatchTaskRequest { id: id.into(), after_seq };
    service.clone().watch_task(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<WatchTaskResponse>) -> Option<WatchTaskResponse> {
    tokio::time::timeout(DEADLINE, stream.message()).await.unwrap().unwrap()
}

async fn next_task(stream: &mut Streaming<WatchTaskResponse>) -> Task {
    let message = next(stream).await.unwrap();
    assert_eq!(message.event, None);
    message.task.unwrap()
}

async fn next_event(stream: &mut Streaming<WatchTaskResponse>) -> TaskEvent {
    let message = next(stream).await.unwrap();
    assert_eq!(message.task, None);
    message.event.unwrap()
}

/// What is left of a watch: events, then the task as it ended.
async fn rest(stream: &mut Streaming<WatchTaskResponse>) -> (Vec<TaskEvent>, Task) {
    let mut events = Vec::new();
    loop {
        match next(stream).await.unwrap() {
            WatchTaskResponse { event: Some(event), task: None } => events.push(event),
            WatchTaskResponse { event: None, task: Some(task) } => {
                assert_eq!(next(stream).await, None, "the task as it ended is the last message");
                return (events, task);
            }
            other => unreachable!("{other:?}"),
        }
    }
}

fn seqs(events: &[TaskEvent]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_starts_with_the_task_and_misses_nothing() {
    let (node, permits) = with_steps().await;
    let service = service(&node).await;
    let task = node.submit("steps", "{}").await;
    let mut from_start = watch(&service, &task.id, Some(0)).await;
    next_task(&mut from_start).await;
    permits.add_permits(3);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|e: &TaskEvent| e.progress.as_ref().is_none_or(|p| p.percent < 30)) {
        seen.push(next_event(&mut from_start).await);
    }
    // One that joins in the middle, by the end of the id, and one that has seen the first two before.
    let mut joined = watch(&service, &task.id[20..], None).await;
    let at = next_task(&mut joined).await;
    assert_eq!((at.state(), at.last_seq), (TaskState::Running, seen.last().unwrap().seq));
    let mut resumed = watch(&service, &task.id, Some(2)).await;
    next_task(&mut resumed).await;
    permits.add_permits(7);
    let (events, ended) = rest(&mut from_start).await;
    seen.extend(events);

    let stored = node.events(&task.id).await;
    assert_eq!(seen, stored);
    assert_eq!(seqs(&seen), (1..=ended.last_seq).collect::<Vec<_>>());
    assert_eq!(seen.last().unwrap().r#type(), TaskEventType::Succeeded);
    let after = |seq| stored.iter().filter(|e| e.seq > seq).cloned().collect::<Vec<_>>();
    assert_eq!(rest(&mut joined).await, (after(at.last_seq), ended.clone()));
    assert_eq!(rest(&mut resumed).await, (after(2), ended.clone()));
    assert_eq!(ended, node.client.get(&task.id, false).await.unwrap());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_has_ended_can_be_watched_too() {
    let node = InProcess::start().await;
    let service = service(&node).await;
    let done = node.run("echo", "{}").await;
    let stored = node.events(&done.id).await;
    for (after_seq, events) in [
        (None, &[][..]),
        (Some(0), &stored[..]),
        (Some(1), &stored[1..]),
        (Some(done.last_seq), &[]),
        (Some(done.last_seq + 100), &[]),
    ] {
        let mut stream = watch(&service, &done.id, after_seq).await;
        let first = next_task(&mut stream).await;
        let (seen, last) = rest(&mut stream).await;
        assert_eq!((&seen[..], &last), (events, &first), "{after_seq:?}");
        assert_eq!(last.state(), TaskState::Succeeded);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_watchers_see_the_same_and_cost_the_store_nothing() {
    const WATCHERS: u64 = 100;
    const WINDOW: Duration = Duration::from_secs(2);
    let (node, permits) = with_steps().await;
    let service = service(&node).await;
    let task = node.submit("steps", "{}").await;
    node.reaches(&task.id, TaskState::Running).await;
    let reads = || node.running.store_stats().unwrap().reads;

    // What the node reads by itself. The windows are what is measured, not a wait for something.
    let before = reads();
    tokio::time::sleep(WINDOW).await;
    let alone = reads() - before;

    let watches = (0..WATCHERS).map(|_| watch(&service, &task.id, Some(0)));
    let mut watches = future::join_all(watches).await;
    for stream in &mut watches {
        next_task(stream).await;
        while next_event(stream).await.r#type() != TaskEventType::Started {}
    }
    let before = reads();
    tokio::time::sleep(WINDOW).await;
    let idle = reads() - before;
    assert!(idle <= alone + 5, "{idle} reads with {WATCHERS} idle watchers, {alone} with none");

    // Events reach them without a read, too.
    let before = reads();
    for step in 1..=9 {
        permits.add_permits(1);
        for stream in &mut watches {
            assert_eq!(next_event(stream).await.progress.unwrap().percent, step * 10);
        }
    }
    let told = reads() - before;
    assert!(told <= alone + 5, "{told} reads for 9 events to {WATCHERS} watchers, {alone} while idle");

    // Each reads the task once, as it ended.
    permits.add_permits(1);
    let mut rests = JoinSet::new();
    for mut stream in watches {
        rests.spawn(async move { rest(&mut stream).await });
    }
    let rests: BTreeSet<_> = rests.join_all().await.iter().map(|rest| format!("{rest:?}")).collect();
    assert_eq!(rests.len(), 1, "{rests:?}");
    let total = reads() - before;
    assert!(total <= WATCHERS + 2 * alone + 10, "{total}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_tells_watchers_where_to_go_on() {
    let (node, _permits) = with_steps().await;
    let service = service(&node).await;
    let task = node.submit("steps", "{}").await;
    node.reaches(&task.id, TaskState::Running).await;
    let mut stream = watch(&service, &task.id, None).await;
    next_task(&mut stream).await;
    let told = async {
        loop {
            if let Err(status) = stream.message().await {
                return callboard_client::Error::from(status);
            }
        }
    };
    let (next, told) = tokio::time::timeout(DEADLINE, future::join(node.stop(), told)).await.unwrap();
    assert_eq!((told.code, told.reason.as_str()), (callboard_client::Code::Unavailable, "DRAINING"));
    assert!(told.retry_after.is_some());
    // What ran was given back, and the next node takes it up.
    let (steps, permits) = steps();
    permits.add_permits(10);
    let node = next.kinds(|kinds| kinds.with_handler(steps).unwrap()).start().await;
    let done = node.wait(&task.id).await;
    assert_eq!((done.state(), done.attempt, done.failures, done.lost), (TaskState::Succeeded, 2, 0, 0));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_watches_a_campaign_from_its_start_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let slow = [("CALLBOARD_BROKER__OFFLINE_LATENCY", "400ms")];
    let node = UpProcess::start(&folder.path().join("data"), &[], &slow).await;
    let brief = r#"{"product":"a tea that tells the time","audience":"people who are late"}"#;
    let task = node.client.submit(request("campaign.generate", brief)).await.unwrap().task;
    let watching = async { node.cli(&["watch", &task.id, "--from-start", "--output", "json"]).await };
    let watched = watching.await;
    assert_eq!(watched.code, 0, "{watched:?}");
    let lines = watched.json_lines();
    assert!(lines[0]["task"]["state"] == "running" || lines[0]["task"]["state"] == "queued", "{watched:?}");
    assert_eq!(lines.last().unwrap()["task"]["state"], "succeeded");
    let seen: Vec<_> = lines.iter().filter_map(|line| line.get("event")).collect();
    assert_eq!(seen.len() + 2, lines.len());

    let address = node.api.to_string();
    let listed = callboard(&["events", &task.id, "--output", "json"], &[("CALLBOARD_ADDR", &address)]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let listed: Vec<_> = listed["events"].as_array().unwrap().iter().collect();
    assert_eq!(seen, listed);
    assert!(seen.iter().zip(1..).all(|(event, seq)| event["seq"] == seq));
    let percents: Vec<_> = seen.iter().filter_map(|e| e["progress"]["percent"].as_u64()).collect();
    assert!(percents.is_sorted() && percents.last() == Some(&100) && percents.len() >= 3, "{percents:?}");
    assert!(node.terminate().await.success());
}
