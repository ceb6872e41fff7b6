//! Budgets of namespaces, as the endpoint's callers meet them.

use super::{Bench, ask, ask_stream, header, refusal};
use callboard::config::{Key, KeyHash, KeyRole};
use callboard_domain::Money;
use callboard_provider_broker::{Budget, Price};
use serde_json::{Value, json};

/// What users of other gateways complain about: budgets that a pass-through route walks around.
#[tokio::test]
async fn budgets_that_a_pass_through_route_walks_around() {
    let key = |name: &str, namespace: &str| Key {
        name: name.into(),
        hash: KeyHash::of(name),
        namespace: namespace.into(),
        role: KeyRole::Caller,
    };
    let usd = |text: &str| Money::parse(text);
    let bench = Bench::with(|builder| {
        builder.config(|config| {
            config.openai.keys = vec![key("cb-lab", "lab"), key("cb-other", "")];
            // A dollar a token.
            config.broker.prices = vec![Price {
                model: "*".into(),
                input_per_million: usd("1000000"),
                output_per_million: usd("1000000"),
                per_image: usd("200"),
                ..Price::default()
            }];
            config.broker.budgets =
                vec![Budget { namespace: "lab".into(), usd_per_day: usd("105").unwrap() }];
        })
    })
    .await;
    let short = |mut body: Value| {
        body["max_tokens"] = json!(100);
        body
    };
    let post = async |path: &str, body: &Value, key: &str| {
        bench.post(path, body).bearer_auth(key).send().await.unwrap()
    };
    // Two tokens of prompt and three of answer; it might have been over a hundred.
    assert_eq!(post("chat/completions", &short(ask("m")), "cb-lab").await.status(), 200);
    let budget = bench.node.client.list_providers().await.unwrap().budgets.remove(0);
    assert_eq!(Money::from_picodollars(budget.spent_picodollars).to_string(), "5.00");
    for (path, body) in [
        ("chat/completions", short(ask("m"))),
        ("chat/completions", short(ask_stream("m"))),
        ("images/generations", json!({"prompt": "a cup"})),
    ] {
        let response = post(path, &body, "cb-lab").await;
        assert_eq!(header(&response, "x-should-retry"), "false", "{path}");
        let (status, error) = refusal(response).await;
        assert_eq!((status, &error["code"]), (429, &json!("insufficient_quota")), "{path}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with("the budget of the namespace `lab` has no room: of $105.00 a day $5.00"),
            "{message}"
        );
    }
    assert_eq!(bench.fake.counts().received, 1, "nothing more was sent");
    let page =
        bench.http.get(format!("http://{}/metrics", bench.node.running.admin.unwrap())).send().await.unwrap();
    let page = page.text().await.unwrap();
    for line in [
        "callboard_provider_cost_usd_total{provider=\"main\",model=\"m\"} 5",
        "callboard_budget_used_ratio{namespace=\"lab\"} 0.047",
    ] {
        assert!(page.lines().any(|of| of.starts_with(line)), "{line} is not in\n{page}");
    }
    // Another key is of another namespace, and so is a call over gRPC.
    assert_eq!(post("chat/completions", &short(ask("m")), "cb-other").await.status(), 200);
    // Nobody gives oneself a namespace.
    let forged = bench.post("chat/completions", &short(ask("m"))).bearer_auth("cb-lab");
    let forged =
        forged.header("namespace", "other").header("x-callboard-namespace", "other").send().await.unwrap();
    assert_eq!(refusal(forged).await.0, 429);
}
