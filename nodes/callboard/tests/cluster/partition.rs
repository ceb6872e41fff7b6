//! The mesh cut in two, while the store answers both sides.

use crate::cable::Cable;
use crate::load::{
    DEADLINE, all_end, all_run, all_succeeded, eventually, logs, now, request, say, sleep, submit,
};
use crate::replica::{self, Cluster, Settings};
use crate::room;
use callboard_client::{Client, v1};
use std::time::Duration;

/// Longer than a session lasts without renewal.
const CUT: Duration = Duration::from_secs(8);

/// A replica that others reach over a cable only.
async fn behind_a_cable(settings: Settings) -> (Settings, Cable) {
    let port = replica::port();
    let cable = Cable::to(port).await;
    let settings = settings
        .env("CALLBOARD_LISTEN__MESH", format!("127.0.0.1:{port}"))
        .env("CALLBOARD_MESH__ADVERTISE", cable.address().to_string());
    (settings, cable)
}

/// Waits until a replica suspects another; `client` is a client of the replica.
async fn until_suspected(client: &Client, by: &str, other: &str) {
    eventually(&format!("{by} suspects {other}"), DEADLINE, async || {
        let nodes = client.nodes().await.ok()?;
        let by = nodes.iter().find(|node| node.name == by)?;
        by.suspects.iter().any(|suspect| suspect.node == other).then_some(())
    })
    .await;
}

/// Every task ran once.
async fn ran_once(client: &Client, tasks: &[v1::Task]) {
    all_succeeded(tasks);
    assert!(tasks.iter().all(|task| (task.attempt, task.lost, task.failures) == (1, 0, 0)), "{tasks:?}");
    let ids: Vec<_> = tasks.iter().map(|task| task.id.clone()).collect();
    logs(client, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_of_a_cut_mesh_keeps_its_work_and_takes_more_and_no_session_ends() {
    let (a, to_a) = behind_a_cable(Settings::new("a").slots(8)).await;
    let (b, to_b) = behind_a_cable(Settings::new("b").slots(8)).await;
    let mut cluster = Cluster::start(room::shared().await, &[a, b]).await;
    let [on_a, on_b] = ["a", "b"].map(|name| cluster.replica(name).client.clone());
    // They run from before the cut to after it.
    let mut ids = submit(&on_a, (0..12).map(|_| sleep(10_000))).await;
    all_run(&on_a, &ids).await;
    let before = cluster.sessions(&on_a).await;

    let cut = now();
    to_a.cut();
    to_b.cut();
    until_suspected(&on_a, "a", "b").await;
    until_suspected(&on_b, "b", "a").await;
    // What comes now is taken by either side, and watched to its end from the side that may not run it.
    for (client, other) in [(&on_a, &on_b), (&on_b, &on_a)] {
        for id in submit(client, (0..3).map(|_| sleep(50))).await {
            let ended = tokio::time::timeout(DEADLINE, other.wait(&id)).await.unwrap().unwrap();
            assert_eq!(ended.state(), v1::TaskState::Succeeded, "{ended:?}");
            ids.push(id);
        }
    }
    // A cancel that cannot be passed on over the mesh takes the way over the store.
    let long = submit(&on_a, (0..4).map(|_| sleep(60_000))).await;
    all_run(&on_a, &long).await;
    for id in &long {
        on_b.cancel(id).await.unwrap();
        let ended = tokio::time::timeout(DEADLINE, on_b.wait(id)).await.unwrap().unwrap();
        assert_eq!(ended.state(), v1::TaskState::Cancelled, "{ended:?}");
    }
    // The cut is to outlast the sessions.
    tokio::time::sleep(CUT.saturating_sub(now().since(cut))).await;
    for client in [&on_a, &on_b] {
        assert_eq!(cluster.sessions(client).await, before, "a cut mesh ended a session");
    }
    to_a.mend();
    to_b.mend();
    say(&format!("partition: the mesh was cut for {:.1?}, and no session ended", now().since(cut)));

    let tasks = all_end(&on_a, &ids, DEADLINE).await;
    ran_once(&on_a, &tasks).await;
    cluster.settled().await;
    assert_eq!(cluster.sessions(&on_b).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_avoid_the_side_that_is_lost() {
    const TASKS: usize = 10;
    let broker = |name| Settings::new(name).without_worker();
    let (near, _to_near) = behind_a_cable(broker("near")).await;
    let (far, to_far) = behind_a_cable(broker("far")).await;
    let worker = Settings::new("worker").roles(&["worker"]);
    let mut cluster = Cluster::start(room::shared().await, &[near, far, worker]).await;
    let client = cluster.replica("worker").client.clone();
    let prompts = || (0..TASKS).map(|n| request("text.generate", &format!(r#"{{"prompt":"number {n}"}}"#)));
    let ids = submit(&client, prompts()).await;
    all_succeeded(&all_end(&client, &ids, DEADLINE).await);

    to_far.cut();
    until_suspected(&client, "worker", "far").await;
    let began = now();
    let ids = submit(&client, prompts()).await;
    let tasks = all_end(&client, &ids, DEADLINE).await;
    ran_once(&client, &tasks).await;
    let took = now().since(began);
    say(&format!("partition: {TASKS} calls of models took {took:.1?} while one of two brokers was cut off"));
    assert!(took < Duration::from_secs(5), "they waited for a broker that is lost: {took:?}");
}
