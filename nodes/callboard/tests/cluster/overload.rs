//! Clients that submit faster than the workers run.

use crate::load::{all_end, all_succeeded, eventually, quantile, say, sleep};
use crate::replica::{Cluster, Settings};
use crate::room;
use callboard_client::v1::task_service_client::TaskServiceClient;
use callboard_client::{Client, Code, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long it lasts, unless the environment says otherwise: ten minutes are for a run by hand.
const LASTS: Duration = Duration::from_secs(20);
const LASTS_VARIABLE: &str = "CALLBOARD_TEST_OVERLOAD_SECONDS";
/// How many tasks may wait.
const WAITING: u64 = 500;
/// How long a task takes, in milliseconds. On eight slots, forty a second.
const TASK: u64 = 200;
/// Clients that submit one task after the other.
const CLIENTS: usize = 32;
/// The most an accepted call may take, at one of a hundred.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(2);
/// How much memory a node may grow over the second half.
const GROWTH: u64 = 64 << 20;

/// What one client saw.
#[derive(Default)]
struct Seen {
    ids: Vec<String>,
    took: Vec<Duration>,
    refused: u64,
}

/// Submits until it is told to stop, as fast as it is answered. It is not our client library, which would wait
/// as it is asked to and try again.
async fn press(address: String, stop: Arc<AtomicBool>) -> Seen {
    let mut client = TaskServiceClient::connect(format!("http://{address}")).await.unwrap();
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match client.submit_task(sleep(TASK)).await {
            Ok(done) => {
                seen.took.push(began.elapsed());
                seen.ids.push(done.into_inner().task.unwrap().id);
            }
            Err(status) => {
                let error = Error::from(status);
                assert_eq!(error.code, Code::ResourceExhausted, "{error:?}");
                let wait = error.retry_after.unwrap_or_else(|| panic!("no time to try again: {error:?}"));
                assert!(wait > Duration::ZERO && wait <= Duration::from_secs(60), "{error:?}");
                seen.refused += 1;
                tokio::time::sleep(wait.min(Duration::from_millis(20))).await;
            }
        }
    }
    seen
}

/// The memory of each node, in bytes.
async fn memory(client: &Client) -> Vec<u64> {
    client.nodes().await.unwrap().into_iter().map(|node| node.memory_bytes).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_refused_with_a_time_and_ends_no_session() {
    let lasts = std::env::var(LASTS_VARIABLE).map_or(LASTS, |s| Duration::from_secs(s.parse().unwrap()));
    let settings = ["a", "b"]
        .map(|name| Settings::new(name).slots(4).env("CALLBOARD_LIMITS__WAITING_TASKS", WAITING.to_string()));
    let cluster = Cluster::start(room::alone().await, &settings).await;
    let client = cluster.client();
    let before = cluster.sessions(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut pressing = JoinSet::new();
    for number in 0..CLIENTS {
        let replica = &cluster.replicas[number % cluster.replicas.len()];
        pressing.spawn(press(replica.api.to_string(), Arc::clone(&stop)));
    }
    tokio::time::sleep(lasts / 2).await;
    let half = memory(&client).await;
    tokio::time::sleep(lasts / 2).await;
    let full = memory(&client).await;
    stop.store(true, Ordering::Relaxed);
    let seen = pressing.join_all().await;
    assert_eq!(cluster.sessions(&client).await, before, "a session ended by overload");

    let refused: u64 = seen.iter().map(|seen| seen.refused).sum();
    let took: Vec<_> = seen.iter().flat_map(|seen| seen.took.iter().copied()).collect();
    let mut ids: Vec<_> = seen.into_iter().flat_map(|seen| seen.ids).collect();
    let [median, p99] = [0.5, 0.99].map(|share| quantile(&took, share));
    say(&format!(
        "overload: in {lasts:.0?}, {} accepted (p50 {median:.0?}, p99 {p99:.0?}), {refused} refused; memory of the \
         nodes in MB {:?}, at half {:?}",
        ids.len(),
        full.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(),
        half.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(),
    ));
    assert!(refused > 0, "it was no overload");
    assert!(p99 < ACCEPTED_WITHIN, "{p99:?}");
    for (half, full) in half.into_iter().zip(full) {
        assert!(full < half + GROWTH, "a node grew from {half} to {full} bytes");
    }
    // Nothing that was accepted is lost, and nothing else was made.
    let tasks = all_end(&client, &ids, Duration::from_secs(120)).await;
    all_succeeded(&tasks);
    ids.sort();
    ids.dedup();
    eventually("each is counted once", Duration::from_secs(5), async || {
        let counts = client.cluster().await.ok()?.tasks?;
        (counts.succeeded == ids.len() as u64).then_some(())
    })
    .await;
}
