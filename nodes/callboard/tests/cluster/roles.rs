//! Replicas that host some of the roles.

use crate::load::{DEADLINE, all_end, request, submit};
use crate::replica::{Cluster, Settings};
use crate::room;
use callboard_client::v1::TaskState;
use callboard_testkit::FakeProvider;
use serde_json::json;

const KEY: &str = "sk-only-the-broker-knows";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_only_replica_reaches_the_broker_over_the_mesh_and_holds_no_key() {
    const TASKS: usize = 5;
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let broker = Settings::new("broker")
        .without_worker()
        .env("OPENAI_API_KEY", KEY)
        .env("OPENAI_BASE_URL", fake.base_url());
    let worker = Settings::new("worker").roles(&["worker"]);
    let mut cluster = Cluster::start(room::shared().await, &[broker, worker]).await;
    let client = cluster.client();

    let prompts = (0..TASKS).map(|n| request("text.generate", &format!(r#"{{"prompt":"number {n}"}}"#)));
    let ids = submit(&client, prompts).await;
    for (n, task) in all_end(&client, &ids, DEADLINE).await.into_iter().enumerate() {
        assert_eq!((task.state(), task.node.as_str()), (TaskState::Succeeded, "worker"), "{task:?}");
        let result = client.get(&task.id, true).await.unwrap().result;
        let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
        assert_eq!(result["text"], format!("fake: number {n}"), "{result}");
        assert_eq!(result["provider"], "openai", "{result}");
    }
    assert_eq!(fake.requests().len(), TASKS, "each was asked once, with the key");

    // The endpoint that speaks OpenAI's API asks the broker over the mesh too.
    let url = format!("http://{}/v1/chat/completions", cluster.replica("worker").api);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for stream in [false, true] {
        let messages = json!([{"role": "user", "content": "hello you"}]);
        let body = json!({"model": "auto", "messages": messages, "stream": stream});
        let answer = http.post(&url).json(&body).send().await.unwrap().error_for_status().unwrap();
        assert_eq!(answer.headers()["x-callboard-provider"], "openai");
        assert!(answer.text().await.unwrap().contains("hello"));
    }

    // The process that ran them holds the key nowhere it could have got it from.
    let pid = cluster.replica("worker").pid();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(!environment.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
    let nodes = client.nodes().await.unwrap();
    let roles = |name| nodes.iter().find(|node| node.name == name).unwrap().roles.clone();
    assert_eq!(roles("worker"), ["supervisor", "worker"]);
    assert_eq!(roles("broker"), ["supervisor", "provider-broker", "alert"]);

    // Without a broker a worker's tasks wait for one, and end once it is back.
    cluster.replica("broker").kill9().await;
    let worker = cluster.replica("worker").client.clone();
    let ids = submit(&worker, [request("text.generate", r#"{"prompt":"patience"}"#)]).await;
    cluster.replica("broker").start().await;
    let task = all_end(&worker, &ids, DEADLINE).await.remove(0);
    assert_eq!(task.state(), TaskState::Succeeded, "{task:?}");
}
