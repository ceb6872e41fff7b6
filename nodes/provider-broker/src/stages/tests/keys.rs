//! Calls with an idempotency key.

use super::*;
use crate::config::{Config, Idempotency};
use callboard_domain::llm::{CacheMode, CacheSource};
use std::time::Duration;

fn keyed(key: &str, prompt: &str) -> TextRequest {
    TextRequest { idempotency_key: Some(key.into()), temperature: Some(1.0), ..ask(prompt) }
}

#[tokio::test(start_paused = true)]
async fn a_second_call_with_a_key_gets_the_answer_of_the_first_for_a_day() {
    let (fake, stages) = stages(&Config::default());
    assert_eq!(stages.text(&keyed("k", "a")).await.unwrap().text, "answer 1");
    tokio::time::advance(Duration::from_secs(24 * 3_600 - 1)).await;
    // Whatever else it wants: the key says that it is the same call.
    let again = TextRequest { cache: CacheMode::Off, ..keyed("k", "a") };
    let answer = stages.text(&again).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.summary.from_cache), ("answer 1", Some(CacheSource::Replayed)));
    assert_eq!((fake.calls(), stages.counts().replayed), (1, 1));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(stages.text(&keyed("k", "a")).await.unwrap().text, "answer 2");
    assert_eq!(stages.text(&keyed("other", "a")).await.unwrap().text, "answer 3");
    assert_eq!(of("lab", "", stages.text(&keyed("k", "a"))).await.unwrap().text, "answer 4");
}

#[tokio::test]
async fn a_second_call_with_a_key_waits_for_the_first_one() {
    let (fake, stages) = gated(&Config::default());
    let mut first = begin(&stages, [keyed("k", "a")]).await;
    let others = begin(&stages, [keyed("k", "a"), keyed("k", "a")]).await;
    assert_eq!(fake.calls(), 1);
    // A client that loses its connection sends the same again: the call it began is the one it gets.
    first.shutdown().await;
    fake.gate.add_permits(1);
    for answer in others.join_all().await {
        let answer = answer.unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.summary.from_cache),
            ("answer 1", Some(CacheSource::Replayed))
        );
    }
    assert_eq!((fake.calls(), stages.counts().replayed), (1, 2));
}

#[tokio::test]
async fn a_key_stands_for_one_request() {
    let (fake, stages) = gated(&Config::default());
    let first = begin(&stages, [keyed("k", "a")]).await;
    let error = stages.text(&keyed("k", "b")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert!(error.message.contains("use a new key"), "{}", error.message);
    fake.gate.add_permits(1);
    first.join_all().await.into_iter().for_each(|answer| assert!(answer.is_ok()));
    let error = stages.text(&keyed("k", "b")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!((fake.calls(), stages.counts().conflicts), (1, 2));
}

#[tokio::test]
async fn an_error_and_a_template_are_not_remembered() {
    let (fake, stages) = stages(&Config::default());
    fake.then(Err(error(ErrorKind::Timeout)));
    let mut template = whole("a template");
    template.summary.provider = "offline".into();
    template.summary.degraded = Some("offline answered after main failed".into());
    fake.then(Ok(template));
    let mut second = whole("of the second");
    second.summary.degraded = Some("second answered after main failed".into());
    fake.then(Ok(second));
    assert!(stages.text(&keyed("k", "a")).await.is_err());
    assert_eq!(stages.text(&keyed("k", "a")).await.unwrap().text, "a template");
    // Somebody was paid for this one, whoever it was.
    for _ in 0..2 {
        assert_eq!(stages.text(&keyed("k", "a")).await.unwrap().text, "of the second");
    }
    assert_eq!(fake.calls(), 3);
}

#[tokio::test]
async fn without_room_keys_are_only_passed_on() {
    let idempotency = Idempotency { max_mb: 0, ..Idempotency::default() };
    let (fake, stages) = stages(&Config { idempotency, ..Config::default() });
    for number in 1..3 {
        assert_eq!(stages.text(&keyed("k", "a")).await.unwrap().text, format!("answer {number}"));
    }
    assert_eq!(fake.calls(), 2);
}

#[tokio::test]
async fn a_task_gets_its_answer_again_after_a_crash_and_another_after_a_failure() {
    let (fake, stages) = stages(&Config::default());
    let after = |failures: u32| {
        let context = mesh::Context { kind: "k".into(), failures, ..Default::default() };
        let stages = Arc::clone(&stages);
        context.scope(async move { stages.text(&keyed("task/text", "a")).await.unwrap().text })
    };
    assert_eq!(after(0).await, "answer 1");
    // Its node was killed: the attempt is lost, and has not failed.
    assert_eq!(after(0).await, "answer 1");
    // The handler could not use the answer, and failed.
    assert_eq!(after(1).await, "answer 2");
    assert_eq!(after(1).await, "answer 2");
    assert_eq!(fake.calls(), 2);
}
