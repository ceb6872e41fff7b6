use crate::support::{Stage, TASK, answer, summary};
use callboard_sdk::llm::{Error, ErrorKind, Message, Role, TextResponse};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_text_comes_with_who_wrote_it_and_what_it_took() {
    let stage = Stage::of("text.generate").text(Ok(answer("It\0s on.")));
    let result = stage.run(&json!({"prompt": "Is it on?"})).await.unwrap();
    assert_eq!(
        result,
        json!({
            "text": "Its on.",
            "provider": "openai",
            "model": "gpt-test",
            "usage": {"input_tokens": 12, "output_tokens": 34},
            "degraded": false,
            "offline": false,
        })
    );
}

#[tokio::test]
async fn every_field_reaches_the_provider() {
    let stage = Stage::of("text.generate").text(Ok(answer("Yes.")));
    let input = json!({
        "prompt": "Is it on?", "system": "Be brief.", "model": "m", "max_tokens": 16.0,
        "temperature": 0.5, "provider": "openai",
    });
    stage.run(&input).await.unwrap();
    let asked = &stage.asked_texts()[0];
    let message = |role, text: &str| Message { role, content: text.into() };
    assert_eq!(asked.messages, [message(Role::System, "Be brief."), message(Role::User, "Is it on?")]);
    assert_eq!((asked.model.as_deref(), asked.provider.as_deref()), (Some("m"), Some("openai")));
    assert_eq!((asked.max_tokens, asked.temperature, asked.json), (Some(16), Some(0.5), false));
    assert_eq!(asked.idempotency_key, Some(format!("{TASK}/text")));
}

#[tokio::test]
async fn an_answer_of_the_offline_generator_is_labelled_so_even_if_routing_forgot() {
    for degraded in [None, Some("no provider is configured".to_owned())] {
        let reason = degraded.clone().unwrap_or("the offline generator answered".to_owned());
        let summary = callboard_sdk::llm::Summary { degraded, ..summary("offline", "offline-template-1") };
        let stage = Stage::of("text.generate").text(Ok(TextResponse {
            text: "x".into(),
            summary,
            ..TextResponse::default()
        }));
        let result = stage.run(&json!({"prompt": "Is it on?"})).await.unwrap();
        assert_eq!((&result["offline"], &result["degraded"]), (&json!(true), &json!(true)));
        assert_eq!(result["degraded_reason"], json!(reason));
    }
}

#[tokio::test]
async fn a_providers_error_keeps_its_reason_and_its_wait() {
    for (kind, retryable) in [(ErrorKind::RateLimited, true), (ErrorKind::QuotaExceeded, false)] {
        let wait = Some(Duration::from_secs(7));
        let error = Error { retry_after: wait, ..Error::new(kind, "not now") };
        let failure =
            Stage::of("text.generate").text(Err(error)).run(&json!({"prompt": "?"})).await.unwrap_err();
        assert_eq!((failure.error.reason.as_str(), failure.error.retryable), (kind.reason(), retryable));
        assert_eq!((failure.error.message.as_str(), failure.retry_after), ("not now", wait));
    }
}

#[tokio::test]
async fn a_cancel_drops_the_call() {
    let (failure, dropped) = Stage::of("text.generate").cancel_in_call(&json!({"prompt": "?"})).await;
    assert!(failure.error.message.contains("cancelled"), "{failure}");
    assert!(dropped);
}
