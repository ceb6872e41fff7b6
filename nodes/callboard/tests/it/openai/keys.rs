//! Who may call.

use super::{Bench, ask, header, refusal};
use crate::node::callboard;
use callboard::config::{Key, KeyHash, KeyRole, Overrides};
use serde_json::json;

fn key(name: &str, key: &str) -> Key {
    Key { name: name.into(), hash: KeyHash::of(key), namespace: String::new(), role: KeyRole::Caller }
}

#[tokio::test]
async fn with_keys_only_who_has_one_may_call() {
    let bench = Bench::with(|builder| {
        builder.config(|config| config.openai.keys = vec![key("a", "cb-one"), key("b", "cb-two")])
    })
    .await;
    for good in ["cb-one", "cb-two"] {
        let response = bench.post("chat/completions", &ask("m")).bearer_auth(good).send().await.unwrap();
        assert_eq!(response.status(), 200, "{good}");
    }
    for (given, path) in [(None, "models"), (Some("cb-geheim"), "models"), (Some("cb-geheim"), "made-up")] {
        let request = bench.http.get(bench.url(path));
        let request = given.into_iter().fold(request, |request, key| request.bearer_auth(key));
        let response = request.send().await.unwrap();
        assert_eq!(header(&response, "www-authenticate"), "Bearer");
        let (status, error) = refusal(response).await;
        assert_eq!((status, &error["code"]), (401, &json!("invalid_api_key")), "{error}");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
    assert_eq!(bench.fake.counts().received, 2);
    // What providers are sent is their own key, never the caller's.
    let told = format!("{:?}", bench.fake.requests());
    assert!(!told.contains("cb-one") && !told.contains("cb-two"), "{told}");
}

#[tokio::test]
async fn a_key_that_was_made_is_let_in_by_the_lines_that_come_with_it() {
    let said = callboard(&["keys", "new", "team-a"], &[]).await;
    let (first, lines) = said.stdout.split_once("\n\n").unwrap();
    let key = first.strip_prefix("key: ").unwrap().split(' ').next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callboard.toml");
    std::fs::write(&file, lines).unwrap();
    let config = callboard::config::load(Some(&file), &|_| None, &Overrides::default()).unwrap();
    assert_eq!(config.openai.keys[0].hash, KeyHash::of(key));
    let bench = Bench::with(|builder| builder.config(|to| to.openai = config.openai)).await;
    let response = bench.post("chat/completions", &ask("m")).bearer_auth(key).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let other = callboard(&["keys", "new", "team-a", "--output", "json"], &[]).await;
    let other: serde_json::Value = serde_json::from_str(&other.stdout).unwrap();
    assert!(other["key"].as_str().unwrap().starts_with("cb-"), "{other}");
    assert_ne!(other["key"], key, "each is another");
}

#[tokio::test]
async fn without_keys_a_page_in_a_browser_may_not_call() {
    let bench = Bench::start().await;
    let request = bench.post("chat/completions", &ask("m")).header("origin", "https://example.com");
    let (status, error) = refusal(request.send().await.unwrap()).await;
    assert_eq!((status, &error["code"]), (403, &json!("origin_not_allowed")));
    assert_eq!(bench.fake.counts().received, 0);
}

#[tokio::test]
async fn without_keys_nobody_may_call_where_others_reach_the_listener() {
    let bench = Bench::with(|builder| {
        builder.config(|config| {
            config.listen.public = "0.0.0.0:0".parse().unwrap();
            config.listen.insecure = true;
        })
    })
    .await;
    let url = format!("http://127.0.0.1:{}/v1/models", bench.node.running.public.port());
    let (status, error) = refusal(bench.http.get(url).bearer_auth("x").send().await.unwrap()).await;
    assert_eq!(status, 401);
    assert!(error["message"].as_str().unwrap().contains("openai.keys"), "{error}");
}
