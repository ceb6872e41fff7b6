//! Redis killed, flushed, and back.

use crate::load::{DEADLINE, all_end, all_succeeded, eventually, logs, now, say, sleep, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use crate::servers::own_redis;
use callboard_client::{Client, v1};
use callboard_domain::convert::time_to_proto;
use std::collections::HashMap;
use std::time::Duration;

/// Tasks whose time comes soon: a singleton makes them ready.
async fn due_soon(client: &Client) -> Vec<String> {
    let run_at = Some(time_to_proto(now().after(Duration::from_millis(500))));
    submit(client, (0..10).map(|_| v1::SubmitTaskRequest { run_at, ..sleep(1) })).await
}

/// The singletons of a cluster.
const SINGLETONS: [&str; 4] = ["alerts", "orphans", "partitions", "repair"];

/// What each node says of something it depends on; nothing if it is well.
async fn said_of(backend: &str, client: &Client) -> Vec<Option<String>> {
    let nodes = client.nodes().await.unwrap();
    nodes.into_iter().map(|mut node| node.backends.remove(backend).filter(|how| how != "ok")).collect()
}

fn standing(metrics: &HashMap<String, u64>, singleton: &str, standing: &str) -> u64 {
    let name = "callboard_singleton_standing";
    metrics[&format!("{name}{{singleton=\"{singleton}\",standing=\"{standing}\"}}")]
}

/// Waits until the metrics and `callboard nodes` of every node say that Redis is away, and what that means.
async fn every_node_shows_that_it_is_away(cluster: &Cluster, client: &Client) {
    // A node that has just started has to count them first.
    eventually("every node says that limits are shared while Redis is away", DEADLINE, async || {
        let shares = |how: &Option<String>| how.as_ref().is_some_and(|how| how.contains("shared by 2 nodes"));
        said_of("redis", client).await.iter().all(shares).then_some(())
    })
    .await;
    eventually("every node says that it does the singletons' work", DEADLINE, async || {
        let list = SINGLETONS.join(", ");
        let does = |how: &Option<String>| how.as_ref().is_some_and(|how| how.contains(&list));
        said_of("locks", client).await.iter().all(does).then_some(())?;
        let mut unlocked = true;
        for replica in &cluster.replicas {
            let metrics = replica.metrics().await;
            unlocked &= SINGLETONS.iter().all(|singleton| standing(&metrics, singleton, "unlocked") == 1);
        }
        unlocked.then_some(())
    })
    .await;
    let mut published = 0;
    for replica in &cluster.replicas {
        let metrics = replica.metrics().await;
        let up = |backend| metrics[&format!("callboard_backend_up{{backend=\"{backend}\"}}")];
        assert_eq!(["postgres", "rabbitmq", "redis"].map(up), [1, 1, 0], "{metrics:?}");
        assert_eq!(metrics["callboard_token_bucket_share_nodes"], 2, "{metrics:?}");
        assert_eq!(metrics["callboard_redis_lost_total"], 1, "{metrics:?}");
        published += metrics["callboard_rabbitmq_published_total{outcome=\"confirmed\"}"];
    }
    // One of them has just started, and may not have had any.
    assert!(published > 0, "no message was counted");
}

/// Waits until nothing but the count of the losses tells of it any more.
async fn every_node_shows_that_it_is_back(cluster: &Cluster, client: &Client) {
    for backend in ["redis", "locks"] {
        eventually(&format!("no node says anything of {backend}"), DEADLINE, async || {
            said_of(backend, client).await.iter().all(Option::is_none).then_some(())
        })
        .await;
    }
    eventually("one node holds each singleton, the others stand by", DEADLINE, async || {
        let mut held = [0; SINGLETONS.len()];
        for replica in &cluster.replicas {
            let metrics = replica.metrics().await;
            for (held, singleton) in held.iter_mut().zip(SINGLETONS) {
                *held += standing(&metrics, singleton, "held");
                let known = standing(&metrics, singleton, "held") + standing(&metrics, singleton, "standby");
                (known == 1).then_some(())?;
            }
        }
        (held == [1; SINGLETONS.len()]).then_some(())
    })
    .await;
    for replica in &cluster.replicas {
        let metrics = replica.metrics().await;
        assert_eq!(metrics["callboard_backend_up{backend=\"redis\"}"], 1, "{metrics:?}");
        assert_eq!(metrics["callboard_backend_away_seconds{backend=\"redis\"}"], 0, "{metrics:?}");
        assert_eq!(metrics["callboard_token_bucket_share_nodes"], 0, "{metrics:?}");
        assert_eq!(metrics["callboard_redis_lost_total"], 1, "{metrics:?}");
    }
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
    every_node_shows_that_it_is_away(&cluster, &client).await;

    redis.with(|server| server.restart()).await;
    every_node_shows_that_it_is_back(&cluster, &client).await;
    all_succeeded(&all_end(&client, &due_soon(&client).await, DEADLINE).await);

    redis.with(|server| server.command(&["flushall"])).await;
    all_succeeded(&all_end(&client, &due_soon(&client).await, DEADLINE).await);
}
