//! Streams: whole, or an error that nobody can overlook.

use crate::support::{Act, DEADLINE, Scripted, broker, deps, hello, one, openai, outline, plain, scripted};
use callboard_domain::llm::{Error, ErrorKind, Summary, TextRequest, Usage};
use callboard_provider_broker::config::ProviderConfig;
use callboard_provider_broker::{Broker, Config, Piece, PieceStream};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::Fault;
use futures::StreamExt;
use std::time::Duration;
use tokio::time::Instant;

/// The text of a stream, and how it ended.
#[expect(clippy::expect_used, reason = "it is the assertion")]
pub(crate) async fn read(mut stream: PieceStream) -> (String, Result<Summary, Error>) {
    let mut text = String::new();
    let (mut begin, mut end) = (None, None);
    while let Some(piece) = stream.next().await {
        assert!(end.is_none(), "something came after the end");
        match piece {
            Ok(Piece::Begin(summary)) => {
                assert!(begin.is_none() && text.is_empty(), "the beginning comes once, and first");
                begin = Some(summary);
            }
            Ok(Piece::Delta(delta)) => text.push_str(&delta),
            // No tool was offered: no test takes this for its text.
            Ok(Piece::ToolCall(piece)) => text.push_str(&format!("{piece:?}")),
            Ok(Piece::End(summary)) => end = Some(Ok(*summary)),
            Err(error) => end = Some(Err(error)),
        }
    }
    let (begin, end) = (begin.expect("who answers"), end.expect("a stream must not end silently"));
    if let Ok(Summary { provider, degraded, attempts, .. }) = &end {
        // What is said at the beginning holds at the end.
        assert_eq!((&begin.provider, &begin.degraded), (provider, degraded));
        assert_eq!(begin.attempts, attempts[..attempts.len() - 1]);
    }
    (text, end)
}

#[tokio::test]
async fn a_stream_has_text_then_a_summary() {
    let (fake, broker) = one().await;
    let (text, end) = read(broker.text_stream(&hello()).await.unwrap()).await;
    let summary = end.unwrap();
    assert_eq!(text, "fake: hello you");
    assert_eq!((summary.provider.as_str(), summary.model.as_str()), ("main", "fake-text"));
    assert_eq!((summary.finish_reason.as_str(), summary.degraded), ("stop", None));
    assert_eq!(summary.usage, Usage { cached_input_tokens: 1, ..Usage::of(2, 3) });
    assert_eq!(outline(&summary.attempts), ["main"]);
    assert_eq!(fake.requests()[0].body["stream_options"]["include_usage"], true);
    assert_eq!(broker.providers()[0].successes, 1);
}

#[tokio::test]
async fn before_the_first_piece_the_next_provider_takes_over() {
    let (bad, good) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    let broker = broker(vec![openai("bad", &bad), openai("good", &good)]);
    for (fault, reason) in [
        (Fault::Quota, "PROVIDER_QUOTA_EXCEEDED"),
        (Fault::StreamErrorMid { after_chunks: 0 }, "PROVIDER_SERVER_FAULT"),
        (Fault::StreamCut { after_chunks: 0 }, "PROVIDER_CONNECTION"),
        (Fault::ConnectionReset { after_bytes: 0 }, "PROVIDER_CONNECTION"),
    ] {
        bad.fault(fault);
        let (text, end) = read(broker.text_stream(&hello()).await.unwrap()).await;
        let summary = end.unwrap();
        assert_eq!(text, "fake: hello you");
        assert_eq!(outline(&summary.attempts), [format!("bad: {reason}").as_str(), "good"]);
        assert!(summary.degraded.is_some());
    }
}

#[tokio::test]
async fn after_the_first_piece_a_failure_is_an_error() {
    let (bad, good) = (FakeProvider::start().await.unwrap(), FakeProvider::start().await.unwrap());
    let broker = broker(vec![openai("bad", &bad), openai("good", &good)]);
    for (fault, kind, said) in [
        (Fault::StreamErrorMid { after_chunks: 2 }, ErrorKind::ServerFault, "fake: hello "),
        (Fault::StreamCut { after_chunks: 1 }, ErrorKind::Connection, "fake: "),
        (Fault::ContentFilterFinish, ErrorKind::ContentFiltered, "fake: hello you"),
    ] {
        bad.fault(fault.clone());
        let (text, end) = read(broker.text_stream(&hello()).await.unwrap()).await;
        let error = end.unwrap_err();
        assert_eq!((text.as_str(), error.kind), (said, kind), "{fault:?}");
        assert_eq!(outline(&error.attempts), [format!("bad: {}", kind.reason())]);
        assert!(error.message.starts_with(&format!("bad: after {} bytes of text: ", said.len())), "{error}");
    }
    assert_eq!(good.counts().received, 0);
    assert_eq!((broker.providers()[0].successes, broker.providers()[0].failures), (0, 3));
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_is_an_error() {
    let (fake, broker) = one().await;
    let prompt = TextRequest::prompt("word ".repeat(2_000));
    fake.fault(Fault::ConnectionReset { after_bytes: 100_000 });
    let (text, end) = read(broker.text_stream(&prompt).await.unwrap()).await;
    assert_eq!(end.unwrap_err().kind, ErrorKind::Connection);
    assert!(text.starts_with("fake: word") && text.len() < 10_000, "{}", text.len());
    assert_eq!(fake.counts().received, 1);
}

#[tokio::test]
async fn a_stream_that_stalls_is_timed_out_and_given_up() {
    let fake = FakeProvider::start().await.unwrap();
    let stall_timeout = Duration::from_millis(100);
    let config = Config { providers: vec![openai("main", &fake)], stall_timeout, ..plain() };
    let broker = Broker::new(&config, &deps().0).unwrap();
    fake.fault(Fault::StreamStall { after_chunks: 2 });
    let (text, end) = read(broker.text_stream(&hello()).await.unwrap()).await;
    let error = end.unwrap_err();
    assert_eq!((text.as_str(), error.kind), ("fake: hello ", ErrorKind::Timeout));
    assert!(error.message.ends_with("the stream said nothing for 100ms"), "{error}");
    fake.wait(|c| c.aborted == 1, DEADLINE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_ends_is_ended_by_the_time_of_the_call() {
    let a = Scripted::new("a", Act::Late(Duration::from_secs(1)));
    let (broker, _) = scripted(&[&a], false);
    let start = Instant::now();
    let request = TextRequest { timeout: Some(Duration::from_secs(10)), ..hello() };
    let (text, end) = read(broker.text_stream(&request).await.unwrap()).await;
    assert_eq!((text.len(), start.elapsed()), ("word ".len() * 9, Duration::from_secs(10)));
    let error = end.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.message.ends_with("the stream took longer than the call may take"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let (fake, broker) = one().await;
    let body = r#"{"choices":[{"message":{"content":"all at once"},"finish_reason":"stop"}]}"#;
    fake.fault(Fault::Raw { status: 200, content_type: "application/json".into(), body: body.into() });
    let (text, end) = read(broker.text_stream(&hello()).await.unwrap()).await;
    assert_eq!((text.as_str(), end.unwrap().finish_reason.as_str()), ("all at once", "stop"));
}

#[tokio::test]
async fn the_offline_generator_streams_the_same_text() {
    let broker = broker(vec![ProviderConfig::offline()]);
    let whole = broker.text(&hello()).await.unwrap();
    let (text, end) = read(broker.text_stream(&hello()).await.unwrap()).await;
    let summary = end.unwrap();
    assert_eq!((text, summary.usage), (whole.text, whole.summary.usage));
    assert_eq!(summary.degraded, whole.summary.degraded);
}
