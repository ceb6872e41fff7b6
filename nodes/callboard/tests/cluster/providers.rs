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

/// Runs a command against a replica.
async fn command(replica: &Replica, args: &[&str]) -> std::process::Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_callboard"));
    command.args(args).env("CALLBOARD_ADDR", replica.api.to_string()).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_reloads_and_weighs_and_drains_on_every_node() {
    let (fake, folder) = (FakeProvider::start().await.unwrap(), tempfile::tempdir().unwrap());
    let file = |node: &str| folder.path().join(format!("{node}.toml"));
    let write = |node: &str, extra: &str| {
        let main = format!("name = \"main\"\nadapter = \"openai\"\nbase_url = \"{}\"", fake.base_url());
        let config = format!(
            "[[broker.providers]]\n{main}\ntext_model = \"m\"\n\
             [[broker.providers]]\nname = \"offline\"\nadapter = \"offline\"\n{extra}"
        );
        std::fs::write(file(node), config).unwrap();
    };
    let settings = ["a", "b"].map(|name| {
        write(name, "");
        Settings::new(name).config(file(name))
    });
    let cluster = Cluster::start(room::shared().await, &settings).await;
    let [a, b] = &cluster.replicas[..] else { panic!("there are two") };

    // The file of one node is wrong: the other is reloaded.
    let weighted = "[broker.routing]\npolicy = \"weighted\"\n";
    write("a", "[broker.routing]\npolicy = \"fastest\"\n");
    write("b", weighted);
    let said = command(a, &["providers", "reload"]).await;
    let (out, err) = (text(&said.stdout), text(&said.stderr));
    assert_eq!(said.status.code(), Some(1), "{out} {err}");
    assert!(out.contains("b: reloaded: main, then offline; changed: broker.routing"), "{out}");
    assert!(err.contains("these go on as before") && err.contains("a: ") && err.contains("fastest"), "{err}");
    write("a", weighted);
    let said = command(b, &["providers", "reload", "--node", "a"]).await;
    let out = text(&said.stdout);
    assert!(out.contains("a: reloaded") && !out.contains("b: "), "{out}");

    let said = command(a, &["providers", "weight", "main", "7", "--reason", "more"]).await;
    assert!(text(&said.stdout).contains("main: weight 7 by an admin"), "{said:?}");
    eventually("the other node has heard of the weight", DEADLINE, async || {
        (main_of(b).await.weights.first()?.weight == 7).then_some(())
    })
    .await;

    // A call from the one node, which the other one waits for.
    fake.fault(Fault::Hang);
    let caller = b.client.clone();
    let mut calls = tokio::task::JoinSet::new();
    calls.spawn(
        async move { caller.generate(v1::GenerateRequest { provider: "main".into(), ..ask() }).await },
    );
    fake.wait(|counts| counts.in_flight == 1, DEADLINE).await.unwrap();
    let said = command(a, &["providers", "drain", "main", "--timeout", "1s"]).await;
    assert_eq!(said.status.code(), Some(124), "{said:?}");
    assert!(text(&said.stdout).contains("main is draining: 1 in flight from b"), "{said:?}");
    let said = command(a, &["providers", "drain", "main", "--no-wait", "--output", "json"]).await;
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let load: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&load["nodes"][1]["node"], &load["nodes"][1]["in_flight"]), (&"b".into(), &1.into()));
    calls.abort_all();
    let said = command(a, &["providers", "drain", "main"]).await;
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    assert!(text(&said.stdout).contains("main is drained: no calls in flight"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_one_node_is_told_and_a_key_that_two_get_at_once_are_known_on_both() {
    let fake = FakeProvider::start().await.unwrap();
    let providers =
        format!(r#"[{{name="main", adapter="openai", base_url="{}", text_model="m"}}]"#, fake.base_url());
    let settings = ["a", "b"].map(|name| {
        Settings::new(name)
            .env("CALLBOARD_BROKER__PROVIDERS", &*providers)
            .env("CALLBOARD_BROKER__RETRY__MAX", "0")
    });
    let cluster = Cluster::start(room::shared().await, &settings).await;
    let [a, b] = &cluster.replicas[..] else { panic!("there are two") };

    fake.fault(Fault::Delay { ms: 1_500 });
    let mut tries = 0;
    // Nodes do not wait for Redis when it is slow, and make a call each: another key is tried then.
    let both = eventually("two nodes make one call for a key", DEADLINE, async || {
        tries += 1;
        let keyed = || v1::GenerateRequest { idempotency_key: format!("task/{tries}"), ..ask() };
        let before = fake.counts().received;
        let (one, two) = tokio::join!(a.client.generate(keyed()), b.client.generate(keyed()));
        (fake.counts().received == before + 1).then_some([one.unwrap(), two.unwrap()])
    })
    .await;
    assert_eq!(both[0].text, both[1].text);
    let replayed = both
        .into_iter()
        .filter(|answer| answer.summary.as_ref().unwrap().from_cache() == v1::CacheSource::Replayed);
    assert_eq!(replayed.count(), 1);

    fake.heal();
    fake.fault(Fault::RateLimit { retry_after: Some(50) });
    a.client.generate(ask()).await.unwrap_err();
    fake.heal();
    let received = fake.counts().received;
    eventually("the other node holds its calls back", DEADLINE, async || is_open(b).await.then_some(()))
        .await;
    b.client.generate(ask()).await.unwrap_err();
    assert_eq!(fake.counts().received, received);
}
