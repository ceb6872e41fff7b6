//! The files under `examples/`, which the documents and the demo submit.

use crate::support::{Stage, answer};
use callboard_sdk::schema::Validator;
use serde_json::Value;
use std::path::PathBuf;

fn read(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn check(kind: &str, input: &str) {
    let registry = callboard_kinds::all().unwrap();
    let validator = Validator::new(&registry.get(kind).unwrap().spec.input_schema).unwrap();
    assert_eq!(validator.check(input.as_bytes()), Ok(()), "{kind}: {input}");
}

#[test]
fn each_fits_its_kind() {
    check("campaign.generate", &read("campaign.json"));
    check("policy.analyze", &read("return-policy.json"));
    let texts = read("texts.ndjson");
    assert_eq!(texts.lines().count(), 10);
    for line in texts.lines() {
        check("text.generate", line);
    }
}

#[tokio::test]
async fn the_return_policy_has_gaps_that_the_local_rules_find() {
    let input: Value = serde_json::from_str(&read("return-policy.json")).unwrap();
    let useless = || Ok(answer("no"));
    let stage = Stage::of("policy.analyze").text(useless()).text(useless()).text(useless());
    let result = stage.run(&input).await.unwrap();
    let score = result["score"].as_u64().unwrap();
    assert!((20..80).contains(&score), "{result:#}");
    for list in ["strengths", "risks", "missing_clauses", "suggestions"] {
        assert!(!result[list].as_array().unwrap().is_empty(), "{list}: {result:#}");
    }
}

#[test]
fn the_readme_names_every_example_and_every_kind() {
    let readme = read("README.md");
    for name in ["campaign.json", "return-policy.json", "texts.ndjson"] {
        assert!(readme.contains(&format!("examples/{name}")), "{name}");
    }
    for entry in callboard_kinds::all().unwrap().iter() {
        assert!(readme.contains(&format!("submit {} ", entry.spec.name)), "{}", entry.spec.name);
    }
}
