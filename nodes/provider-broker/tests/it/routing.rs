//! Which provider answers, how long it may take, and what is said of it.

use crate::support::{Act, NOW, Scripted, hello, outline, picture, scripted};
use callboard_domain::llm::{ErrorKind, TextRequest};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test]
async fn the_next_provider_answers_when_one_fails() {
    for kind in ErrorKind::ALL.iter().filter(|k| k.allows_fallback()) {
        let (a, b) = (Scripted::new("a", Act::Fail(*kind)), Scripted::new("b", Act::Answer));
        let (broker, _) = scripted(&[&a, &b], true);
        let answer = broker.text(&hello()).await.unwrap();
        assert_eq!(answer.text, "text of b");
        let failed = format!("a: {}", kind.reason());
        assert_eq!(outline(&answer.summary.attempts), [failed.as_str(), "b"]);
        assert_eq!(answer.summary.attempts[0].model, "scripted-text");
        let degraded = answer.summary.degraded.unwrap();
        assert_eq!(degraded, format!("b answered after a ({}) failed", kind.reason()));
        let image = broker.image(&picture()).await.unwrap();
        assert_eq!(outline(&image.summary.attempts), [failed.as_str(), "b"]);
    }
}

#[tokio::test]
async fn a_wrong_request_is_not_tried_elsewhere() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::InvalidRequest)), Scripted::new("b", Act::Answer));
    let (broker, seen) = scripted(&[&a, &b], false);
    let error = broker.text(&hello()).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::InvalidRequest, "a: a failed"));
    assert_eq!(b.calls.load(Ordering::SeqCst), 0);
    assert!(seen.take().is_empty());
}

#[tokio::test]
async fn a_model_that_is_gone_ends_a_call_that_named_it_and_no_other() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::ModelNotFound)), Scripted::new("b", Act::Answer));
    let (broker, _) = scripted(&[&a, &b], false);
    let named = TextRequest { model: Some("m".into()), ..hello() };
    assert_eq!(broker.text(&named).await.unwrap_err().kind, ErrorKind::ModelNotFound);
    assert_eq!(b.calls.load(Ordering::SeqCst), 0, "it has another model");
    let answer = broker.text(&TextRequest { model: None, ..hello() }).await.unwrap().summary;
    assert_eq!(outline(&answer.attempts), ["a: PROVIDER_MODEL_NOT_FOUND", "b"]);
    let image = broker.image(&picture()).await.unwrap().summary;
    assert_eq!(outline(&image.attempts), ["a: PROVIDER_MODEL_NOT_FOUND", "b"]);
}

#[tokio::test]
async fn when_all_fail_the_error_tells_of_each() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::QuotaExceeded));
    let b = Scripted::new("b", Act::Fail(ErrorKind::Overloaded));
    let (broker, _) = scripted(&[&a, &b], false);
    let error = broker.text(&hello()).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Overloaded, "a: a failed; b: b failed"));
    assert_eq!(outline(&error.attempts), ["a: PROVIDER_QUOTA_EXCEEDED", "b: PROVIDER_OVERLOADED"]);
}

#[tokio::test]
async fn a_pinned_provider_is_the_only_one() {
    let (a, b) = (Scripted::new("a", Act::Answer), Scripted::new("b", Act::Answer));
    let (broker, seen) = scripted(&[&a, &b], true);
    let pin = |name: &str| TextRequest { provider: Some(name.into()), ..hello() };
    let answer = broker.text(&pin("b")).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.summary.degraded), ("text of b", None));
    assert_eq!(seen.take(), [(false, 1)]);
    b.set(Act::Fail(ErrorKind::ServerFault));
    assert_eq!(outline(&broker.text(&pin("b")).await.unwrap_err().attempts), ["b: PROVIDER_SERVER_FAULT"]);
    assert_eq!(a.calls.load(Ordering::SeqCst), 0);
    // Others were not asked, so this is no outage.
    assert!(seen.take().is_empty());
    let error = broker.text(&pin("c")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!(error.message, "no provider is called `c`; there are: a, b, offline");
}

#[tokio::test]
async fn an_answer_of_the_offline_generator_always_says_so() {
    let reason = |summary: callboard_domain::llm::Summary| summary.degraded.unwrap();
    let (broker, _) = scripted(&[], true);
    let text = broker.text(&hello()).await.unwrap().summary;
    assert_eq!((text.provider.as_str(), text.model.as_str()), ("offline", "offline-template-1"));
    assert_eq!(reason(text), "no provider configured: the offline generator answered");
    let a = Scripted::without_images("a", Act::Answer);
    let (broker, _) = scripted(&[&a], true);
    let image = broker.image(&picture()).await.unwrap().summary;
    assert_eq!(outline(&image.attempts), ["offline"]);
    assert_eq!(
        reason(image),
        "no provider that can do this comes before the offline generator, which answered"
    );
    let pinned = TextRequest { provider: Some("offline".into()), ..hello() };
    assert_eq!(
        reason(broker.text(&pinned).await.unwrap().summary),
        "the call asked for the offline generator"
    );
}

#[tokio::test]
async fn images_go_to_those_who_make_them() {
    let (a, b) = (Scripted::without_images("a", Act::Answer), Scripted::new("b", Act::Answer));
    let (broker, _) = scripted(&[&a, &b], false);
    let image = broker.image(&picture()).await.unwrap();
    assert_eq!((image.summary.provider.as_str(), image.summary.degraded), ("b", None));
    assert_eq!(a.calls.load(Ordering::SeqCst), 0);
    let (broker, _) = scripted(&[&a], false);
    let error = broker.image(&picture()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!(error.message, "no configured provider makes images: set its image_model");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_time() {
    let (a, b) = (Scripted::new("a", Act::Hang), Scripted::new("b", Act::Late(secs(29))));
    let (broker, _) = scripted(&[&a, &b], false);
    let start = Instant::now();
    let answer = broker.text(&hello()).await.unwrap();
    assert_eq!(start.elapsed(), secs(59));
    let spans: Vec<_> = answer.summary.attempts.iter().map(|a| a.duration).collect();
    assert_eq!(spans, [secs(30), secs(29)]);
    assert_eq!(outline(&answer.summary.attempts), ["a: PROVIDER_TIMEOUT", "b"]);
}

#[tokio::test(start_paused = true)]
async fn all_attempts_share_the_time_of_the_call() {
    let all = ["a", "b", "c"].map(|name| Scripted::new(name, Act::Hang));
    let (broker, _) = scripted(&[&all[0], &all[1], &all[2]], false);
    let start = Instant::now();
    let error = broker.text(&hello()).await.unwrap_err();
    assert_eq!((start.elapsed(), error.kind), (secs(60), ErrorKind::Timeout));
    assert_eq!(error.message, "a: no answer in 30s; b: no answer in 30s; no time was left for the others");
    assert_eq!(all[2].calls.load(Ordering::SeqCst), 0);

    let start = Instant::now();
    let error = broker.text(&TextRequest { timeout: Some(secs(40)), ..hello() }).await.unwrap_err();
    assert_eq!(start.elapsed(), secs(40));
    assert_eq!(error.attempts.iter().map(|a| a.duration).collect::<Vec<_>>(), [secs(30), secs(10)]);
}

#[tokio::test(start_paused = true)]
async fn providers_that_hang_leave_time_for_the_last_resort() {
    let (a, b) = (Scripted::new("a", Act::Hang), Scripted::new("b", Act::Hang));
    let (broker, _) = scripted(&[&a, &b], true);
    for (timeout, spent) in [(60, 59_000), (30, 29_000), (5, 4_500)] {
        let start = Instant::now();
        let answer = broker.text(&TextRequest { timeout: Some(secs(timeout)), ..hello() }).await.unwrap();
        assert_eq!(answer.summary.provider, "offline");
        assert_eq!(start.elapsed().as_millis(), spent, "timeout {timeout}");
    }
}

#[tokio::test]
async fn the_list_counts_answers_and_failures() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::RateLimited)), Scripted::new("b", Act::Answer));
    let (broker, _) = scripted(&[&a, &b], false);
    for _ in 0..3 {
        broker.text(&hello()).await.unwrap();
    }
    a.set(Act::Answer);
    broker.image(&picture()).await.unwrap();
    let list = broker.providers();
    let counts: Vec<_> = list.iter().map(|p| (p.name.as_str(), p.successes, p.failures)).collect();
    assert_eq!(counts, [("a", 1, 3), ("b", 3, 0)]);
    assert_eq!((list[0].last_error, list[1].last_error), (Some((ErrorKind::RateLimited, NOW)), None));
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_reported_once_again_after_a_while_and_when_it_ends() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::ServerFault));
    let b = Scripted::new("b", Act::Fail(ErrorKind::Connection));
    let (broker, seen) = scripted(&[&a, &b], false);
    for _ in 0..5 {
        broker.text(&hello()).await.unwrap_err();
    }
    let first = seen.take_all();
    assert_eq!((first.len(), first[0].rule.as_str(), first[0].at), (1, "all_providers_down", NOW));
    assert!(first[0].firing && callboard_domain::alert::rule(&first[0].rule).is_some());
    assert_eq!(first[0].message, "no provider answers: a: a failed; b: b failed");
    tokio::time::advance(secs(60)).await;
    broker.text(&hello()).await.unwrap_err();
    assert_eq!(seen.take(), [(true, 5)]);
    b.set(Act::Answer);
    for _ in 0..3 {
        broker.text(&hello()).await.unwrap();
    }
    assert_eq!(seen.take(), [(false, 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_outage_is_not_reported_as_one() {
    // The last resort answers.
    let a = Scripted::new("a", Act::Fail(ErrorKind::ServerFault));
    let (broker, seen) = scripted(&[&a], true);
    broker.text(&hello()).await.unwrap();
    assert_eq!(seen.take(), [(false, 1)]);
    // The call is to blame, or gave no time.
    let (broker, seen) = scripted(&[&a], false);
    a.set(Act::Fail(ErrorKind::ContentFiltered));
    broker.text(&hello()).await.unwrap_err();
    a.set(Act::Hang);
    broker.text(&TextRequest { timeout: Some(secs(1)), ..hello() }).await.unwrap_err();
    assert!(seen.take().is_empty());
    // But this is one.
    broker.text(&hello()).await.unwrap_err();
    assert_eq!(seen.take(), [(true, 1)]);
}
