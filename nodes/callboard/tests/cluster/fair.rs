//! How work is shared out: over nodes, over kinds of work, over priorities.

use crate::load::{all, all_end, all_succeeded, eventually, kept_once, now, quantile, say, sleep, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use callboard_client::{Client, v1};
use callboard_domain::Timestamp;
use callboard_domain::convert::time_from_proto;
use std::time::Duration;

const LOW: u32 = 1;
const HIGH: u32 = 8;

/// Workers of so many slots each.
async fn workers(count: usize, slots: u32) -> Cluster {
    let settings: Vec<_> =
        ["a", "b", "c"][..count].iter().map(|name| Settings::new(name).slots(slots)).collect();
    Cluster::start(room::alone().await, &settings).await
}

fn prioritised(request: v1::SubmitTaskRequest, priority: u32) -> v1::SubmitTaskRequest {
    v1::SubmitTaskRequest { priority: Some(priority), ..request }
}

fn time(at: Option<&prost_types::Timestamp>) -> Timestamp {
    at.map(time_from_proto).unwrap()
}

/// How many tasks have ended well.
async fn succeeded(client: &Client) -> u64 {
    client.cluster().await.unwrap().tasks.unwrap().succeeded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_1000_tasks_of_a_second_takes_60_slots_within_a_fifth_of_the_ideal() {
    let ideal = Duration::from_secs(1).mul_f64(1_000.0 / 60.0);
    let cluster = workers(3, 20).await;
    let client = cluster.client();
    kept_once(ideal.mul_f64(1.2), async || {
        let (took, by_node) = batch_of_1000(&client, 3 * ideal).await;
        let times = took.as_secs_f64() / ideal.as_secs_f64();
        say(&format!(
            "fair: 1000 tasks of a second took {took:.2?} on 60 slots, {times:.2} of the ideal; by node {by_node:?}"
        ));
        took
    })
    .await;
}

/// How long a batch of 1,000 tasks of a second takes from its submission to its last end, and how many of them
/// each node ran.
async fn batch_of_1000(client: &Client, within: Duration) -> (Duration, [usize; 3]) {
    let began = now();
    let batch = client.submit_batch((0..1_000).map(|_| sleep(1_000)).collect()).await.unwrap();
    let ids: Vec<_> = batch.into_iter().map(|outcome| outcome.unwrap().task.id).collect();
    let tasks = all_end(client, &ids, within).await;
    all_succeeded(&tasks);
    let last = tasks.iter().map(|task| time(task.finished_at.as_ref())).max().unwrap();
    let by_node = ["a", "b", "c"].map(|name| tasks.iter().filter(|task| task.node == name).count());
    (last.since(began), by_node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_and_short_tasks_in_one_queue_keep_all_slots_busy() {
    const SLOTS: u32 = 30;
    let cluster = workers(3, SLOTS / 3).await;
    let client = cluster.client();
    // Three long ones for each slot, and nine times as many short ones between them: nearly all of the time
    // is that of long ones, and whoever holds short ones behind them leaves slots of others without work.
    let tasks = (0..SLOTS * 30).map(|i| sleep(if i % 10 == 0 { 5_000 } else { 5 }));
    let ids = submit(&client, tasks).await;
    // As long as more wait than there are slots, each slot that is free is a slot that is not used.
    let mut used = Vec::new();
    loop {
        let counts = client.cluster().await.unwrap().tasks.unwrap();
        if counts.queued < u64::from(SLOTS) {
            break;
        }
        let nodes = client.nodes().await.unwrap();
        used.push(nodes.iter().map(|node| node.slots_used).sum::<u32>());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    all_succeeded(&all_end(&client, &ids, Duration::from_secs(60)).await);
    // How fast they fill up at first is another matter.
    let used: Vec<_> = used.into_iter().skip_while(|used| *used < SLOTS).collect();
    let mean = f64::from(used.iter().sum::<u32>()) / used.len() as f64;
    say(&format!(
        "fair: {mean:.1} of {SLOTS} slots were busy while tasks of 5 ms and 5 s waited ({} samples)",
        used.len()
    ));
    assert!(used.len() > 20, "too few samples: {used:?}");
    assert!(mean > 0.85 * f64::from(SLOTS), "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn low_priority_gets_its_share_while_high_fills_the_cluster() {
    const SLOTS: u32 = 20;
    const MS: u64 = 100;
    /// What is looked at: while these began, neither priority ran dry.
    const BEGAN: usize = 800;
    let cluster = workers(2, SLOTS / 2).await;
    let client = cluster.client();
    // High has a start, and goes on to come at 150% of what the cluster can do.
    let high = |tasks: usize| submit(&client, (0..tasks).map(|_| prioritised(sleep(MS), HIGH)));
    high(600).await;
    submit(&client, (0..400).map(|_| prioritised(sleep(MS), LOW))).await;
    let (from, before) = (now(), succeeded(&client).await);
    let mut ticks = tokio::time::interval(Duration::from_millis(MS / 2));
    while succeeded(&client).await < before + BEGAN as u64 + u64::from(2 * SLOTS) {
        ticks.tick().await;
        high(SLOTS as usize * 3 / 4).await;
    }
    let tasks = all(&client).await;
    let mut began: Vec<_> = tasks
        .values()
        .filter_map(|task| Some((time_from_proto(task.started_at.as_ref()?), task.priority)))
        .filter(|(at, _)| *at > from)
        .collect();
    began.sort_unstable();
    began.truncate(BEGAN);
    let (of_low, of_all) = (began.iter().filter(|(_, priority)| *priority == LOW).count(), began.len());
    let share = of_low as f64 / of_all as f64;
    say(&format!("fair: low got {:.1}% of the slots, high the rest of {of_all} tasks", share * 100.0));
    // Bands are drawn 1 to 16 from what a worker has at hand: while it waits for more of the high ones, low ones
    // get more than a seventeenth. They never get less than their share, nor the most.
    assert!(share > 0.025, "{of_low} of {of_all}");
    assert!(share < 0.5, "high did not come first: {of_low} of {of_all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_high_task_behind_10000_low_ones_starts_within_100_ms_of_a_free_slot() {
    let cluster = workers(2, 4).await;
    let client = cluster.client();
    submit(&client, (0..10_000).map(|_| prioritised(sleep(200), LOW))).await;
    eventually("low ones run", Duration::from_secs(20), async || {
        (succeeded(&client).await > 20).then_some(())
    })
    .await;
    kept_once(Duration::from_millis(100), async || p90_of_20_high(&client).await).await;
}

/// How long after a slot got free high tasks start; all but a few of them: now and then the draw gives the slot
/// to a low one first.
async fn p90_of_20_high(client: &Client) -> Duration {
    const HIGHS: usize = 20;
    let mut highs = Vec::new();
    for _ in 0..HIGHS {
        let high = submit(client, [prioritised(sleep(1), HIGH)]).await.remove(0);
        let ended = tokio::time::timeout(Duration::from_secs(20), client.wait(&high)).await;
        highs.push(ended.unwrap().unwrap());
    }
    let tasks = all(client).await;
    let mut free: Vec<_> =
        tasks.values().filter_map(|task| task.finished_at.as_ref()).map(time_from_proto).collect();
    free.sort();
    let waited = highs.iter().map(|high| {
        let submitted = time(high.created_at.as_ref());
        let slot = free.iter().find(|at| **at > submitted).unwrap();
        time(high.started_at.as_ref()).since(*slot)
    });
    let waited: Vec<_> = waited.collect();
    let [median, p90, last] = [0.5, 0.9, 1.0].map(|share| quantile(&waited, share));
    say(&format!(
        "fair: a high task started {median:.0?} after a slot was free behind 10,000 low ones (p90 {p90:.0?}, last of {HIGHS} {last:.0?})"
    ));
    p90
}
