//! What an admin does to providers, over gRPC and by the command line.

use crate::node::{InProcess, UpProcess, callboard, eventually};
use callboard::config::{Key, KeyHash, KeyRole};
use callboard_client::v1;
use callboard_client::v1::provider_service_client::ProviderServiceClient;
use callboard_testkit::FakeProvider;
use tonic::{Code, Request};

fn key(name: &str, role: KeyRole) -> Key {
    Key { name: name.into(), hash: KeyHash::of(name), namespace: String::new(), role }
}

fn disable() -> v1::SwitchProviderRequest {
    let state = v1::ProviderSwitchState::Disabled.into();
    v1::SwitchProviderRequest { name: "offline".into(), state, reason: String::new() }
}

#[tokio::test]
async fn where_keys_are_configured_an_admins_call_needs_an_admins() {
    let node = InProcess::builder()
        .config(|config| config.openai.keys = vec![key("team", KeyRole::Caller), key("ops", KeyRole::Admin)])
        .start()
        .await;
    let address = format!("http://{}", node.running.public);
    let mut client = ProviderServiceClient::connect(address).await.unwrap();
    let mut call = async |given: Option<&str>| {
        let mut request = Request::new(disable());
        if let Some(given) = given {
            request.metadata_mut().insert("authorization", format!("Bearer {given}").parse().unwrap());
        }
        client.switch_provider(request).await
    };
    assert_eq!(call(None).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(call(Some("made-up")).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(call(Some("team")).await.unwrap_err().code(), Code::PermissionDenied);
    let done = call(Some("ops")).await.unwrap().into_inner().provider.unwrap();
    assert_eq!(done.switch.unwrap().author, "ops");

    let env = [("CALLBOARD_ADDR", node.running.public.to_string())];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let listed = callboard(&["providers"], &env).await;
    assert!(listed.stdout.contains("disabled") && listed.stdout.contains("(ops)"), "{}", listed.stdout);
    let refused = callboard(&["providers", "reset", "offline"], &env).await;
    assert!(refused.stderr.contains("CALLBOARD_KEY"), "{}", refused.stderr);
    let keyed = [env[0], ("CALLBOARD_KEY", "ops")];
    let reset = callboard(&["providers", "reset", "offline"], &keyed).await;
    assert!(reset.stdout.contains("in use"), "{} {}", reset.stdout, reset.stderr);
}

#[tokio::test]
async fn a_provider_is_switched_tested_and_reset_by_the_command_line() {
    let fake = FakeProvider::start().await.unwrap();
    let node = InProcess::builder()
        .config(|config| {
            let mut main = callboard_provider_broker::config::ProviderConfig::openai("main", fake.base_url());
            main.text_model = Some("fake-text".into());
            config.broker.providers.insert(0, main);
        })
        .start()
        .await;
    let address = node.running.public.to_string();
    let run = async |args: &[&str]| callboard(args, &[("CALLBOARD_ADDR", address.as_str())]).await;
    let wrong = run(&["providers", "disable", "mian"]).await;
    assert!(
        wrong.stderr.contains("no provider is called `mian`; there are: main, offline"),
        "{}",
        wrong.stderr
    );
    let tested = run(&["providers", "test", "main"]).await;
    assert!(tested.stdout.starts_with("main answered with fake-text in "), "{}", tested.stdout);
    run(&["providers", "disable", "main", "--reason", "the bill"]).await;
    let generated = run(&["generate", "tea", "--provider", "main"]).await;
    assert!(generated.stderr.contains("main is disabled: the bill"), "{}", generated.stderr);
    let drained = run(&["providers", "drain", "main"]).await;
    assert!(drained.stdout.contains("main is drained: no calls in flight"), "{}", drained.stdout);
    let unknown = run(&["providers", "drain", "mian", "--no-wait"]).await;
    assert!(unknown.stderr.contains("no provider is called `mian`"), "{}", unknown.stderr);
    let unknown = node.client.provider_load("mian").await.unwrap_err().to_string();
    assert!(unknown.contains("no provider is called `mian`; there are: main, offline"), "{unknown}");
    let weighed = run(&["providers", "weight", "main", "7"]).await;
    assert!(weighed.stdout.contains("main: weight 7 by an admin"), "{}", weighed.stdout);
    assert!(weighed.stderr.contains("no policy looks at this weight now"), "{}", weighed.stderr);
    let back = run(&["providers", "weight", "main", "--as-configured"]).await;
    assert!(!back.stdout.contains("weight 7"), "{}", back.stdout);
    let first = run(&["providers", "primary", "offline"]).await;
    assert!(first.stdout.contains("number 2 in the configuration"), "{}", first.stdout);
    assert!(run(&["cache", "clear"]).await.stdout.contains("forgotten"));
    assert!(run(&["providers", "close-breaker", "main"]).await.stdout.contains("drained"));
    run(&["providers", "enable", "main"]).await;
    let again = run(&["providers", "reset", "offline"]).await;
    assert!(!again.stdout.contains("made the first"), "{}", again.stdout);
    let json: serde_json::Value =
        serde_json::from_str(&run(&["providers", "--output", "json"]).await.stdout).unwrap();
    assert_eq!(
        (&json["providers"][0]["name"], &json["providers"][0]["switch"]),
        (&"main".into(), &serde_json::Value::Null)
    );
}

#[tokio::test]
async fn the_file_is_read_again_on_a_signal_and_on_demand_and_a_wrong_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callboard.toml");
    let providers = |names: &[&str]| {
        let one = |name: &&str| format!("[[broker.providers]]\nname = \"{name}\"\nadapter = \"offline\"\n");
        std::fs::write(&file, names.iter().map(one).collect::<String>()).unwrap();
    };
    providers(&["one"]);
    let node =
        UpProcess::start(&folder.path().join("data"), &["--config", file.to_str().unwrap()], &[]).await;
    let names = async || {
        let listed = node.client.providers().await.unwrap();
        listed.into_iter().map(|provider| provider.name).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["one"]);
    providers(&["two", "one"]);
    let said = node.cli(&["providers", "reload"]).await;
    assert!(
        said.stdout.contains(": reloaded: two, then one; changed: broker.providers.two (new)"),
        "{} {}",
        said.stdout,
        said.stderr
    );
    assert_eq!(names().await, ["two", "one"]);
    providers(&["two", "two"]);
    let said = node.cli(&["providers", "reload"]).await;
    assert!(said.stderr.contains("broker.providers[1].name"), "{}", said.stderr);
    assert_eq!(said.code, 1);
    let said = node.cli(&["providers", "reload", "--node", "nobody"]).await;
    assert!(said.stderr.contains("no node `nobody` calls providers; there are: "), "{}", said.stderr);
    assert_eq!(names().await, ["two", "one"], "what was in force stays so");
    providers(&["three"]);
    let pid = node.process.pid().to_string();
    let sent = tokio::process::Command::new("sh").args(["-c", "kill -s HUP \"$0\"", &pid]).status();
    assert!(sent.await.unwrap().success());
    eventually("the file is read again", async || (names().await == ["three"]).then_some(())).await;
}
