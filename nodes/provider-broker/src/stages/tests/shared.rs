//! Calls for the same at the same time.

use super::*;
use crate::config::Config;
use callboard_domain::llm::{CacheMode, CacheSource};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn twenty_identical_calls_at_once_make_one() {
    let (fake, stages) = gated(&Config::default());
    let calls = begin(&stages, (0..20).map(|_| ask("a"))).await;
    assert_eq!((fake.calls(), stages.counts().under_way), (1, 1));
    fake.gate.add_permits(1);
    let answers = calls.join_all().await;
    let mut sources: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    assert!(sources.iter().all(|answer| answer.text == "answer 1"));
    assert!(sources.iter().all(|answer| answer.summary.attempts.len() == 1), "they tell how it came about");
    sources.retain(|answer| answer.summary.from_cache == Some(CacheSource::Shared));
    assert_eq!(sources.len(), 19, "one made the call");
    assert_eq!((fake.calls(), stages.counts().shared, stages.counts().under_way), (1, 19, 0));
    // Who comes later gets an answer of its own.
    fake.gate.add_permits(1);
    assert_eq!(stages.text(&ask("a")).await.unwrap().text, "answer 2");
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_nothing_from_the_others() {
    let (fake, stages) = gated(&Config::default());
    let mut first = begin(&stages, [ask("a")]).await;
    let others = begin(&stages, (0..3).map(|_| ask("a"))).await;
    first.shutdown().await;
    assert_eq!((fake.calls(), fake.open()), (1, 1), "the call goes on, and is not made again");
    fake.gate.add_permits(1);
    for answer in others.join_all().await {
        assert_eq!(answer.unwrap().text, "answer 1");
    }
    assert_eq!(fake.calls(), 1);
}

#[tokio::test]
async fn the_last_one_gone_cancels_the_call_at_the_provider() {
    let (fake, stages) = gated(&Config::default());
    let mut calls = begin(&stages, (0..3).map(|_| ask("a"))).await;
    assert_eq!(fake.open(), 1);
    calls.shutdown().await;
    assert_eq!((fake.open(), stages.counts().under_way), (0, 0));
    // The next one starts anew.
    fake.gate.add_permits(1);
    assert_eq!(stages.text(&ask("a")).await.unwrap().text, "answer 2");
}

#[tokio::test]
async fn the_error_of_a_shared_call_goes_to_all_with_its_attempts_and_to_nobody_later() {
    let (fake, stages) = gated(&caching());
    fake.then(Err(error(ErrorKind::ServerFault)));
    let calls = begin(&stages, (0..3).map(|_| ask("a"))).await;
    fake.gate.add_permits(1);
    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap_err(), error(ErrorKind::ServerFault));
    }
    assert_eq!(fake.calls(), 1);
    fake.gate.add_permits(1);
    assert_eq!(stages.text(&ask("a")).await.unwrap().text, "answer 2");
}

#[tokio::test]
async fn calls_that_ask_something_else_share_nothing() {
    let warm = |t| TextRequest { temperature: Some(t), ..ask("a") };
    let off = || TextRequest { cache: CacheMode::Off, ..ask("a") };
    let calls = |requests: Vec<TextRequest>| async move {
        let (fake, stages) = gated(&Config::default());
        let calls = begin(&stages, requests).await;
        fake.gate.add_permits(9);
        calls.join_all().await.into_iter().for_each(|answer| assert!(answer.is_ok()));
        fake.calls()
    };
    assert_eq!(calls(vec![ask("a"), ask("b")]).await, 2);
    assert_eq!(calls(vec![warm(0.0), warm(0.0)]).await, 1);
    assert_eq!(calls(vec![warm(0.7), warm(0.7)]).await, 2, "they want answers that differ");
    let on = || TextRequest { cache: CacheMode::On, ..warm(0.7) };
    assert_eq!(calls(vec![on(), on()]).await, 1, "any answer will do");
    assert_eq!(calls(vec![off(), off()]).await, 2);
    // Who has less time does not end it for who has more.
    let brief = TextRequest { timeout: Some(Duration::from_secs(1)), ..ask("a") };
    assert_eq!(calls(vec![brief, ask("a")]).await, 2);
    let (fake, stages) = gated(&Config { single_flight: false, ..Config::default() });
    let calls = begin(&stages, [ask("a"), ask("a")]).await;
    assert_eq!((fake.calls(), calls.len()), (2, 2));
}

#[tokio::test]
async fn no_namespace_shares_with_another() {
    let (fake, stages) = gated(&Config::default());
    let request = ask("a");
    let both = async { tokio::join!(of("x", "", stages.text(&request)), of("y", "", stages.text(&request))) };
    let release = async {
        tokio::task::yield_now().await;
        fake.gate.add_permits(2);
    };
    let ((one, two), ()) = tokio::join!(both, release);
    assert_ne!(one.unwrap().text, two.unwrap().text);
}

#[tokio::test(start_paused = true)]
async fn who_shares_a_call_waits_no_longer_than_its_own_may_take() {
    let config = Config { total_timeout: Duration::from_secs(5), ..Config::default() };
    let (fake, stages) = gated(&config);
    let mut first = begin(&stages, [ask("a")]).await;
    let error = stages.text(&ask("a")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert_eq!(fake.open(), 1, "the first is not cut short by it");
    fake.gate.add_permits(1);
    assert!(first.join_next().await.unwrap().unwrap().is_ok());
    // After a reload it is as long as that says.
    stages.reconfigure(&Config { total_timeout: Duration::from_secs(2), ..config });
    let _first = begin(&stages, [ask("a")]).await;
    let began = Instant::now();
    assert_eq!(stages.text(&ask("a")).await.unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(began.elapsed(), Duration::from_secs(2));
}
