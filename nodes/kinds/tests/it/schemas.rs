use callboard_sdk::schema::Validator;
use serde_json::{Value, json};

fn wrong_fields(kind: &str, input: &Value) -> Vec<String> {
    let registry = callboard_kinds::all().unwrap();
    let validator = Validator::new(&registry.get(kind).unwrap().spec.input_schema).unwrap();
    match validator.check(input.to_string().as_bytes()) {
        Ok(()) => Vec::new(),
        Err(wrong) => wrong.into_iter().map(|v| format!("{} {}", v.field, v.description)).collect(),
    }
}

#[test]
fn the_built_in_kinds_are_these() {
    let registry = callboard_kinds::all().unwrap();
    let names: Vec<_> = registry.iter().map(|e| e.spec.name.as_str()).collect();
    assert_eq!(names, ["campaign.generate", "echo", "image.generate", "policy.analyze", "text.generate"]);
    assert!(callboard_kinds::register(registry).is_err(), "they cannot be there twice");
}

#[test]
fn every_schema_is_of_draft_2020_12_closed_but_for_echo_and_describes_every_field() {
    for entry in callboard_kinds::all().unwrap().iter() {
        for (which, schema) in [("input", &entry.spec.input_schema), ("result", &entry.spec.result_schema)] {
            let name = format!("{} {which}", entry.spec.name);
            let schema: Value = serde_json::from_str(schema).unwrap();
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
            assert_eq!(schema["title"], name.as_str());
            assert_eq!(schema["type"], "object", "{name}");
            let closed = schema.get("additionalProperties") == Some(&json!(false));
            assert_eq!(closed, entry.spec.name != "echo", "{name}");
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                assert!(schema["description"].is_string(), "{name}: {field}");
            }
        }
    }
}

/// Each: kind, a good input, changes of it, and what must be named of them.
#[test]
fn bad_inputs_are_refused_by_the_name_of_the_field() {
    let brief = json!({"product": "p", "audience": "a"});
    let policy = json!({"policy_type": "return", "text": "t"});
    let prompt = json!({"prompt": "p"});
    let cases = [
        ("echo", &json!({}), json!({"sleep_ms": -1}), "input.sleep_ms"),
        ("echo", &json!({}), json!({"sleep_ms": 86_400_001}), "input.sleep_ms"),
        ("echo", &json!({}), json!({"fail_times": 1.5}), "input.fail_times"),
        ("echo", &json!({}), json!({"panic": 1}), "input.panic"),
        ("echo", &json!({}), json!({"panic_times": "1"}), "input.panic_times"),
        ("text.generate", &prompt, json!({"prompt": ""}), "input.prompt"),
        ("text.generate", &prompt, json!({"prompt": "p".repeat(32_769)}), "input.prompt"),
        ("text.generate", &prompt, json!({"max_tokens": 0}), "input.max_tokens"),
        ("text.generate", &prompt, json!({"max_tokens": 32_769}), "input.max_tokens"),
        ("text.generate", &prompt, json!({"temperature": 2.1}), "input.temperature"),
        ("text.generate", &prompt, json!({"system": 1}), "input.system"),
        ("text.generate", &prompt, json!({"promt": "p"}), "promt"),
        ("image.generate", &prompt, json!({"width": 63}), "input.width"),
        ("image.generate", &prompt, json!({"height": 2_049}), "input.height"),
        ("image.generate", &prompt, json!({"size": 64}), "size"),
        ("campaign.generate", &brief, json!({"product": ""}), "input.product"),
        ("campaign.generate", &brief, json!({"audience": null}), "input.audience"),
        ("campaign.generate", &brief, json!({"key_points": ["a", 1]}), "input.key_points[1]"),
        ("campaign.generate", &brief, json!({"image": "yes"}), "input.image"),
        ("policy.analyze", &policy, json!({"policy_type": "refund"}), "input.policy_type"),
        ("policy.analyze", &policy, json!({"text": ""}), "input.text"),
        ("policy.analyze", &policy, json!({"text": "t".repeat(200_001)}), "input.text"),
    ];
    for (kind, good, change, named) in cases {
        assert_eq!(wrong_fields(kind, good), [""; 0], "{kind}");
        let mut bad = good.clone();
        for (field, value) in change.as_object().unwrap() {
            bad[field] = value.clone();
        }
        let wrong = wrong_fields(kind, &bad);
        assert!(wrong.len() == 1 && wrong[0].contains(named), "{kind} {named}: {wrong:?}");
    }
}

#[test]
fn what_is_required_is_named_and_every_wrong_field_at_once() {
    for (kind, fields) in [
        ("text.generate", &["prompt"][..]),
        ("image.generate", &["prompt"]),
        ("campaign.generate", &["product", "audience"]),
        ("policy.analyze", &["policy_type", "text"]),
    ] {
        let wrong = wrong_fields(kind, &json!({}));
        assert_eq!(wrong.len(), fields.len(), "{wrong:?}");
        for (field, wrong) in fields.iter().zip(&wrong) {
            assert!(wrong.contains(&format!("\"{field}\"")), "{wrong}");
        }
    }
    let wrong = wrong_fields("text.generate", &json!({"prompt": 1, "max_tokens": 0, "temperature": "hot"}));
    assert_eq!(wrong.len(), 3, "{wrong:?}");
}

#[test]
fn limits_count_characters_and_are_inclusive() {
    assert_eq!(
        wrong_fields("text.generate", &json!({"prompt": "ä".repeat(32_768), "max_tokens": 32_768})),
        [""; 0]
    );
    let text = "ä".repeat(200_000);
    assert_eq!(wrong_fields("policy.analyze", &json!({"policy_type": "other", "text": text})), [""; 0]);
    assert_eq!(
        wrong_fields("image.generate", &json!({"prompt": "p", "width": 64, "height": 2_048})),
        [""; 0]
    );
    assert_eq!(wrong_fields("echo", &json!({"sleep_ms": 86_400_000, "anything": {"else": []}})), [""; 0]);
    for not_an_object in [json!([]), json!("x"), json!(null)] {
        assert_eq!(wrong_fields("echo", &not_an_object).len(), 1);
    }
}
