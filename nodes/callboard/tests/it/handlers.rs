//! Handlers that go wrong, and what their node makes of it: the attempt ends, the slot returns, the others
//! are not touched.

use crate::node::{InProcess, eventually, request, scripted, submit_all};
use callboard_client::v1::{self, TaskEventType, TaskState};
use futures::FutureExt;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn once(request: v1::SubmitTaskRequest, timeout: Duration) -> v1::SubmitTaskRequest {
    let timeout = Some(prost_types::Duration::try_from(timeout).unwrap());
    v1::SubmitTaskRequest { max_attempts: Some(1), timeout, ..request }
}

fn reason(task: &v1::Task) -> &str {
    task.error.as_ref().map_or("", |error| error.reason.as_str())
}

async fn slots_used(node: &InProcess) -> u32 {
    node.client.nodes().await.unwrap()[0].slots_used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_over_a_mebibyte_fails_its_task_and_no_other() {
    let large = scripted("large", |_, input| {
        async move {
            let wish: serde_json::Value = serde_json::from_slice(&input).unwrap();
            let bytes = usize::try_from(wish["bytes"].as_u64().unwrap()).unwrap();
            Ok(format!("\"{}\"", "x".repeat(bytes - 2)).into())
        }
        .boxed()
    });
    let node = InProcess::builder().kinds(|kinds| kinds.with_handler(large).unwrap()).start().await;
    let sizes = [(1 << 20) + 1, 1 << 20, 100, 3 << 20, 100];
    let requests = sizes.iter().map(|bytes| request("large", format!("{{\"bytes\":{bytes}}}"))).collect();
    for (task, size) in submit_all(&node.client, requests).await.into_iter().zip(sizes) {
        let task = node.wait(&task.id).await;
        if size > 1 << 20 {
            assert_eq!((task.state(), reason(&task)), (TaskState::Failed, "RESULT_TOO_LARGE"), "{task:?}");
            // It would be as large again.
            assert_eq!((task.attempt, task.result.len()), (1, 0));
        } else {
            assert_eq!((task.state(), task.result.len()), (TaskState::Succeeded, size));
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_failed_attempt_that_is_tried_again() {
    let node = InProcess::builder().config(|config| config.worker.slots = 1).start().await;
    let panics_once = node.submit("echo", r#"{"panic_times":1}"#).await;
    let panics = once(request("echo", r#"{"panic":true}"#), Duration::from_secs(5));
    let panics = node.client.submit(panics).await.unwrap().task;
    let sibling = node.submit("echo", r#"{"a":1}"#).await;

    // One slot: each runs in the slot of the one before it.
    let panics = node.wait(&panics.id).await;
    assert_eq!((panics.state(), reason(&panics), panics.failures), (TaskState::Failed, "PANIC", 1));
    assert!(panics.error.unwrap().message.contains("panicked as asked"));
    assert_eq!(node.wait(&sibling.id).await.result, r#"{"a":1}"#);
    let panics_once = node.wait(&panics_once.id).await;
    assert_eq!((panics_once.state(), panics_once.attempt), (TaskState::Succeeded, 2));
    let failed: Vec<_> = node.events(&panics_once.id).await;
    let failed: Vec<_> = failed.iter().filter(|e| e.r#type() == TaskEventType::AttemptFailed).collect();
    assert_eq!((failed.len(), failed[0].error.as_ref().unwrap().reason.as_str()), (1, "PANIC"));
    eventually("no slot taken", async || (slots_used(&node).await == 0).then_some(())).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_hangs_ends_at_its_timeout_and_gives_its_slot_back() {
    let hang = scripted("hang", |_, _| futures::future::pending().boxed());
    let node = InProcess::builder()
        .kinds(|kinds| kinds.with_handler(hang).unwrap())
        .config(|config| config.worker.slots = 1)
        .start()
        .await;
    let timeout = Duration::from_millis(200);
    let hangs = node.client.submit(once(request("hang", "{}"), timeout)).await.unwrap().task;
    let waits = node.submit("echo", r#"{"a":1}"#).await;
    let hangs = node.wait(&hangs.id).await;
    assert_eq!((hangs.state(), reason(&hangs)), (TaskState::Failed, "TIMEOUT"));
    let at = |at: Option<prost_types::Timestamp>| std::time::SystemTime::try_from(at.unwrap()).unwrap();
    let took = at(hangs.finished_at).duration_since(at(hangs.started_at)).unwrap();
    assert!(took >= timeout && took < 10 * timeout, "{took:?}");
    assert_eq!(node.wait(&waits.id).await.state(), TaskState::Succeeded);
    eventually("no slot taken", async || (slots_used(&node).await == 0).then_some(())).await;
    node.stop().await;
}

/// A handler must not block its thread. One that does costs that thread, not its node.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_its_thread_ends_at_its_timeout_too() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let block = scripted("block", move |_, _| {
        let released = Arc::clone(&released);
        async move {
            // Ends when the sender is dropped.
            let _ = released.lock().unwrap().recv();
            Ok("1".into())
        }
        .boxed()
    });
    let node = InProcess::builder()
        .kinds(|kinds| kinds.with_handler(block).unwrap())
        .config(|config| config.worker.slots = 2)
        .start()
        .await;
    let blocks = once(request("block", "{}"), Duration::from_millis(200));
    let blocks = node.client.submit(blocks).await.unwrap().task;
    let siblings = submit_all(&node.client, vec![request("echo", r#"{"sleep_ms":5}"#); 20]).await;
    for sibling in siblings {
        assert_eq!(node.wait(&sibling.id).await.state(), TaskState::Succeeded);
    }
    let blocks = node.wait(&blocks.id).await;
    assert_eq!((blocks.state(), reason(&blocks)), (TaskState::Failed, "TIMEOUT"));
    assert_eq!(node.run("echo", "{}").await.state(), TaskState::Succeeded);
    drop(release);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_no_attempt_can_mend_is_not_tried_again() {
    let refuse = scripted("refuse", |_, _| {
        async { Err(callboard_sdk::Failure::permanent("never").reason("NEVER_EVER")) }.boxed()
    });
    let node = InProcess::builder().kinds(|kinds| kinds.with_handler(refuse).unwrap()).start().await;
    let refused = node.run("refuse", "{}").await;
    assert_eq!((refused.state(), reason(&refused), refused.attempt), (TaskState::Failed, "NEVER_EVER", 1));
    let mended = node.run("echo", r#"{"fail_times":1}"#).await;
    assert_eq!((mended.state(), mended.attempt, mended.failures), (TaskState::Succeeded, 2, 1));
    node.stop().await;
}
