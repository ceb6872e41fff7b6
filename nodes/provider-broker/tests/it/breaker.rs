//! Providers that fail are left out, and come back.

use crate::support::{Act, DEADLINE, NOW, Scripted, deps, hello, openai, outline, picture, scripted_with};
use callboard_domain::llm::{ErrorKind, TextRequest};
use callboard_provider_broker::config::Retry;
use callboard_provider_broker::{BreakerState, Broker, Config};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::Fault;
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, advance};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The defaults, without retries: each call tries each provider once.
fn config() -> Config {
    Config { retry: Retry { max: 0, ..Retry::default() }, single_flight: false, ..Config::default() }
}

fn pinned(name: &str) -> TextRequest {
    TextRequest { provider: Some(name.into()), ..hello() }
}

/// Two fake providers, and a broker that has them in this order.
#[expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
async fn two() -> (FakeProvider, FakeProvider, Arc<Broker>) {
    let (a, b) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    let config = Config { providers: vec![openai("a", &a), openai("b", &b)], ..config() };
    let broker = Broker::new(&config, &deps().0).unwrap();
    (a, b, broker)
}

fn states(broker: &Broker) -> Vec<(String, BreakerState, u64)> {
    broker.counts().into_iter().map(|c| (c.name, c.breaker, c.trips)).collect()
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "how much a call is delayed is for a person to see")]
async fn with_the_first_of_two_providers_dead_less_than_one_in_a_hundred_calls_touch_it() {
    let (a, b, broker) = two().await;
    let timed = async |calls: u32| {
        let start = std::time::Instant::now();
        for _ in 0..calls {
            assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "b");
        }
        start.elapsed() / calls
    };
    a.fault(Fault::ServerFault { status: 500 });
    let start = std::time::Instant::now();
    broker.text(&pinned("b")).await.unwrap();
    for _ in 0..200 {
        broker.text(&pinned("b")).await.unwrap();
    }
    let alone = start.elapsed() / 201;
    let mean = timed(1_000).await;
    let touched = a.counts().received;
    println!("{touched} of 1,000 calls touched it; one took {mean:?}, at b alone {alone:?}");
    assert!(touched < 10, "{touched}");
    assert_eq!(b.counts().received, 1_201);
}

#[tokio::test(start_paused = true)]
async fn it_gets_traffic_within_one_probe_period_once_it_is_back() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::Overloaded)), Scripted::new("b", Act::Answer));
    let (broker, _) = scripted_with(&config(), &[&a, &b], false);
    // Out for 30 s, then for 60 s.
    for out in [30, 60] {
        while broker.counts()[0].breaker != BreakerState::Open {
            broker.text(&hello()).await.unwrap();
        }
        advance(secs(out) - Duration::from_millis(1)).await;
        let before = a.calls.load(Ordering::SeqCst);
        assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "b");
        assert_eq!(a.calls.load(Ordering::SeqCst), before, "left out for {out} s");
        advance(Duration::from_millis(1)).await;
    }
    a.set(Act::Answer);
    for _ in 0..3 {
        let summary = broker.text(&hello()).await.unwrap().summary;
        assert_eq!((summary.provider.as_str(), summary.degraded), ("a", None));
    }
    assert_eq!(states(&broker)[0], ("a".into(), BreakerState::Closed, 2));
}

#[tokio::test]
async fn a_hard_quota_opens_at_once_and_fails_over_instead_of_being_retried() {
    for (fault, reason) in
        [(Fault::Quota, "PROVIDER_QUOTA_EXCEEDED"), (Fault::BadKey, "PROVIDER_AUTHENTICATION")]
    {
        let (a, _b, broker) = two().await;
        a.fault(fault);
        let first = broker.text(&hello()).await.unwrap().summary;
        assert_eq!(outline(&first.attempts), [format!("a: {reason}").as_str(), "b"]);
        let second = broker.text(&hello()).await.unwrap().summary;
        assert_eq!(outline(&second.attempts), ["b"]);
        assert_eq!(second.degraded.unwrap(), format!("b answered while a ({reason}) is left out"));
        assert_eq!(a.counts().received, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_are_open_the_call_fails_at_once_and_says_when_to_come_back() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::QuotaExceeded));
    let b = Scripted::new("b", Act::Fail(ErrorKind::Overloaded));
    let (broker, seen) = scripted_with(&config(), &[&a, &b], false);
    while broker.counts()[1].breaker != BreakerState::Open {
        broker.text(&hello()).await.unwrap_err();
    }
    let calls = (a.calls.load(Ordering::SeqCst), b.calls.load(Ordering::SeqCst));
    assert_eq!(calls, (1, 5));
    seen.take();
    advance(secs(10)).await;
    let (start, error) = (Instant::now(), broker.text(&hello()).await.unwrap_err());
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(
        error.message,
        "no provider may be called now, each breaker is open: a: left out for another 290s after \
         PROVIDER_QUOTA_EXCEEDED; b: left out for another 20s after PROVIDER_OVERLOADED"
    );
    // The later cause; and one that passes, so that a task comes back.
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Overloaded, Some(secs(20))));
    assert_eq!((error.attempts, calls), (vec![], (1, 5)));
    assert_eq!(calls, (a.calls.load(Ordering::SeqCst), b.calls.load(Ordering::SeqCst)));

    // So does a call that wants one provider alone, for streams too.
    let error = broker.text(&pinned("a")).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::QuotaExceeded, Some(secs(290))));
    let error = broker.text_stream(&pinned("b")).await.map(|_| ()).unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Overloaded, Some(secs(20))));
    // Images go through another model, which nothing is known of.
    broker.image(&picture()).await.unwrap_err();
    assert_eq!(b.calls.load(Ordering::SeqCst), 6);
}

#[tokio::test(start_paused = true)]
async fn a_cause_that_passes_wins_over_a_later_one_that_does_not() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::Overloaded));
    let b = Scripted::new("b", Act::Answer);
    let (broker, _) = scripted_with(&config(), &[&a, &b], false);
    for _ in 0..5 {
        broker.text(&hello()).await.unwrap();
    }
    b.set(Act::Fail(ErrorKind::QuotaExceeded));
    // b is tried and its quota is spent, a will be back.
    assert_eq!(broker.text(&hello()).await.unwrap_err().kind, ErrorKind::Overloaded);
    assert_eq!(broker.text(&hello()).await.unwrap_err().kind, ErrorKind::Overloaded);
    assert_eq!(broker.text(&pinned("b")).await.unwrap_err().kind, ErrorKind::QuotaExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_named_wait_leaves_a_provider_out_for_exactly_that_long() {
    let (a, b) = (Scripted::new("a", Act::Limit(secs(7))), Scripted::new("b", Act::Answer));
    let (broker, seen) = scripted_with(&config(), &[&a, &b], false);
    for n in 1..=20 {
        assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "b");
        advance(secs(7) - Duration::from_millis(1)).await;
        assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "b");
        assert_eq!(a.calls.load(Ordering::SeqCst), n);
        advance(Duration::from_millis(1)).await;
    }
    assert_eq!(broker.counts()[0].trips, 0, "it is healthy");
    let told = seen.take_all();
    assert!(told.iter().all(|o| o.rule != "provider_breaker_open"), "and nobody is told that it is not");
    a.set(Act::Answer);
    assert_eq!(broker.text(&hello()).await.unwrap().summary.provider, "a");
}

#[tokio::test]
async fn a_breaker_is_not_ignored_for_streams_nor_fed_by_streams_that_broke() {
    let (a, _b, broker) = two().await;
    a.fault(Fault::StreamCut { after_chunks: 1 });
    for _ in 0..5 {
        let stream = broker.text_stream(&hello()).await.unwrap();
        let end = stream.try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(end.kind, ErrorKind::Connection, "it broke after the first piece");
    }
    a.heal();
    assert_eq!(states(&broker)[0].1, BreakerState::Open);
    let stream = broker.text_stream(&hello()).await.unwrap();
    assert!(stream.try_collect::<Vec<_>>().await.is_ok());
    assert_eq!(a.counts().received, 5, "the stream went to b");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_a_success_only_at_its_end() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::Authentication));
    let (broker, _) = scripted_with(&config(), &[&a], false);
    broker.text(&hello()).await.unwrap_err();
    advance(secs(300)).await;
    a.set(Act::Late(Duration::from_millis(1)));
    let mut stream = broker.text_stream(&hello()).await.unwrap();
    for _ in 0..100 {
        stream.next().await.unwrap().unwrap();
        assert_eq!(states(&broker)[0].1, BreakerState::HalfOpen);
    }
    // It ends without an end, which is how these end.
    assert!(stream.try_collect::<Vec<_>>().await.is_err());
    assert_eq!(states(&broker)[0], ("a".into(), BreakerState::Open, 2));
}

#[tokio::test(start_paused = true)]
async fn of_64_calls_at_once_one_tries_a_provider() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::QuotaExceeded)), Scripted::new("b", Act::Answer));
    let (broker, _) = scripted_with(&config(), &[&a, &b], false);
    broker.text(&hello()).await.unwrap();
    advance(secs(300)).await;
    a.set(Act::Late(secs(1)));
    let request = hello();
    let answers = futures::future::join_all((0..64).map(|_| broker.text(&request))).await;
    let by_a = answers.into_iter().filter(|answer| answer.as_ref().unwrap().summary.provider == "a").count();
    assert_eq!((by_a, a.calls.load(Ordering::SeqCst)), (1, 2));
    assert_eq!(states(&broker)[0].1, BreakerState::Closed);
}

#[tokio::test]
async fn a_probe_whose_caller_hangs_up_frees_its_place() {
    let fake = FakeProvider::start().await.unwrap();
    let mut config = Config { providers: vec![openai("a", &fake)], ..config() };
    config.breaker.hard_cool_down = Duration::from_millis(1);
    config.breaker.cool_down = Duration::from_millis(1);
    let broker = Broker::new(&config, &deps().0).unwrap();
    fake.fault(Fault::Quota);
    broker.text(&hello()).await.unwrap_err();
    fake.fault(Fault::Hang);
    tokio::time::timeout(DEADLINE, async {
        while broker.counts()[0].breaker == BreakerState::Open {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let request = hello();
    let mut probe = Box::pin(broker.text(&request));
    tokio::select! {
        _ = &mut probe => panic!("answered"),
        begun = fake.wait(|c| c.received == 2, DEADLINE) => { begun.unwrap(); }
    }
    let busy = broker.text(&request).await.unwrap_err();
    assert_eq!((busy.kind, busy.retry_after), (ErrorKind::QuotaExceeded, Some(secs(1))));
    assert!(busy.message.ends_with("until a call that tries it has ended"), "{busy}");
    drop(probe);
    fake.heal();
    broker.text(&hello()).await.unwrap();
    assert_eq!(states(&broker)[0], ("a".into(), BreakerState::Closed, 1));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_told_once_each_time_and_once_when_it_closes() {
    let (a, b) = (Scripted::new("a", Act::Fail(ErrorKind::ServerFault)), Scripted::new("b", Act::Answer));
    let (broker, seen) = scripted_with(&config(), &[&a, &b], false);
    let told = |n: usize| {
        let of = seen.take_all().into_iter().filter(|o| o.rule == "provider_breaker_open");
        let of: Vec<_> = of.map(|o| (o.subject, o.firing, o.message)).collect();
        assert_eq!(of.len(), n, "{of:?}");
        of.into_iter().next()
    };
    for _ in 0..100 {
        broker.text(&hello()).await.unwrap();
    }
    let message = "scripted-text: left out for 30s after PROVIDER_SERVER_FAULT".to_owned();
    assert_eq!(told(1), Some(("a".into(), true, message)));
    let list = broker.providers();
    let breaker = &list[0].breakers[0];
    assert_eq!((breaker.model.as_str(), breaker.state), ("scripted-text", BreakerState::Open));
    assert_eq!((breaker.cause, breaker.trips), (Some(ErrorKind::ServerFault), 1));
    assert_eq!((breaker.since, breaker.until), (Some(NOW), Some(NOW.after(secs(30)))));
    // Images go through another model of it, whose breaker opens by itself.
    for _ in 0..5 {
        broker.image(&picture()).await.unwrap();
    }
    told(1);
    advance(secs(30)).await;
    for _ in 0..10 {
        broker.text(&hello()).await.unwrap();
    }
    told(1);
    advance(secs(60)).await;
    a.set(Act::Answer);
    broker.text(&hello()).await.unwrap();
    told(0);
    broker.image(&picture()).await.unwrap();
    assert_eq!(told(1), Some(("a".into(), false, "it answers again".into())));
    for _ in 0..10 {
        broker.text(&hello()).await.unwrap();
    }
    told(0);
}

#[tokio::test(start_paused = true)]
async fn a_provider_nobody_calls_any_more_is_not_told_as_left_out_for_ever() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::QuotaExceeded));
    let (broker, seen) = scripted_with(&config(), &[&a], false);
    broker.text(&hello()).await.unwrap_err();
    seen.take();
    advance(secs(300 + 1_800)).await;
    assert_eq!((states(&broker)[0].1, seen.take()), (BreakerState::HalfOpen, vec![]));
    advance(secs(1)).await;
    assert_eq!((states(&broker)[0].1, seen.take()), (BreakerState::Closed, vec![(false, 1)]));
    // What it was left out for counts again from the first time on.
    broker.text(&hello()).await.unwrap_err();
    let message = seen.take_all().into_iter().find(|o| o.rule == "provider_breaker_open").unwrap().message;
    assert_eq!(message, "scripted-text: left out for 300s after PROVIDER_QUOTA_EXCEEDED");
}

#[tokio::test(start_paused = true)]
async fn models_that_callers_name_do_not_fill_the_memory() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::QuotaExceeded));
    let (broker, _) = scripted_with(&config(), &[&a], false);
    broker.text(&hello()).await.unwrap_err();
    a.set(Act::Fail(ErrorKind::InvalidRequest));
    for n in 0..1_000 {
        let request = TextRequest { model: Some(format!("model-{n}")), ..hello() };
        broker.text(&request).await.unwrap_err();
    }
    let list = broker.providers();
    let open: Vec<_> = list[0].breakers.iter().filter(|b| b.state == BreakerState::Open).collect();
    assert_eq!((list[0].breakers.len(), open.len()), (64, 1));
    assert_eq!(open[0].model, "scripted-text", "one that is open is not forgotten for those that are closed");
}
