//! What nodes share of answers, and clearing it.

use crate::load::{DEADLINE, eventually};
use crate::replica::{Cluster, Replica, Settings};
use crate::room;
use callboard_client::v1;
use callboard_testkit::FakeProvider;

fn ask(prompt: &str) -> v1::GenerateRequest {
    let message =
        v1::ChatMessage { role: v1::ChatRole::User.into(), content: prompt.into(), ..Default::default() };
    v1::GenerateRequest { messages: vec![message], ..Default::default() }
}

async fn generate(replica: &Replica, prompt: &str) {
    replica.client.generate(ask(prompt)).await.unwrap();
}

/// A prompt that was answered once, on the first of these nodes, and that the second one then knew. Nodes do not wait for Redis
/// when it is slow, so another prompt is tried then. With how many were.
async fn shared(fake: &FakeProvider, [one, other]: [&Replica; 2], name: &str) -> (String, u64) {
    let mut tries = 0;
    let prompt = eventually("nodes share an answer", DEADLINE, async || {
        tries += 1;
        let (prompt, before) = (format!("{name} {tries}"), fake.counts().received);
        for replica in [one, one, other] {
            generate(replica, &prompt).await;
        }
        (fake.counts().received == before + 1).then_some(prompt)
    })
    .await;
    (prompt, tries)
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
    let (tea, tries) = shared(&fake, [a, b], "tea").await;
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
    // In the tries before the last one Redis was too slow for the other node.
    let missed = tries - 1;
    assert_eq!(counted, [("a", "default", tries, 0, tries, tries), ("b", "default", 0, 1, missed, tries)]);

    let cleared = b.client.clear_cache(v1::ClearCacheRequest::default()).await.unwrap();
    assert!(!cleared.unsaved);
    eventually("the other node has heard of it", DEADLINE, async || {
        let nodes = a.client.cache_statistics().await.unwrap();
        nodes.iter().flat_map(|node| &node.rows).all(|row| row.entries == 0).then_some(())
    })
    .await;
    let before = received();
    generate(a, &tea).await;
    assert_eq!(received(), before + 1, "what Redis has is not found");
    let (coffee, _) = shared(&fake, [a, b], "coffee").await;

    // A clear that was made before it started.
    cluster.replicas[0].client.clear_cache(v1::ClearCacheRequest::default()).await.unwrap();
    cluster.replicas[1].kill9().await;
    cluster.replicas[1].start().await;
    let before = received();
    generate(&cluster.replicas[1], &coffee).await;
    assert_eq!(received(), before + 1, "it is known from the start");
}
