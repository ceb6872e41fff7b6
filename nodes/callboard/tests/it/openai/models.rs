//! Names of models, and what they lead to.

use super::{Bench, ask, header, provider, refusal};
use callboard::config::Alias;
use callboard_provider_broker::config::{ArmConfig, Experiment, Policy, RouteConfig, Subject, Target};
use callboard_testkit::FakeProvider;
use serde_json::{Value, json};

/// A bench with a second provider and two aliases.
async fn two() -> (Bench, FakeProvider) {
    let second = FakeProvider::start().await.unwrap();
    let also = provider("second", &second);
    let alias = |provider: &str, model: &str| Alias { provider: provider.into(), model: model.into() };
    let bench = Bench::with(|builder| {
        builder.config(|config| {
            config.broker.providers.push(also);
            config.openai.models.insert("fast".into(), alias("second", "small"));
            config.openai.models.insert("big".into(), alias("", "large"));
        })
    })
    .await;
    (bench, second)
}

#[tokio::test]
async fn a_name_leads_to_a_provider_and_a_model() {
    let (bench, second) = two().await;
    for (name, at, model) in [
        ("fast", "second", "small"),
        ("big", "main", "large"),
        ("second/tiny", "second", "tiny"),
        ("main/org/model", "main", "org/model"),
        ("auto", "main", "fake-text"),
        ("gpt-x", "main", "gpt-x"),
        ("meta-llama/Llama-3", "main", "meta-llama/Llama-3"),
    ] {
        let response = bench.chat(&ask(name)).await;
        assert_eq!(
            (header(&response, "x-callboard-provider"), header(&response, "x-callboard-model")),
            (at, model)
        );
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["model"], model, "{name}");
        let fake = if at == "second" { &second } else { &bench.fake };
        assert_eq!(fake.requests().last().unwrap().body["model"], model, "{name}");
    }
}

#[tokio::test]
async fn a_provider_that_is_named_is_the_only_one() {
    let (bench, second) = two().await;
    second.fault(callboard_testkit::fake_provider::Fault::Overloaded);
    let (status, _) = refusal(bench.chat(&ask("second/m")).await).await;
    assert_eq!((status, bench.fake.counts().received), (503, 0));
}

#[tokio::test]
async fn a_route_is_listed_and_leads_to_its_models() {
    let second = FakeProvider::start().await.unwrap();
    let also = provider("second", &second);
    let bench = Bench::with(|builder| {
        builder.config(|config| {
            config.broker.providers.push(also);
            let target = |provider: &str, model: &str| Target {
                provider: provider.into(),
                model: Some(model.into()),
                weight: 1,
                context_tokens: None,
            };
            let providers = vec![target("second", "small"), target("main", "tiny")];
            let policy = Some(Policy::Sticky);
            config.broker.routes.push(RouteConfig { name: "cheap".into(), policy, providers });
            let arm = |name: &str, share| ArmConfig {
                name: name.into(),
                share,
                route: Some("cheap".into()),
                ..ArmConfig::default()
            };
            let arms = vec![arm("now", 0), arm("new", 1)];
            config.broker.experiments.push(Experiment { name: "trial".into(), subject: Subject::User, arms });
            config
                .openai
                .models
                .insert("short".into(), Alias { provider: String::new(), model: "cheap".into() });
        })
    })
    .await;
    let list: Value = bench.get("models").await.json().await.unwrap();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert!(ids.contains(&json!("cheap")) && ids.contains(&json!("trial")), "{ids:?}");
    assert_eq!(bench.get("models/cheap").await.status(), 200);
    let of = async |model: &str, user: &str| {
        let mut body = ask(model);
        body["user"] = json!(user);
        let response = bench.chat(&body).await;
        header(&response, "x-callboard-model").to_owned()
    };
    let mut body = ask("trial");
    body["user"] = json!("anna");
    assert_eq!(header(&bench.chat(&body).await, "x-callboard-experiment"), "trial; new");
    let mut models = std::collections::BTreeSet::new();
    for user in 0..12 {
        let user = format!("user-{user}");
        let model = of("cheap", &user).await;
        // An alias may lead to a route, and a user stays where it is.
        assert_eq!(of("short", &user).await, model);
        models.insert(model);
    }
    assert_eq!(models.into_iter().collect::<Vec<_>>(), ["small", "tiny"]);
}

#[tokio::test]
async fn models_are_listed_and_one_is_shown() {
    let (bench, _second) = two().await;
    let list: Value = bench.get("models").await.json().await.unwrap();
    assert_eq!(list["object"], "list");
    let named: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| (&m["id"], &m["owned_by"])).collect();
    let expected = [
        ("big", "callboard"),
        ("fast", "callboard"),
        ("auto", "callboard"),
        ("main/fake-text", "main"),
        ("main/fake-image", "main"),
        ("main/fake-embedding", "main"),
        ("second/fake-text", "second"),
        ("second/fake-image", "second"),
        ("second/fake-embedding", "second"),
    ];
    let expected = expected.map(|(id, owner)| (json!(id), json!(owner)));
    assert_eq!(named, expected.iter().map(|(id, owner)| (id, owner)).collect::<Vec<_>>());
    for id in ["fast", "main/fake-text"] {
        let model: Value = bench.get(&format!("models/{id}")).await.json().await.unwrap();
        assert_eq!((&model["id"], &model["object"]), (&json!(id), &json!("model")));
        assert!(model["created"].as_i64().unwrap() > 1_700_000_000);
    }
    // A client escapes the slash of a name.
    let escaped: Value = bench.get("models/main%2Ffake-text").await.json().await.unwrap();
    assert_eq!(escaped["id"], "main/fake-text");
    let (status, error) = refusal(bench.get("models/gone").await).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
}
