use crate::support::{Stage, TASK, answer, summary};
use callboard_sdk::llm::{Error, ErrorKind, Role, TextResponse};
use serde_json::{Value, json};

const GOOD: &str = r#"{"score": 64, "strengths": ["A clear time limit."], "risks": [],
    "missing_clauses": ["Exchanges"], "suggestions": ["Say who pays."]}"#;

fn input() -> Value {
    json!({"policy_type": "return", "text": "Unworn items may come back within 30 days. No refunds on sale items."})
}

#[tokio::test]
async fn a_providers_analysis_is_checked_and_given() {
    let stage = Stage::of("policy.analyze").text(Ok(answer(&format!("```json\n{GOOD}\n```"))));
    let result = stage.run(&input()).await.unwrap();
    assert_eq!(
        result,
        json!({
            "score": 64, "strengths": ["A clear time limit."], "risks": [], "missing_clauses": ["Exchanges"],
            "suggestions": ["Say who pays."], "provider": "openai", "model": "gpt-test", "degraded": false,
            "offline": false, "source": "provider",
        })
    );
    let asked = stage.asked_texts();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].json);
    assert_eq!(asked[0].idempotency_key, Some(format!("{TASK}/analysis-1")));
    let last = asked[0].messages.last().unwrap().content.text();
    assert!(last.contains("Unworn items may come back"), "{last}");
    let skeleton = last.lines().last().unwrap().strip_prefix("JSON skeleton: ").unwrap();
    let skeleton: Value = serde_json::from_str(skeleton).unwrap();
    assert_eq!(
        skeleton,
        json!({"score": 0, "strengths": [""], "risks": [""], "missing_clauses": [""], "suggestions": [""]})
    );
}

#[tokio::test]
async fn a_malformed_answer_is_asked_again_with_what_was_wrong() {
    let stage = Stage::of("policy.analyze")
        .text(Ok(answer(r#"{"score": "high", "strengths": [], "risks": [], "suggestions": []}"#)))
        .text(Err(Error::new(ErrorKind::MalformedAnswer, "the body is no JSON")))
        .text(Ok(answer(GOOD)));
    let result = stage.run(&input()).await.unwrap();
    assert_eq!((&result["source"], &result["score"]), (&json!("provider"), &json!(64)));

    let asked = stage.asked_texts();
    assert_eq!(asked.len(), 3);
    let roles: Vec<_> = asked[1].messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert!(asked[1].messages[2].content.text().contains("high"));
    let again = asked[1].messages[3].content.text();
    assert!(again.contains("`score` must be a number") && again.contains("`missing_clauses`"), "{again}");
    assert_eq!(asked[2].messages.len(), 2, "there is no answer to show again");
    let keys: Vec<_> = asked.iter().map(|a| a.idempotency_key.clone().unwrap()).collect();
    assert_eq!(keys, [1, 2, 3].map(|n| format!("{TASK}/analysis-{n}")));
    let percents: Vec<_> = stage.progress().into_iter().map(|(percent, _)| percent).collect();
    assert_eq!(percents, [10, 35, 60, 100]);
}

#[tokio::test]
async fn three_useless_answers_lead_to_the_local_rules_and_are_not_hidden() {
    let stage = Stage::of("policy.analyze")
        .text(Ok(answer("I would rather not.")))
        .text(Ok(answer("{\"score\": 3")))
        .text(Ok(answer("[]")));
    let result = stage.run(&input()).await.unwrap();
    assert_eq!(stage.asked_texts().len(), 3);
    assert_eq!((&result["source"], &result["provider"]), (&json!("fallback"), &json!("local")));
    assert_eq!((&result["degraded"], &result["offline"]), (&json!(true), &json!(false)));
    let reason = result["degraded_reason"].as_str().unwrap();
    assert!(reason.contains("3 answers") && reason.contains("not an object"), "{reason}");

    // Two of ten clauses, a risky phrase and a short text.
    assert_eq!(result["score"], 4);
    assert_eq!(result["strengths"].as_array().unwrap().len(), 2);
    assert_eq!(result["missing_clauses"].as_array().unwrap().len(), 8);
    assert_eq!(result["risks"].as_array().unwrap().len(), 2);
    let percents: Vec<_> = stage.progress().into_iter().map(|(percent, _)| percent).collect();
    assert_eq!(percents, [10, 35, 60, 90, 100]);
}

#[tokio::test]
async fn an_offline_analysis_is_labelled() {
    let offline = TextResponse { summary: summary("offline", "offline-template-1"), ..answer(GOOD) };
    let result = Stage::of("policy.analyze").text(Ok(offline)).run(&input()).await.unwrap();
    assert_eq!((&result["offline"], &result["degraded"]), (&json!(true), &json!(true)));
    assert_eq!(result["source"], "provider");
}

#[tokio::test]
async fn a_provider_that_does_not_answer_fails_the_attempt() {
    for kind in ErrorKind::ALL.iter().filter(|k| **k != ErrorKind::MalformedAnswer) {
        let stage = Stage::of("policy.analyze").text(Err(Error::new(*kind, "no answer")));
        let failure = stage.run(&input()).await.unwrap_err();
        assert_eq!(failure.error.reason, kind.reason());
        assert_eq!(failure.error.retryable, kind.is_retryable());
        assert_eq!(stage.asked_texts().len(), 1);
    }
}

#[tokio::test]
async fn a_cancel_drops_the_call() {
    let (failure, dropped) = Stage::of("policy.analyze").cancel_in_call(&input()).await;
    assert!(failure.error.message.contains("cancelled") && dropped);
}
