//! A node whose provider fails, on the wire.

use crate::node::{InProcess, eventually};
use callboard_client::v1;
use callboard_provider_broker::config::ProviderConfig;
use callboard_testkit::fake_provider::{Endpoint, FakeProvider, Fault, Rule};
use std::time::Duration;

const PROMPT: &str = r#"{"prompt":"a haiku about tea"}"#;
const KEY: &str = "sk-of-the-test";

async fn node(fake: &FakeProvider, with_offline: bool) -> InProcess {
    let provider = ProviderConfig {
        api_key_env: Some("TEST_KEY".into()),
        text_model: Some("fake-1".into()),
        ..ProviderConfig::openai("fake", fake.base_url())
    };
    let builder = InProcess::builder().env(|name| (name == "TEST_KEY").then(|| KEY.to_owned()));
    let change = |config: &mut callboard::config::Config| {
        config.broker.providers = vec![provider];
        if with_offline {
            config.broker.providers.push(ProviderConfig::offline());
        }
        config.broker.attempt_timeout = Duration::from_secs(2);
        // What is mended in a test is tried again at once, and by the task alone.
        config.broker.breaker.hard_cool_down = Duration::from_millis(1);
        config.broker.retry.max = 0;
    };
    builder.config(change).start().await
}

fn result(task: &v1::Task) -> serde_json::Value {
    assert_eq!(task.state(), v1::TaskState::Succeeded, "{task:?}");
    serde_json::from_slice(&task.result).unwrap()
}

/// The alert of a rule, once it stands so.
async fn alert(node: &InProcess, rule: &str, state: v1::AlertState) -> v1::Alert {
    eventually(&format!("{rule} is {state:?}"), async || {
        let alerts = node.client.alerts(v1::ListAlertsRequest::default()).await.unwrap().alerts;
        alerts.into_iter().find(|a| a.rule == rule && a.state() == state)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_once_is_asked_again_by_the_next_attempt() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let node = node(&fake, false).await;
    fake.rules([Rule::times(Fault::ServerFault { status: 500 }, 1).at(Endpoint::Chat)]);
    let task = node.run("text.generate", PROMPT).await;
    assert_eq!((task.attempt, task.failures), (2, 1), "{task:?}");
    let answer = result(&task);
    assert_eq!((&answer["provider"], &answer["text"]), (&"fake".into(), &"fake: a haiku about tea".into()));
    let failed = node.events(&task.id).await.into_iter().find_map(|e| e.error).unwrap();
    assert_eq!((failed.reason.as_str(), failed.retryable), ("PROVIDER_SERVER_FAULT", true));
    let told = format!("{:?}{:?}", node.events(&task.id).await, node.client.providers().await.unwrap());
    assert!(!told.contains(KEY), "the key is nowhere: {told}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_quota_falls_back_and_the_answer_says_so() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let node = node(&fake, true).await;
    fake.fault(Fault::Quota);
    let task = node.run("text.generate", PROMPT).await;
    assert_eq!(task.attempt, 1, "falling back is no failure: {task:?}");
    let answer = result(&task);
    assert_eq!((&answer["provider"], &answer["degraded"]), (&"offline".into(), &true.into()), "{answer}");
    fake.heal();
    assert_eq!(result(&node.run("text.generate", PROMPT).await)["degraded"], false);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_that_are_all_down_raise_an_alert_until_one_answers() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let node = node(&fake, false).await;
    let alert = |state| alert(&node, "all_providers_down", state);
    fake.fault(Fault::Overloaded);
    let request =
        v1::SubmitTaskRequest { max_attempts: Some(1), ..crate::node::request("text.generate", PROMPT) };
    let task = node.client.submit(request).await.unwrap().task;
    assert_eq!(node.wait(&task.id).await.state(), v1::TaskState::Failed);
    let firing = alert(v1::AlertState::Firing).await;
    fake.heal();
    result(&node.run("text.generate", PROMPT).await);
    assert_eq!(alert(v1::AlertState::Resolved).await.id, firing.id);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_left_out_is_seen_until_it_is_back() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let node = node(&fake, true).await;
    let state = async |state: &str| {
        let name = format!("callboard_provider_breaker{{provider=\"fake\",state=\"{state}\"}}");
        crate::metrics::samples(&node).await[&name]
    };
    assert_eq!(state("closed").await, 1.0);
    fake.fault(Fault::Quota);
    assert_eq!(result(&node.run("text.generate", PROMPT).await)["provider"], "offline");
    // A quota is that of the key.
    let of_key = async || {
        let breakers = node.client.providers().await.unwrap().remove(0).breakers;
        breakers.into_iter().find(|breaker| breaker.key == "key-1").unwrap()
    };
    let breaker = of_key().await;
    assert_eq!((breaker.model.as_str(), breaker.trips), ("fake-1", 1));
    assert_eq!(breaker.cause, "PROVIDER_QUOTA_EXCEEDED");
    assert!(breaker.state() != v1::BreakerState::Closed && breaker.since.is_some(), "{breaker:?}");
    assert_eq!((state("closed").await, state("open").await + state("half_open").await), (0.0, 1.0));
    let firing = alert(&node, "provider_breaker_open", v1::AlertState::Firing).await;
    assert_eq!((firing.subject.as_str(), firing.count), ("fake", 1));
    fake.heal();
    assert_eq!(result(&node.run("text.generate", PROMPT).await)["provider"], "fake");
    assert_eq!(alert(&node, "provider_breaker_open", v1::AlertState::Resolved).await.id, firing.id);
    assert_eq!(state("closed").await, 1.0);
    let breaker = of_key().await;
    assert_eq!((breaker.state(), breaker.cause.as_str(), breaker.trips), (v1::BreakerState::Closed, "", 1));
    node.stop().await;
}
