//! A rolling restart: each replica in turn is drained and started again, as for a new version.

use crate::load::{all_end, all_succeeded, now, quantile, request, say};
use crate::replica::Cluster;
use crate::replica::Settings;
use crate::room;
use callboard_client::{Client, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// Submissions a second, unless the environment says otherwise.
const RATE: u64 = 500;
const RATE_VARIABLE: &str = "CALLBOARD_TEST_RATE";
/// The most calls at once.
const CALLS: usize = 200;

/// What became of the calls.
#[derive(Default)]
struct Calls {
    ids: Vec<String>,
    took: Vec<Duration>,
    failed: Vec<Error>,
}

/// Submits at a rate until it is told to stop. Calls that are late do not hold up the next ones, up to a limit:
/// a machine that cannot keep up gets fewer, and the rate that is printed tells.
async fn load(client: Client, rate: u64, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicUsize>) -> Calls {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut calls, mut open) = (Calls::default(), JoinSet::new());
    let end = |calls: &mut Calls, (done, took): (Result<_, Error>, Duration)| match done {
        Ok(callboard_client::Submitted { task, .. }) => {
            acknowledged.fetch_add(1, Ordering::Relaxed);
            calls.ids.push(task.id);
            calls.took.push(took);
        }
        Err(error) => calls.failed.push(error),
    };
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        if open.len() >= CALLS {
            end(&mut calls, open.join_next().await.unwrap().unwrap());
        }
        let client = client.clone();
        open.spawn(async move {
            let began = Instant::now();
            (client.submit(request("echo", "{}")).await, began.elapsed())
        });
        while let Some(done) = open.try_join_next() {
            end(&mut calls, done.unwrap());
        }
    }
    while let Some(done) = open.join_next().await {
        end(&mut calls, done.unwrap());
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_fails_no_call() {
    let rate = std::env::var(RATE_VARIABLE).map_or(RATE, |rate| rate.parse().unwrap());
    let settings = ["a", "b", "c"].map(|name| Settings::new(name).slots(32));
    let mut cluster = Cluster::start(room::alone().await, &settings).await;
    let client = cluster.client();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut loading = JoinSet::new();
    loading.spawn(load(client.clone(), rate, Arc::clone(&stop), Arc::clone(&acknowledged)));

    let began = now();
    let flows = async |tasks: u64| {
        let from = acknowledged.load(Ordering::Relaxed);
        crate::load::eventually("submissions flow", Duration::from_secs(30), async || {
            (acknowledged.load(Ordering::Relaxed) as u64 >= from as u64 + tasks).then_some(())
        })
        .await;
    };
    for replica in 0..cluster.replicas.len() {
        flows(rate).await;
        let status = cluster.replicas[replica].terminate().await;
        assert!(status.success(), "{} drains: {status}", cluster.replicas[replica].name);
        flows(rate / 2).await;
        cluster.replicas[replica].start().await;
        cluster.settled().await;
    }
    flows(rate).await;
    stop.store(true, Ordering::Relaxed);
    let calls = loading.join_next().await.unwrap().unwrap();
    let lasted = now().since(began);
    let [median, p99, last] = [0.5, 0.99, 1.0].map(|share| quantile(&calls.took, share));
    say(&format!(
        "upgrade: {} submissions in {lasted:.1?} ({:.0}/s of {rate}/s asked) over three restarts: p50 {median:.0?}, p99 {p99:.0?}, longest {last:.0?}, {} failed",
        calls.ids.len(),
        calls.ids.len() as f64 / lasted.as_secs_f64(),
        calls.failed.len(),
    ));
    assert!(
        calls.failed.is_empty(),
        "{} calls failed, the first: {:?}",
        calls.failed.len(),
        calls.failed.first()
    );
    let mut ids = calls.ids.clone();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), calls.ids.len(), "each call made a task of its own");
    let tasks = all_end(&client, &ids, Duration::from_secs(60)).await;
    all_succeeded(&tasks);
    let counts = client.cluster().await.unwrap().tasks.unwrap();
    assert_eq!(counts.succeeded, ids.len() as u64, "a call that was repeated made a second task: {counts:?}");
}
