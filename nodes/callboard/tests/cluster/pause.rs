//! A node that is stopped (SIGSTOP) for longer than its session lasts, and goes on.

use crate::load::{
    after, all_end, all_run, all_succeeded, eventually, logs, now, quantile, say, sleep, submit,
};
use crate::replica::Cluster;
use callboard_client::v1::TaskEventType;
use std::time::Duration;

const TASKS: usize = 12;
/// How long an attempt takes. One that begins anew after the session timeout still runs when the paused node
/// goes on, whose own attempts are all over by then: it will want to record them at once.
const WORK: u64 = 10_000;
const PAUSE: Duration = Duration::from_secs(12);
/// The session timeout, and what may be added to it.
const RECOVERED_WITHIN: Duration = Duration::from_secs(5 + 2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_node_has_fenced_itself_or_is_refused() {
    let mut cluster = Cluster::of(2).await;
    let client = cluster.replica("a").client.clone();
    let ids = submit(&client, (0..TASKS).map(|_| sleep(WORK))).await;
    let tasks = all_run(&client, &ids).await;
    let on = |name: &str| tasks.iter().filter(|task| task.node == name).count();
    let (paused, other) = if on("a") >= on("b") { ("a", "b") } else { ("b", "a") };
    let lost: Vec<_> = tasks.iter().filter(|task| task.node == paused).map(|task| task.id.clone()).collect();
    let client = cluster.replica(other).client.clone();
    let before = cluster.sessions(&client).await;

    let stopped = now();
    cluster.replica(paused).signal("STOP").await;
    eventually("its session is ended", PAUSE, async || {
        let nodes = client.nodes().await.ok()?;
        nodes.iter().all(|node| node.name != paused).then_some(())
    })
    .await;
    // What is measured is how long it is away, not a state.
    tokio::time::sleep(PAUSE.saturating_sub(now().since(stopped))).await;
    cluster.replica(paused).signal("CONT").await;

    all_succeeded(&all_end(&client, &ids, Duration::from_secs(30)).await);
    let mut took = Vec::new();
    for events in logs(&client, &ids).await {
        let end = events.last().unwrap();
        if lost.contains(&end.task_id) {
            let first = events.iter().find(|event| event.r#type() == TaskEventType::Lost);
            took.push(after(stopped, first.unwrap_or_else(|| panic!("never lost: {events:?}"))));
            assert_eq!(end.attempt, 2, "a stale attempt was recorded: {events:?}");
        } else {
            assert_eq!(end.attempt, 1, "an innocent one ran again: {events:?}");
        }
    }
    let last = quantile(&took, 1.0);
    say(&format!("pause: {} tasks were taken from a paused node after {last:.1?}", took.len()));
    assert!(last < RECOVERED_WITHIN, "{took:?}");

    // It is one of them again, by itself or because it is started again, and under another session.
    if !cluster.replica(paused).is_up() {
        cluster.replica(paused).start().await;
    }
    cluster.settled().await;
    let again = cluster.sessions(&client).await;
    let changed: Vec<_> = again.iter().filter(|node| !before.contains(node)).map(|(name, _)| name).collect();
    assert_eq!(changed, [paused]);
}
