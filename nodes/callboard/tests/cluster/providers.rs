//! What one node learns of providers, or an admin switches, is known on every other, and after every restart.

use crate::load::{DEADLINE, eventually, say};
use crate::replica::{Cluster, Replica, Settings};
use crate::room;
use callboard_client::v1::{self, BreakerState, ProviderSwitchState};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::Fault;
use std::time::Duration;
use tokio::time::Instant;

/// How soon every node is to know that a breaker is open.
const TOLD_WITHIN: Duration = Duration::from_millis(200);

fn ask() -> v1::GenerateRequest {
    let message =
        v1::ChatMessage { role: v1::ChatRole::User.into(), content: "tea".into(), ..Default::default() };
    v1::GenerateRequest { messages: vec![message], ..Default::default() }
}

async fn main_of(replica: &Replica) -> v1::Provider {
    let providers = replica.client.providers().await.unwrap();
    providers.into_iter().find(|provider| provider.name == "main").unwrap()
}

async fn is_open(replica: &Replica) -> bool {
    main_of(replica).await.breakers.iter().any(|breaker| breaker.state() == BreakerState::Open)
}

async fn is_disabled(replica: &Replica) -> bool {
    main_of(replica).await.switch.is_some_and(|switch| switch.state() == ProviderSwitchState::Disabled)
}

/// The third node never calls the provider that dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trip_and_a_switch_are_known_on_every_node_and_after_restarts() {
    let fake = FakeProvider::start().await.unwrap();
    let providers = format!(
        r#"[{{name="main", adapter="openai", base_url="{}", text_model="m"}}, {{name="offline", adapter="offline"}}]"#,
        fake.base_url()
    );
    let settings = ["a", "b", "c"].map(|name| {
        Settings::new(name)
            .env("CALLBOARD_BROKER__PROVIDERS", &*providers)
            .env("CALLBOARD_BROKER__BREAKER__FAILURES", "3")
            .env("CALLBOARD_BROKER__RETRY__MAX", "0")
    });
    let mut cluster = Cluster::start(room::alone().await, &settings).await;
    fake.fault(Fault::ServerFault { status: 500 });
    let [a, _, c] = &cluster.replicas[..] else { panic!("there are three") };
    for _ in 0..2 {
        a.client.generate(ask()).await.unwrap();
    }
    assert!(!is_open(a).await && !is_open(c).await);
    // From before the call that is one failure too many.
    let began = Instant::now();
    a.client.generate(ask()).await.unwrap();
    while !is_open(c).await {
        assert!(began.elapsed() < DEADLINE, "the third node does not know");
    }
    let took = began.elapsed();
    say(&format!("providers: a trip was known on another node {took:?} after the call began that opened it"));
    assert!(took < TOLD_WITHIN, "{took:?}");
    let received = fake.counts().received;
    c.client.generate(ask()).await.unwrap();
    assert_eq!(fake.counts().received, received, "the third node calls it no more than the first");

    let switch = v1::SwitchProviderRequest {
        name: "main".into(),
        state: ProviderSwitchState::Disabled.into(),
        reason: "dead".into(),
    };
    c.client.switch_provider(switch).await.unwrap();
    eventually("the first node has heard that it is disabled", DEADLINE, async || {
        is_disabled(&cluster.replicas[0]).await.then_some(())
    })
    .await;

    for replica in &mut cluster.replicas {
        replica.kill9().await;
    }
    for replica in &mut cluster.replicas {
        replica.start().await;
        assert!(is_open(replica).await && is_disabled(replica).await, "known from the start");
        let said = replica.said();
        assert!(said.contains("no calls go to a provider of the configuration"), "{said}");
    }
}
