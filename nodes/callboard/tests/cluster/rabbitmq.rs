//! RabbitMQ killed, stopped, and robbed of its queues.

use crate::load::{DEADLINE, all_end, all_succeeded, logs, now, say, sleep, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use crate::servers::own_rabbitmq;
use callboard_client::Client;
use std::time::Duration;

const TASKS: usize = 40;
/// Writes down which queues there are. RabbitMQ 3.10 does that half a second after they were declared: killed
/// before, it comes back with a queue that has no leader, for good, until somebody deletes it.
const REMEMBER: &[&str] = &["eval", "[dets:sync(Table) || Table <- dets:all()]."];
/// How long the hand-off may take to go on once the broker is back.
const RESUMES_WITHIN: Duration = Duration::from_secs(15);

/// Submits tasks; returns their ids once each is acknowledged, which must not take long.
async fn submitted_soon(client: &Client, ms: u64) -> Vec<String> {
    let began = now();
    let ids = submit(client, (0..TASKS).map(|_| sleep(ms))).await;
    let took = now().since(began);
    assert!(took < Duration::from_secs(2), "a submission waited {took:?} for the broker");
    ids
}

/// None of the tasks failed, was lost, or ended twice.
async fn none_lost(client: &Client, ids: &[String], within: Duration) {
    let tasks = all_end(client, ids, within).await;
    all_succeeded(&tasks);
    assert!(tasks.iter().all(|task| task.lost == 0 && task.failures == 0), "{tasks:?}");
    logs(client, ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_submit_goes_on_and_the_hand_off_resumes_by_itself() {
    let (mut rabbitmq, servers) = own_rabbitmq().await;
    let settings = [Settings::new("a"), Settings::new("b")];
    let cluster = Cluster::start_on(room::shared().await, servers, &settings).await;
    let client = cluster.client();
    let mut ids = submitted_soon(&client, 1).await;
    all_end(&client, &ids, DEADLINE).await;
    rabbitmq.with(|server| server.ctl(REMEMBER)).await;
    // Some are on their way when it is killed.
    ids.extend(submitted_soon(&client, 100).await);
    rabbitmq.with(|server| server.kill()).await;
    ids.extend(submitted_soon(&client, 20).await);
    rabbitmq.with(|server| server.restart()).await;
    let back = now();
    ids.extend(submitted_soon(&client, 20).await);
    none_lost(&client, &ids, RESUMES_WITHIN).await;
    say(&format!("rabbitmq: all that waited had run {:.1?} after it was back", now().since(back)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_submit_goes_on_and_the_hand_off_resumes_by_itself() {
    let (mut rabbitmq, servers) = own_rabbitmq().await;
    let settings = [Settings::new("a"), Settings::new("b")];
    let cluster = Cluster::start_on(room::shared().await, servers, &settings).await;
    let client = cluster.client();
    let mut ids = submitted_soon(&client, 100).await;
    rabbitmq
        .with(|server| {
            server.pause();
            Ok(())
        })
        .await;
    let stopped = now();
    ids.extend(submitted_soon(&client, 20).await);
    // It answers nothing for so long; that is the fault, not a wait for a state.
    tokio::time::sleep(Duration::from_secs(6)).await;
    rabbitmq
        .with(|server| {
            server.resume();
            Ok(())
        })
        .await;
    let back = now();
    none_lost(&client, &ids, RESUMES_WITHIN).await;
    let (away, took) = (back.since(stopped), now().since(back));
    say(&format!("rabbitmq: all that waited had run {took:.1?} after it had not answered for {away:.1?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_queues_deleted_their_tasks_are_handed_off_again() {
    let (mut rabbitmq, servers) = own_rabbitmq().await;
    let settings = [Settings::new("a").slots(2), Settings::new("b").slots(2)];
    let cluster = Cluster::start_on(room::shared().await, servers, &settings).await;
    let client = cluster.client();
    // Far more than the slots take: most lie in the broker's queues.
    let ids = submit(&client, (0..TASKS).map(|_| sleep(500))).await;
    let deleted = rabbitmq
        .with(|server| {
            let queues = server.ctl(&["list_queues", "--no-table-headers", "name"])?;
            // Those of the repairer come and go by themselves.
            let ours = |name: &&str| !name.is_empty() && !name.starts_with("amq.");
            let queues: Vec<_> = queues.lines().map(str::trim).filter(ours).collect();
            queues.iter().try_for_each(|queue| server.ctl(&["delete_queue", queue]).map(drop))?;
            Ok(queues.len())
        })
        .await;
    assert!(deleted > 0, "nothing was handed off through the broker");
    let gone = now();
    none_lost(&client, &ids, DEADLINE).await;
    say(&format!(
        "rabbitmq: {TASKS} tasks had run {:.1?} after {deleted} queues were deleted",
        now().since(gone)
    ));
}
