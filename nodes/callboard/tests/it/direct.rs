//! Tasks that a node runs as soon as it has admitted them, past the hand-off.

use crate::node::{InProcess, request, submit_all};
use crate::tasks_api::gate;
use callboard_client::v1::{self, TaskEventType, TaskState};

/// After so many short attempts a node takes them to be short.
const ENOUGH: usize = 60;

/// When a task was submitted, and when it was first claimed: in the same commit, or not.
async fn is_direct(node: &InProcess, id: &str) -> bool {
    let events = node.events(id).await;
    let of = |kind| events.iter().find(|e| e.r#type() == kind).and_then(|e| e.at).unwrap();
    of(TaskEventType::Submitted) == of(TaskEventType::Claimed)
}

async fn warm_up(node: &InProcess) {
    for _ in 0..ENOUGH {
        assert_eq!(node.run("echo", "{}").await.state(), TaskState::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_tasks_are_claimed_as_they_are_admitted_once_they_are_known_to_be_short() {
    let node = InProcess::start().await;
    let first = node.run("echo", r#"{"a":1}"#).await;
    assert!(!is_direct(&node, &first.id).await, "nothing was known of them");
    warm_up(&node).await;
    let mut direct = 0;
    for _ in 0..20 {
        let task = node.run("echo", r#"{"a":1}"#).await;
        assert_eq!((task.state(), task.attempt), (TaskState::Succeeded, 1));
        direct += usize::from(is_direct(&node, &task.id).await);
    }
    // Whichever is admitted while the node compares what it runs with what it holds is not.
    assert!(direct >= 15, "{direct} of 20");
    // Those of a batch that have a place are, too.
    let batch = submit_all(&node.client, vec![request("echo", "{}"); 500]).await;
    for task in &batch {
        assert_eq!(node.wait(&task.id).await.attempt, 1, "none was given back");
    }
    // One that waits for its time is handed off when it has come.
    let delay = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    let later = v1::SubmitTaskRequest { delay, ..request("echo", "{}") };
    let later = node.client.submit(later).await.unwrap().task;
    assert_eq!(node.wait(&later.id).await.state(), TaskState::Succeeded);
    assert!(!is_direct(&node, &later.id).await);
    node.stop().await;
}

/// What was queued first comes first, however short what comes later is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_not_overtaken() {
    let (handler, permits, order) = gate();
    let node = InProcess::builder()
        .kinds(|kinds| kinds.with_handler(handler).unwrap())
        .config(|config| config.worker.slots = 1)
        .start()
        .await;
    warm_up(&node).await;
    // It holds the one slot; what comes while it does waits until long after it.
    let plug = node.submit("gate", r#"{"n":0}"#).await;
    node.reaches(&plug.id, TaskState::Running).await;
    let mut waiting = Vec::new();
    for n in 1..=40 {
        waiting.push(node.submit("gate", format!(r#"{{"n":{n}}}"#)).await);
    }
    // Given back once they have found no slot: they wait in the hand-off, and the node knows no more that tasks are
    // short.
    for task in &waiting {
        node.reaches(&task.id, TaskState::Queued).await;
    }
    let late = node.submit("gate", r#"{"n":41}"#).await;
    permits.add_permits(42);
    for task in waiting.iter().chain([&late]) {
        assert_eq!(node.wait(&task.id).await.state(), TaskState::Succeeded);
    }
    assert!(!is_direct(&node, &late.id).await);
    let order = order.lock().unwrap().clone();
    let place = |n: usize| order.iter().position(|ran| *ran == format!(r#"{{"n":{n}}}"#)).unwrap();
    // One that was claimed while they still seemed short, and given back after the last was queued, is behind it.
    let (mut stayed, mut overtaken) = (0, 0);
    for (n, task) in (1..).zip(&waiting) {
        let events = node.events(&task.id).await;
        if events.iter().all(|event| event.r#type() != TaskEventType::Returned) {
            stayed += 1;
            overtaken += usize::from(place(n) > place(41));
        }
    }
    assert!(stayed >= 10, "{stayed} of 40 were never given back");
    // The next few are claimed at once, each by a commit of its own: those end in any order.
    assert!(overtaken <= 3, "{order:?}");
    node.stop().await;
}
