//! Redis killed, flushed, and back.

use crate::load::{DEADLINE, all_end, all_succeeded, eventually, logs, now, say, sleep, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use crate::servers::own_redis;
use callboard_client::{Client, v1};
use callboard_domain::convert::time_to_proto;
use std::time::Duration;

/// Tasks whose time comes soon: a singleton makes them ready.
async fn due_soon(client: &Client) -> Vec<String> {
    let run_at = Some(time_to_proto(now().after(Duration::from_millis(500))));
    submit(client, (0..10).map(|_| v1::SubmitTaskRequest { run_at, ..sleep(1) })).await
}

/// What each node says of Redis; nothing if it is well.
async fn said_of_redis(client: &Client) -> Vec<Option<String>> {
    let nodes = client.nodes().await.unwrap();
    nodes.into_iter().map(|mut node| node.backends.remove("redis").filter(|how| how != "ok")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_or_flushed_singletons_go_on_and_limits_are_shared_until_it_is_back() {
    let (mut redis, servers) = own_redis().await;
    let settings = [Settings::new("a"), Settings::new("b")];
    let mut cluster = Cluster::start_on(room::shared().await, servers, &settings).await;
    let client = cluster.client();
    all_succeeded(&all_end(&client, &due_soon(&client).await, DEADLINE).await);

    redis.with(|server| server.kill()).await;
    let began = now();
    let ids = due_soon(&client).await;
    all_succeeded(&all_end(&client, &ids, DEADLINE).await);
    say(&format!("redis: due tasks ran {:.1?} after it was killed", now().since(began)));
    // Every node does a singleton's work now: no task ran twice for it.
    assert!(logs(&client, &ids).await.iter().all(|events| events.last().unwrap().attempt == 1));
    // A holder whose lock is lost does not keep another from its work, nor does a dead one.
    cluster.replica("a").kill9().await;
    let survivor = cluster.replica("b").client.clone();
    all_succeeded(&all_end(&survivor, &due_soon(&survivor).await, DEADLINE).await);
    cluster.replica("a").start().await;
    cluster.settled().await;
    // A node that has just started has to count them first.
    eventually("every node says that limits are shared while Redis is away", DEADLINE, async || {
        let shares = |how: &Option<String>| how.as_ref().is_some_and(|how| how.contains("shared by 2 nodes"));
        said_of_redis(&client).await.iter().all(shares).then_some(())
    })
    .await;

    redis.with(|server| server.restart()).await;
    eventually("every node says that Redis is back", DEADLINE, async || {
        said_of_redis(&client).await.iter().all(Option::is_none).then_some(())
    })
    .await;
    all_succeeded(&all_end(&client, &due_soon(&client).await, DEADLINE).await);

    redis.with(|server| server.command(&["flushall"])).await;
    all_succeeded(&all_end(&client, &due_soon(&client).await, DEADLINE).await);
}
