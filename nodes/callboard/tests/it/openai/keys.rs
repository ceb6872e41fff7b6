//! Who may call.

use super::{Bench, ask, header, refusal};
use callboard::config::{Key, KeyHash};
use serde_json::json;

fn key(name: &str, key: &str) -> Key {
    Key { name: name.into(), hash: KeyHash::of(key), namespace: String::new() }
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
