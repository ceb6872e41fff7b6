//! What the file says of providers, their keys and limits: the lists that are commented out in the default.

use super::{DEFAULT, Overrides, load};
use callboard_provider_broker::Limit;
use callboard_provider_broker::config::{
    ArmConfig, Experiment, KeyConfig, Policy, ProviderConfig, RouteConfig, Subject, Target,
};
use figment::Provider;
use figment::providers::Serialized;
use std::time::Duration;

/// What is wrong with a file, if anything is.
fn wrong(text: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), &|_| None, &Overrides::default()).err().map(|e| e.to_string())
}

fn names(all: &impl serde::Serialize) -> Vec<String> {
    let data = Serialized::defaults(all).data().unwrap();
    data.into_values().flat_map(|dict| dict.into_keys()).collect()
}

#[test]
fn the_default_file_shows_every_key_of_a_provider_its_keys_and_a_limit() {
    let some = || Some("a".to_owned());
    let key =
        KeyConfig { id: some(), env: some(), file: Some("a".into()), weight: 2, max_in_flight: Some(1) };
    let provider = ProviderConfig {
        base_url: some(),
        api_key_env: some(),
        api_key_file: Some("a".into()),
        text_model: some(),
        image_model: some(),
        ..ProviderConfig::offline()
    };
    let limit = Limit {
        namespace: some(),
        provider: some(),
        key: some(),
        model: some(),
        requests_per_minute: Some(1),
        tokens_per_minute: Some(1),
        burst: Some(Duration::from_secs(1)),
    };
    let target = Target { provider: "a".into(), model: some(), weight: 1, context_tokens: Some(1) };
    let policy = Some(Policy::Weighted);
    let route = RouteConfig { name: "a".into(), policy, providers: Vec::new() };
    let arm = ArmConfig { route: some(), provider: some(), model: some(), ..ArmConfig::default() };
    let experiment = Experiment { name: "a".into(), subject: Subject::Task, arms: Vec::new() };
    for name in [names(&arm), names(&experiment)].concat() {
        assert!(DEFAULT.contains(&format!("{name} = ")), "{name} is missing");
    }
    let all = [names(&key), names(&provider), names(&limit), names(&target), names(&route)].concat();
    assert!(all.len() > 15, "{all:?}");
    for name in all {
        assert!(DEFAULT.contains(&format!("{name} = ")), "{name} is missing");
    }
    assert!(DEFAULT.contains("[[broker.providers.keys]]"));
}

#[test]
fn the_examples_of_the_page_about_routing_can_be_used() {
    let page = include_str!("../../../../docs/operations/routing.md");
    let examples: Vec<_> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```")).collect();
    assert!(examples.len() > 3);
    let providers: String = ["openai", "azure", "local"]
        .map(|name| format!("[[broker.providers]]\nname = \"{name}\"\nadapter = \"openai\"\n"))
        .concat();
    for (example, _) in examples {
        assert_eq!(wrong(&format!("{providers}{example}")), None, "{example}");
    }
}

#[test]
fn a_provider_may_have_several_keys_and_what_is_wrong_with_one_is_named() {
    let file = "[[broker.providers]]\nname = \"a\"\nadapter = \"openai\"\n\
        [[broker.providers.keys]]\nenv = \"A\"\n\
        [[broker.providers.keys]]\nid = \"b\"\nfile = \"f\"\nweight = 3\nmax_in_flight = 5\n\
        [[broker.limits]]\nprovider = \"a\"\nkey = \"b\"\nrequests_per_minute = 1\n";
    assert_eq!(wrong(file), None);
    for (old, new, field) in [
        ("= 3", "= 0", "broker.providers[0].keys[1].weight"),
        ("id = \"b\"", "id = \"key-1\"", "broker.providers[0].keys[1].id"),
        ("key = \"b\"", "key = \"c\"", "broker.limits[0].key"),
        ("env = \"A\"", "secret = \"A\"", "secret"),
    ] {
        let said = wrong(&file.replace(old, new)).unwrap();
        assert!(said.contains(field), "{said}");
    }
}
