//! Tasks through the API of a running node: submitted, listed, run in order and on time, cancelled, retried.

use crate::node::{InProcess, eventually, request, scripted, submit_all, wait};
use callboard_client::v1::{TaskEventType, TaskState};
use callboard_client::{Submitted, v1};
use futures::{FutureExt, TryStreamExt, future};
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

fn at(at: Option<&prost_types::Timestamp>) -> SystemTime {
    SystemTime::try_from(*at.unwrap()).unwrap()
}

fn later(request: v1::SubmitTaskRequest) -> v1::SubmitTaskRequest {
    let delay = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    v1::SubmitTaskRequest { delay, ..request }
}

/// A kind whose tasks end when they have got a permit and worked for `work_ms`, and say in which order.
pub(crate) fn gate() -> (impl callboard_sdk::Handler, Arc<Semaphore>, Arc<Mutex<Vec<String>>>) {
    let (permits, order) = (Arc::new(Semaphore::new(0)), Arc::<Mutex<Vec<String>>>::default());
    let (gate, ran) = (Arc::clone(&permits), Arc::clone(&order));
    let handler = scripted("gate", move |_, input| {
        let (gate, ran) = (Arc::clone(&gate), Arc::clone(&ran));
        async move {
            gate.acquire().await.unwrap().forget();
            let wish: serde_json::Value = serde_json::from_slice(&input).unwrap();
            tokio::time::sleep(Duration::from_millis(wish["work_ms"].as_u64().unwrap_or(0))).await;
            ran.lock().unwrap().push(String::from_utf8(input.to_vec()).unwrap());
            Ok(input)
        }
        .boxed()
    });
    (handler, permits, order)
}

/// A node with one slot, which a task holds until it gets a permit.
async fn one_slot_taken() -> (InProcess, v1::Task, Arc<Semaphore>, Arc<Mutex<Vec<String>>>) {
    let (gate, permits, order) = gate();
    let node = InProcess::builder()
        .kinds(|kinds| kinds.with_handler(gate).unwrap())
        .config(|config| config.worker.slots = 1)
        .start()
        .await;
    let plug = node.submit("gate", "{}").await;
    let plug = node.reaches(&plug.id, TaskState::Running).await;
    (node, plug, permits, order)
}

/// All pages of a list, and that only the last has no token.
async fn pages(node: &InProcess, filter: v1::TaskFilter, page_size: u32) -> Vec<v1::Task> {
    let mut request = v1::ListTasksRequest { page_size, filter: Some(filter), ..Default::default() };
    let mut all = Vec::new();
    loop {
        let page = node.client.list(request.clone()).await.unwrap();
        assert!(page.tasks.len() <= page_size as usize);
        assert!(page.next_page_token.is_empty() || page.tasks.len() == page_size as usize);
        all.extend(page.tasks);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
        // What is submitted meanwhile is newer than this page, and so on none that follows.
        node.client.submit(later(crate::node::request("echo", "{}"))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_has_no_gap_and_no_double_to_its_end() {
    let node = InProcess::start().await;
    let mut ids = Vec::new();
    for n in 0..23 {
        let queue = if n % 3 == 0 { "third" } else { "" };
        let kind = if n % 2 == 0 { "echo" } else { "text.generate" };
        let input = if n % 2 == 0 { "{}" } else { r#"{"prompt":"x"}"# };
        let request = later(v1::SubmitTaskRequest { queue: queue.into(), ..request(kind, input) });
        ids.push(node.client.submit(request).await.unwrap().task.id);
    }
    node.client.cancel(&ids[4]).await.unwrap();
    let listed = |filter: v1::TaskFilter, size| {
        let node = &node;
        async move { pages(node, filter, size).await.into_iter().map(|t| t.id).collect::<Vec<_>>() }
    };
    let expected = |wanted: fn(usize) -> bool| -> Vec<String> {
        ids.iter().enumerate().rev().filter(|(n, _)| wanted(*n)).map(|(_, id)| id.clone()).collect()
    };
    for size in [1, 4, 23, 1_000] {
        let third = v1::TaskFilter { queue: "third".into(), ..Default::default() };
        assert_eq!(listed(third, size).await, expected(|n| n % 3 == 0), "{size}");
        let texts = v1::TaskFilter { kind: "text.generate".into(), ..Default::default() };
        assert_eq!(listed(texts, size).await, expected(|n| n % 2 == 1), "{size}");
    }
    let cancelled = v1::TaskFilter { states: vec![TaskState::Cancelled.into()], ..Default::default() };
    assert_eq!(listed(cancelled, 2).await, [ids[4].clone()]);
    let both = v1::TaskFilter {
        states: vec![TaskState::Scheduled.into(), TaskState::Cancelled.into()],
        kind: "echo".into(),
        queue: "third".into(),
        ..Default::default()
    };
    assert_eq!(listed(both, 2).await, expected(|n| n % 6 == 0));
    let created = async |id: &str| node.client.get(id, false).await.unwrap().created_at;
    let window = v1::TaskFilter {
        created_after: created(&ids[7]).await,
        created_before: created(&ids[12]).await,
        ..Default::default()
    };
    let window = listed(window, 2).await;
    assert!(window.contains(&ids[7]) && window.contains(&ids[10]), "{window:?}");
    assert!(!window.contains(&ids[6]) && !window.contains(&ids[12]), "{window:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_full_only_if_asked_for() {
    let node = InProcess::start().await;
    let done = node.run("echo", r#"{"a":1}"#).await;
    assert_eq!((&done.input[..], &done.result[..]), (&br#"{"a":1}"#[..], &br#"{"a":1}"#[..]));
    let basic = node.client.get(&done.id, false).await.unwrap();
    assert!(basic.input.is_empty() && basic.result.is_empty());
    assert_eq!(basic, v1::Task { input: "".into(), result: "".into(), ..done.clone() });
    let by_suffix = node.client.get(&done.id[done.id.len() - 12..].to_uppercase(), true).await.unwrap();
    assert_eq!(by_suffix, done);
    assert_eq!(pages(&node, v1::TaskFilter::default(), 5).await, [basic]);
    // No input is an empty object.
    assert_eq!(node.run("echo", "").await.result, "{}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_id_makes_one_task_however_often_it_is_sent() {
    let node = InProcess::start().await;
    let keyed = v1::SubmitTaskRequest { request_id: "k1".into(), ..request("echo", r#"{"a":1}"#) };
    let racing = (0..20).map(|_| node.client.submit(keyed.clone()));
    let racing: Vec<_> = future::try_join_all(racing).await.unwrap();
    let ids: HashSet<_> = racing.iter().map(|s| s.task.id.as_str()).collect();
    assert_eq!((ids.len(), racing.iter().filter(|s| !s.existed).count()), (1, 1));
    let done = node.wait(&racing[0].task.id).await;
    let again = node.client.submit(keyed).await.unwrap();
    assert!(again.existed);
    assert_eq!((&again.task.id, again.task.state()), (&done.id, TaskState::Succeeded));
    let keyed = v1::SubmitTaskRequest { request_id: "k2".into(), ..request("echo", "{}") };
    let batch = node.client.submit_batch(vec![keyed; 3]).await.unwrap();
    let batch: Vec<Submitted> = batch.into_iter().map(Result::unwrap).collect();
    assert!(batch.iter().all(|s| s.task.id == batch[0].task.id));
    assert_eq!(batch.iter().map(|s| s.existed).collect::<Vec<_>>(), [false, true, true]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outcomes_of_a_batch_stand_in_the_order_of_its_requests() {
    let node = InProcess::start().await;
    let input = |n: usize| if n % 7 == 3 { format!("{{\"n\":{n}") } else { format!("{{\"n\":{n}}}") };
    let requests = (0..200).map(|n| request("echo", input(n))).collect();
    let outcomes = node.client.submit_batch(requests).await.unwrap();
    assert_eq!(outcomes.len(), 200);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(submitted) => assert_eq!(node.wait(&submitted.task.id).await.result, input(n)),
            Err(error) => assert!(n % 7 == 3 && error.violations[0].field == "input", "{n}: {error:?}"),
        }
    }
    let counts = node.counts().await;
    assert_eq!(counts, v1::TaskCounts { succeeded: 200 - 29, ..Default::default() });
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_runs_when_its_time_comes_and_not_before() {
    let node = InProcess::start().await;
    let mut tasks = Vec::new();
    for n in 0..9_u32 {
        let after = Duration::from_millis(u64::from(300 + 70 * n));
        let mut request = request("echo", "{}");
        if n % 2 == 0 {
            request.delay = Some(after.try_into().unwrap());
        } else {
            request.run_at = Some((SystemTime::now() + after).into());
        }
        let task = node.client.submit(request).await.unwrap().task;
        assert_eq!(task.state(), TaskState::Scheduled);
        tasks.push(task);
    }
    let mut late = Vec::new();
    for task in tasks {
        let due = at(task.run_at.as_ref());
        let done = node.wait(&task.id).await;
        // Never early.
        late.push(at(done.started_at.as_ref()).duration_since(due).unwrap());
        let kinds: Vec<_> = node.events(&task.id).await.iter().map(v1::TaskEvent::r#type).collect();
        assert_eq!(kinds[..3], [TaskEventType::Submitted, TaskEventType::Due, TaskEventType::Claimed]);
    }
    // One of them may meet a busy machine; half of them do not.
    late.sort();
    assert!(late[4] <= Duration::from_millis(100), "{late:?}");
    // A time that has passed is now.
    let past = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let task = v1::SubmitTaskRequest { run_at: past, ..request("echo", "{}") };
    let task = node.client.submit(task).await.unwrap().task;
    assert_eq!(node.wait(&task.id).await.state(), TaskState::Succeeded);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn high_priorities_go_first_and_low_ones_still_move() {
    const EACH: usize = 60;
    let (node, plug, permits, order) = one_slot_taken().await;
    for (band, priority) in [("low", 0), ("middle", 5), ("high", 9)] {
        let input = format!("{{\"{band}\":1,\"work_ms\":5}}");
        let one = v1::SubmitTaskRequest { priority: Some(priority), ..request("gate", input) };
        submit_all(&node.client, vec![one; EACH]).await;
    }
    permits.add_permits(3 * EACH + 1);
    node.wait(&plug.id).await;
    eventually("all have run", async || (order.lock().unwrap().len() == 3 * EACH + 1).then_some(())).await;
    let order = order.lock().unwrap().split_off(1);
    let last_high = order.iter().rposition(|input| input.contains("high")).unwrap();
    let among = |band| order[..=last_high].iter().filter(|input| input.contains(band)).count();
    // Drawn with the weights 16, 4 and 1: when the 60 high ones have run, 15 and 4 of the others have, give
    // or take what a worker with one slot claims ahead: 50 ms of work.
    let (middle, low) = (among("middle"), among("low"));
    assert!((8..=30).contains(&middle) && (2..=15).contains(&low), "{middle} {low}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_takes_from_its_queues_alone() {
    let only = |config: &mut callboard::config::Config| config.worker.queues = vec!["special".into()];
    let node = InProcess::builder().config(only).start().await;
    let waits = node.submit("echo", "{}").await;
    let special = v1::SubmitTaskRequest { queue: "special".into(), ..request("echo", "{}") };
    let special = node.client.submit(special).await.unwrap().task;
    assert_eq!(wait(&node.client, &special.id).await.state(), TaskState::Succeeded);
    assert_eq!(node.client.get(&waits.id, false).await.unwrap().state(), TaskState::Queued);
    let cluster = node.client.cluster().await.unwrap();
    let queue = cluster.queues.iter().find(|q| q.queue == "default").unwrap();
    assert_eq!((queue.low, queue.middle, queue.high), (0, 1, 0));
    assert_eq!(queue.oldest_task_id, waits.id);
    // The next node takes from all.
    let node = node.stop().await.start().await;
    assert_eq!(node.wait(&waits.id).await.state(), TaskState::Succeeded);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_cancelled_at_once() {
    let (node, plug, permits, order) = one_slot_taken().await;
    let queued = node.submit("gate", r#"{"queued":1}"#).await;
    let scheduled = node.client.submit(later(request("echo", "{}"))).await.unwrap().task;
    for (task, state) in [(queued, TaskState::Queued), (scheduled, TaskState::Scheduled)] {
        assert_eq!(task.state(), state);
        let cancelled = node.client.cancel(&task.id).await.unwrap();
        assert_eq!((cancelled.state(), cancelled.attempt), (TaskState::Cancelled, 0));
        // Once more is as well.
        assert_eq!(node.client.cancel(&task.id).await.unwrap(), cancelled);
        let kinds: Vec<_> = node.events(&task.id).await.iter().map(v1::TaskEvent::r#type).collect();
        assert_eq!(kinds, [TaskEventType::Submitted, TaskEventType::Cancelled]);
    }
    permits.add_permits(2);
    node.wait(&plug.id).await;
    assert_eq!(node.run("echo", "{}").await.state(), TaskState::Succeeded);
    assert_eq!(*order.lock().unwrap(), ["{}"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_told_of_its_cancel_and_dropped_after_the_grace() {
    let grace = Duration::from_millis(300);
    let told = Arc::new(Semaphore::new(0));
    let tell = Arc::clone(&told);
    let obeys = scripted("obeys", move |ctx, _| {
        let tell = Arc::clone(&tell);
        async move {
            ctx.cancelled().cancelled().await;
            tell.add_permits(1);
            Err(callboard_sdk::Failure::retryable("stopped"))
        }
        .boxed()
    });
    let ignores = scripted("ignores", |_, _| future::pending().boxed());
    let node = InProcess::builder()
        .kinds(|kinds| kinds.with_handler(obeys).unwrap().with_handler(ignores).unwrap())
        .config(|config| config.worker.cancel_grace = grace)
        .start()
        .await;
    for (kind, at_least) in [("obeys", Duration::ZERO), ("ignores", grace)] {
        let task = node.submit(kind, "{}").await;
        node.reaches(&task.id, TaskState::Running).await;
        let cancelled = node.client.cancel(&task.id).await.unwrap();
        assert!(cancelled.cancel_requested && cancelled.state() == TaskState::Running, "{cancelled:?}");
        let ended = node.wait(&task.id).await;
        assert_eq!((ended.state(), ended.attempt, ended.failures), (TaskState::Cancelled, 1, 0));
        let events = node.events(&task.id).await;
        let asked = events.iter().find(|e| e.r#type() == TaskEventType::CancelRequested).unwrap();
        let took = at(ended.finished_at.as_ref()).duration_since(at(asked.at.as_ref())).unwrap();
        assert!(took >= at_least && took < at_least + Duration::from_secs(1), "{kind}: {took:?}");
    }
    assert_eq!(told.available_permits(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_and_a_success_do_not_both_win() {
    let node = InProcess::start().await;
    let race = async |n: u64| {
        let task = node.submit("echo", format!("{{\"sleep_ms\":{}}}", n % 4)).await;
        if n.is_multiple_of(3) {
            node.reaches_or_ends(&task.id, TaskState::Running).await;
        }
        let cancelled = node.client.cancel(&task.id).await;
        let ended = node.wait(&task.id).await;
        match cancelled {
            Ok(told) if told.state() == TaskState::Cancelled => {
                assert_eq!(ended.state(), TaskState::Cancelled);
            }
            Ok(told) => assert!(told.cancel_requested && told.state() == TaskState::Running, "{told:?}"),
            Err(error) => {
                assert_eq!((error.reason.as_str(), ended.state()), ("TASK_ENDED", TaskState::Succeeded));
            }
        }
        let ends = node.events(&task.id).await;
        let ends: Vec<_> = ends.iter().filter(|e| callboard_client::is_terminal(e.state())).collect();
        assert_eq!((ends.len(), ends[0].state()), (1, ended.state()), "{ends:?}");
        assert_eq!(ended.result.is_empty(), ended.state() == TaskState::Cancelled);
        ended.state()
    };
    let ended: Vec<_> = future::join_all((0..300).map(race)).await;
    let succeeded = ended.iter().filter(|s| **s == TaskState::Succeeded).count() as u64;
    let counts = node.counts().await;
    assert_eq!((counts.succeeded, counts.cancelled, counts.failed), (succeeded, 300 - succeeded, 0));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_a_new_task_with_the_old_ones_input() {
    let node = InProcess::start().await;
    let request = v1::SubmitTaskRequest {
        max_attempts: Some(1),
        priority: Some(8),
        queue: "special".into(),
        request_id: "first".into(),
        ..request("echo", r#"{"fail_times":1}"#)
    };
    let failed = node.client.submit(request).await.unwrap().task;
    let failed = node.wait(&failed.id).await;
    assert_eq!(failed.state(), TaskState::Failed);
    let retry = node.client.retry(&failed.id, "again").await.unwrap();
    assert_eq!((retry.retry_of.as_str(), retry.attempt), (failed.id.as_str(), 0));
    assert_ne!(retry.id, failed.id);
    assert_eq!(node.client.retry(&failed.id, "again").await.unwrap().id, retry.id);
    let retried = node.wait(&retry.id).await;
    assert_eq!(retried.input, failed.input);
    assert_eq!((retried.priority, retried.queue.as_str(), retried.max_attempts), (8, "special", 1));
    assert_eq!((retried.kind.as_str(), retried.request_id.as_str()), ("echo", "again"));
    assert_eq!(node.client.get(&failed.id, true).await.unwrap(), failed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_in_pages_without_gap_or_double() {
    let steps = scripted("steps", |ctx, _| {
        async move {
            for n in 0..30 {
                ctx.progress(n, "on it");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok("1".into())
        }
        .boxed()
    });
    let node = InProcess::builder().kinds(|kinds| kinds.with_handler(steps).unwrap()).start().await;
    let done = node.run("steps", "{}").await;
    let all = node.events(&done.id).await;
    assert!(all.len() > 6, "{}", all.len());
    assert!(all.iter().map(|e| e.seq).eq(1..=done.last_seq));
    for page_size in [1, 3, 1_000] {
        let mut request = v1::ListTaskEventsRequest { id: done.id.clone(), page_size, ..Default::default() };
        let mut paged = Vec::new();
        loop {
            let page = node.client.events(request.clone()).await.unwrap();
            assert!(page.events.len() <= page_size as usize);
            paged.extend(page.events);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(paged, all, "{page_size}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_fails_for_good_makes_an_alert() {
    let node = InProcess::start().await;
    let fails = v1::SubmitTaskRequest { max_attempts: Some(1), ..request("echo", r#"{"fail_times":9}"#) };
    for task in submit_all(&node.client, vec![fails; 3]).await {
        assert_eq!(node.wait(&task.id).await.state(), TaskState::Failed);
    }
    let alert = eventually("an alert that counts three", async || {
        let active = v1::ListAlertsRequest { active_only: true, ..Default::default() };
        let alerts = node.client.alerts(active).await.unwrap().alerts;
        alerts.into_iter().find(|a| a.rule == "task_failed" && a.count == 3)
    })
    .await;
    assert_eq!((alert.subject.as_str(), alert.state()), ("echo", v1::AlertState::Firing));
    assert!(alert.message.contains("HANDLER_FAILED"), "{}", alert.message);
    let counts = node.counts().await;
    assert_eq!(counts, v1::TaskCounts { failed: 3, ..Default::default() });
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kinds_example_succeeds() {
    let node = InProcess::start().await;
    let kinds = node.client.kinds().await.unwrap();
    let names: BTreeSet<_> = kinds.iter().map(|kind| kind.name.as_str()).collect();
    let expected = ["campaign.generate", "echo", "image.generate", "policy.analyze", "text.generate"];
    assert!(names.iter().eq(&expected), "{names:?}");
    for kind in kinds {
        let done = node.run(&kind.name, &kind.example_input).await;
        assert_eq!(done.state(), TaskState::Succeeded, "{done:?}");
        let schema = callboard_sdk::schema::Validator::new(&kind.result_schema).unwrap();
        assert_eq!(schema.check(&done.result), Ok(()), "{}", kind.name);
    }
    let tasks: Vec<v1::Task> = node.client.list_all(v1::TaskFilter::default()).try_collect().await.unwrap();
    assert_eq!(tasks.len(), expected.len());
    node.stop().await;
}
