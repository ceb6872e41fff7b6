//! One node evaluates alerts, whichever node sees what they are about.

use crate::load::{DEADLINE, all_end, eventually, request, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use crate::servers::own_redis;
use callboard_client::{Client, v1};
use std::collections::HashSet;

/// Fewer than a replica has slots would all run on one of them.
const TASKS: usize = 24;

/// Submits tasks that fail for good, and waits for it. Returns the nodes that saw it.
async fn fail(client: &Client) -> HashSet<String> {
    let fails = v1::SubmitTaskRequest {
        max_attempts: Some(1),
        ..request("echo", r#"{"sleep_ms":300,"fail_times":1}"#)
    };
    let ids = submit(client, vec![fails; TASKS]).await;
    let tasks = all_end(client, &ids, DEADLINE).await;
    assert!(tasks.iter().all(|task| task.state() == v1::TaskState::Failed), "{tasks:?}");
    tasks.into_iter().map(|task| task.node).collect()
}

/// Every alert there ever was.
async fn alerts(client: &Client) -> Vec<v1::Alert> {
    client.alerts(v1::ListAlertsRequest::default()).await.unwrap().alerts
}

/// Waits until the one alert there is counts so many tasks.
async fn one_alert_of(client: &Client, tasks: usize) -> v1::Alert {
    let count = tasks as u64;
    let what = format!("an alert of {tasks} tasks");
    let found = eventually(&what, DEADLINE, async || {
        let alerts = alerts(client).await;
        alerts.iter().any(|alert| alert.count >= count).then_some(alerts)
    });
    let mut found = found.await;
    assert_eq!(found.len(), 1, "{found:?}");
    let alert = found.remove(0);
    assert_eq!((alert.rule.as_str(), alert.subject.as_str()), ("task_failed", "echo"));
    assert_eq!((alert.state(), alert.count), (v1::AlertState::Firing, count), "{alert:?}");
    alert
}

/// The replica that evaluates, once there is one.
async fn evaluator(cluster: &mut Cluster) -> String {
    eventually("one replica evaluates alerts", DEADLINE, async || {
        let mut held = Vec::new();
        for replica in &mut cluster.replicas {
            if replica.is_up() {
                let name = "callboard_singleton_standing{singleton=\"alerts\",standing=\"held\"}";
                let holds = replica.metrics().await.get(name) == Some(&1);
                held.extend(holds.then(|| replica.name.clone()));
            }
        }
        (held.len() == 1).then(|| held.remove(0))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_fail_anywhere_raise_one_alert_which_survives_its_evaluator() {
    let settings = ["a", "b", "c"].map(|name| Settings::new(name).slots(4));
    let mut cluster = Cluster::start(room::shared().await, &settings).await;
    let first = evaluator(&mut cluster).await;
    let client = cluster.others(&first).remove(0);
    assert!(fail(&client).await.len() > 1, "one node ran all");
    let raised = one_alert_of(&client, TASKS).await;

    cluster.replica(&first).kill9().await;
    // Nobody evaluates until the lock has run out, and what is seen meanwhile is not lost for it.
    fail(&client).await;
    let goes_on = eventually("the alert goes on", DEADLINE, async || {
        let alerts = alerts(&client).await;
        alerts.iter().any(|alert| alert.count > raised.count).then_some(alerts)
    });
    let goes_on = goes_on.await;
    assert_eq!((goes_on.len(), &goes_on[0].id), (1, &raised.id), "{goes_on:?}");

    let second = evaluator(&mut cluster).await;
    assert_ne!(second, first);
    fail(&client).await;
    eventually("the next evaluator counts in it too", DEADLINE, async || {
        let alerts = alerts(&client).await;
        assert_eq!((alerts.len(), &alerts[0].id), (1, &raised.id), "{alerts:?}");
        (alerts[0].count > goes_on[0].count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_every_node_evaluates_and_it_is_one_alert() {
    let (mut redis, servers) = own_redis().await;
    redis.with(|server| server.kill()).await;
    let settings = ["a", "b", "c"].map(|name| Settings::new(name).slots(4));
    let cluster = Cluster::start_on(room::shared().await, servers, &settings).await;
    let client = cluster.client();
    for _ in 0..3 {
        assert!(fail(&client).await.len() > 1, "one node ran all");
    }
    // Two that raised it in the same moment become one at the next look, at the latest.
    let open = eventually("one alert is open", DEADLINE * 2, async || {
        let mut alerts = alerts(&client).await;
        alerts.retain(|alert| alert.state() == v1::AlertState::Firing);
        (alerts.len() == 1).then(|| alerts.remove(0))
    });
    let open = open.await;
    redis.with(|server| server.restart()).await;
    fail(&client).await;
    eventually("the same alert goes on once Redis is back", DEADLINE, async || {
        let mut alerts = alerts(&client).await;
        alerts.retain(|alert| alert.state() == v1::AlertState::Firing);
        (alerts.len() == 1 && alerts[0].id == open.id && alerts[0].count > open.count).then_some(())
    })
    .await;
}
