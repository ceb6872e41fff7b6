//! The log of a task, asked of nodes that had nothing to do with it.

use crate::load::{all_end, log, request, sleep, submit};
use crate::replica::Cluster;
use callboard_client::v1::{self, TaskEventType};
use std::collections::HashSet;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_through_any_replica() {
    let mut cluster = Cluster::of(3).await;
    let first = cluster.replica("a").client.clone();
    let fails_once = request("echo", r#"{"fail_times":1}"#);
    let tasks = (0..8).map(|_| sleep(50)).chain([fails_once]);
    let ids = submit(&first, tasks).await;
    all_end(&first, &ids, Duration::from_secs(20)).await;
    for id in &ids {
        let events = log(&first, id).await;
        assert_eq!(events.last().unwrap().r#type(), TaskEventType::Succeeded, "{events:?}");
        for replica in &cluster.replicas {
            assert_eq!(log(&replica.client, id).await, events, "{}", replica.name);
        }
    }
    // The pages of one list may come from different replicas.
    let failed = ids.last().unwrap();
    let (mut token, mut seqs, mut asked) = (String::new(), Vec::new(), HashSet::new());
    for replica in cluster.replicas.iter().cycle() {
        let request = v1::ListTaskEventsRequest { id: failed.clone(), page_size: 2, page_token: token };
        let page = replica.client.events(request).await.unwrap();
        seqs.extend(page.events.iter().map(|event| event.seq));
        asked.insert(&replica.name);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seqs, (1..=log(&first, failed).await.len() as u64).collect::<Vec<_>>());
    assert!(asked.len() > 1, "one page held everything: {seqs:?}");
}
