//! What nodes share of answers, and clearing it.

use crate::load::{DEADLINE, eventually};
use crate::replica::{Cluster, Replica, Settings};
use crate::room;
use callboard_client::v1;
use callboard_testkit::FakeProvider;

fn ask() -> v1::GenerateRequest {
    let message =
        v1::ChatMessage { role: v1::ChatRole::User.into(), content: "tea".into(), ..Default::default() };
    v1::GenerateRequest { messages: vec![message], ..Default::default() }
}

async fn generate(replica: &Replica) {
    replica.client.generate(ask()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_reaches_every_node_and_redis_and_each_says_what_its_cache_did() {
    let fake = FakeProvider::start().await.unwrap();
    let providers =
        format!(r#"[{{name="main", adapter="openai", base_url="{}", text_model="m"}}]"#, fake.base_url());
    let settings = ["a", "b"].map(|name| {
        Settings::new(name)
            .env("CALLBOARD_BROKER__PROVIDERS", &*providers)
            .env("CALLBOARD_BROKER__CACHE__ENABLED", "true")
    });
    let mut cluster = Cluster::start(room::alone().await, &settings).await;
    let [a, b] = &cluster.replicas[..] else { panic!("there are two") };
    let received = || fake.counts().received;
    generate(a).await;
    generate(a).await;
    generate(b).await;
    assert_eq!(received(), 1, "nodes share the answer");
    let nodes = eventually("both nodes are asked", DEADLINE, async || {
        let nodes = b.client.cache_statistics().await.unwrap();
        nodes.iter().all(|node| node.unreachable.is_empty()).then_some(nodes)
    })
    .await;
    let counted: Vec<_> = nodes
        .iter()
        .map(|node| {
            let row = &node.rows[0];
            (&*node.node, &*row.namespace, row.hits_memory, row.hits_shared, row.misses, row.entries)
        })
        .collect();
    assert_eq!(counted, [("a", "default", 1, 0, 1, 1), ("b", "default", 0, 1, 0, 1)]);

    let cleared = b.client.clear_cache(v1::ClearCacheRequest::default()).await.unwrap();
    assert!(!cleared.unsaved);
    eventually("the other node has heard of it", DEADLINE, async || {
        let nodes = a.client.cache_statistics().await.unwrap();
        nodes.iter().flat_map(|node| &node.rows).all(|row| row.entries == 0).then_some(())
    })
    .await;
    generate(a).await;
    assert_eq!(received(), 2, "what Redis has is not found");
    generate(b).await;
    assert_eq!(received(), 2, "they share again");

    // A clear that was made before it started.
    cluster.replicas[0].client.clear_cache(v1::ClearCacheRequest::default()).await.unwrap();
    cluster.replicas[1].kill9().await;
    cluster.replicas[1].start().await;
    generate(&cluster.replicas[1]).await;
    assert_eq!(received(), 3, "it is known from the start");
}
