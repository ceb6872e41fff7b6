//! Every way to fail has its kind, costs one request, and shows no key.

use crate::support::{DEADLINE, KEY, broker, deps, hello, one, openai, picture, plain};
use callboard_domain::limits;
use callboard_domain::llm::{Error, ErrorKind, TextRequest};
use callboard_provider_broker::config::ProviderConfig;
use callboard_provider_broker::{Broker, Config};
use callboard_testkit::fake_provider::{Fault, Rule};
use callboard_testkit::{FakeProvider, ports};
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use std::time::Duration;

fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Fault {
    Fault::Raw { status, content_type: content_type.into(), body: body.into() }
}

/// Faults that end a call of any sort before an answer begins.
fn refusals() -> Vec<(Fault, ErrorKind)> {
    vec![
        (Fault::Quota, ErrorKind::QuotaExceeded),
        (Fault::RateLimit { retry_after: None }, ErrorKind::RateLimited),
        (Fault::Overloaded, ErrorKind::Overloaded),
        (Fault::ServerFault { status: 500 }, ErrorKind::ServerFault),
        (Fault::ServerFault { status: 502 }, ErrorKind::ServerFault),
        (Fault::ServerFault { status: 403 }, ErrorKind::Authentication),
        (Fault::ServerFault { status: 408 }, ErrorKind::Timeout),
        (Fault::BadKey, ErrorKind::Authentication),
        (Fault::ContentFilter, ErrorKind::ContentFiltered),
        (Fault::ContextTooLong, ErrorKind::ContextTooLong),
        (Fault::NoSuchModel, ErrorKind::ModelNotFound),
        (Fault::MalformedJson, ErrorKind::MalformedAnswer),
        (Fault::ConnectionReset { after_bytes: 0 }, ErrorKind::Connection),
        (Fault::ConnectionReset { after_bytes: 30 }, ErrorKind::Connection),
        (raw(200, "text/html", "<html>welcome</html>"), ErrorKind::MalformedAnswer),
        (raw(200, "application/json", ""), ErrorKind::MalformedAnswer),
        (
            raw(200, "application/json", r#"{"error":{"message":"m","code":"insufficient_quota"}}"#),
            ErrorKind::QuotaExceeded,
        ),
        (raw(307, "text/plain", ""), ErrorKind::MalformedAnswer),
        (raw(500, "application/octet-stream", vec![0xff; 300_000]), ErrorKind::ServerFault),
    ]
}

#[tokio::test]
async fn each_fault_has_its_kind_and_costs_one_request() {
    let (fake, broker) = one().await;
    let mut faults = refusals();
    faults.push((Fault::EmptyChoices, ErrorKind::MalformedAnswer));
    faults.push((Fault::ContentFilterFinish, ErrorKind::ContentFiltered));
    faults.push((Fault::ConnectionReset { after_bytes: 250 }, ErrorKind::Connection));
    faults.push((raw(200, "application/json", vec![b' '; (8 << 20) + 1]), ErrorKind::MalformedAnswer));
    for (fault, kind) in faults {
        let before = fake.counts().received;
        fake.fault(fault.clone());
        let error = broker.text(&hello()).await.unwrap_err();
        let shown = format!("{:.80}", format!("{fault:?}"));
        assert_eq!(error.kind, kind, "{shown}: {error}");
        assert_eq!(error.attempts.len(), 1, "{shown}");
        assert_eq!(fake.counts().received - before, 1, "{shown}");
        assert!(error.message.len() <= limits::MESSAGE_BYTES, "{shown}");
    }
    fake.heal();
    assert!(broker.text(&hello()).await.is_ok());
}

#[tokio::test]
async fn a_stream_that_does_not_begin_has_the_same_kinds() {
    let (fake, broker) = one().await;
    let mut faults = refusals();
    faults.push((Fault::StreamCut { after_chunks: 0 }, ErrorKind::Connection));
    faults.push((Fault::StreamErrorMid { after_chunks: 0 }, ErrorKind::ServerFault));
    faults.push((raw(200, "text/event-stream", "data: [DONE]\n\n"), ErrorKind::Connection));
    faults.push((raw(200, "text/event-stream", "data: {\"choices\":7}\n\n"), ErrorKind::MalformedAnswer));
    faults.push((raw(200, "text/event-stream", vec![b'x'; 2 << 20]), ErrorKind::MalformedAnswer));
    for (fault, kind) in faults {
        fake.fault(fault.clone());
        let error = broker.text_stream(&hello()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind, kind, "{:.80}: {error}", format!("{fault:?}"));
    }
}

#[tokio::test]
async fn images_fail_in_the_same_kinds() {
    let (fake, broker) = one().await;
    let mut faults = refusals();
    faults.push((Fault::EmptyChoices, ErrorKind::MalformedAnswer));
    faults.push((
        raw(200, "application/json", r#"{"data":[{"url":"http://x/y.png"}]}"#),
        ErrorKind::MalformedAnswer,
    ));
    faults.push((
        raw(200, "application/json", r#"{"data":[{"b64_json":"aGFsbG8="}]}"#),
        ErrorKind::MalformedAnswer,
    ));
    for (fault, kind) in faults {
        fake.fault(fault.clone());
        let error = broker.image(&picture()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{:.80}: {error}", format!("{fault:?}"));
    }
}

#[tokio::test]
async fn a_wait_that_a_provider_names_reaches_the_caller_capped() {
    let (fake, broker) = one().await;
    for (named, expected) in [(7, 7), (86_400, 60)] {
        fake.fault(Fault::RateLimit { retry_after: Some(named) });
        let error = broker.text(&hello()).await.unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(expected)));
    }
}

#[tokio::test]
async fn a_refused_connection_is_a_connection_error() {
    let url = format!("http://127.0.0.1:{}/v1", ports::free_port().unwrap());
    let nobody = ProviderConfig { text_model: Some("m".into()), ..ProviderConfig::openai("nobody", url) };
    let error = broker(vec![nobody]).text(&hello()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connection);
    assert!(error.message.starts_with("nobody: ") && !error.message.contains("http://"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_key() {
    let (fake, broker) = one().await;
    let other = FakeProvider::start().await.unwrap();
    fake.fault(Fault::Redirect { to: format!("{}/chat/completions", other.base_url()) });
    assert_eq!(broker.text(&hello()).await.unwrap_err().kind, ErrorKind::MalformedAnswer);
    assert_eq!(other.counts().received, 0);
}

#[tokio::test]
async fn a_provider_that_hangs_is_timed_out() {
    let fake = FakeProvider::start().await.unwrap();
    let config = Config {
        providers: vec![openai("main", &fake)],
        attempt_timeout: Duration::from_millis(100),
        image_attempt_timeout: Duration::from_millis(100),
        ..plain()
    };
    let broker = Broker::new(&config, &deps().0).unwrap();
    fake.fault(Fault::Hang);
    assert_eq!(broker.text(&hello()).await.unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(broker.text_stream(&hello()).await.map(|_| ()).unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(broker.image(&picture()).await.unwrap_err().kind, ErrorKind::Timeout);
    // Each was given up at the provider, too.
    fake.wait(|c| c.aborted == 3, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn no_message_holds_the_key() {
    let (fake, broker) = one().await;
    let shows = |e: &Error| format!("{e:?}").contains(KEY);
    let error = format!(r#"{{"error":{{"message":"you sent {KEY}","type":"{KEY}","code":"{KEY}"}}}}"#);
    let delta = r#"data: {"choices":[{"delta":{"content":"hi"}}]}"#;
    for fault in [
        Fault::BadKey,
        raw(500, "application/json", error.clone()),
        raw(500, "text/plain", KEY),
        raw(200, "application/json", error.clone()),
        raw(200, "application/json", KEY),
        raw(200, "text/event-stream", format!("{delta}\n\ndata: {error}\n\n")),
        raw(200, "text/event-stream", format!("{delta}\n\ndata: {KEY}\n\n")),
    ] {
        fake.fault(fault.clone());
        let error = broker.text(&hello()).await.unwrap_err();
        assert!(!shows(&error), "{fault:?}: {error}");
        let streamed = match broker.text_stream(&hello()).await {
            Ok(stream) => stream.try_collect::<Vec<_>>().await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(!shows(&streamed.unwrap_err()), "{fault:?}");
        assert!(!shows(&broker.image(&picture()).await.unwrap_err()), "{fault:?}");
    }
    assert!(!format!("{broker:?} {:?}", broker.providers()).contains(KEY));
}

#[tokio::test]
async fn a_prompt_over_its_limit_is_refused_here() {
    let (fake, broker) = one().await;
    let request = TextRequest::prompt("x".repeat(limits::INPUT_BYTES + 1));
    assert_eq!(broker.text(&request).await.unwrap_err().kind, ErrorKind::InvalidRequest);
    let request = TextRequest { idempotency_key: Some("a\nb".into()), ..hello() };
    assert_eq!(broker.text(&request).await.unwrap_err().kind, ErrorKind::InvalidRequest);
    assert_eq!(fake.counts().received, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_are_an_answer_or_an_error(
        body in prop::collection::vec(any::<u8>(), 0..300),
        prefix in prop::sample::select(vec!["", "data: ", "{\"choices\":[", "{\"data\":[{\"b64_json\":\"", "data: {\"choices\":[{\"delta\":"]),
        json in any::<bool>(),
    ) {
        let body = [prefix.as_bytes(), &body].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let content_type = if json { "application/json" } else { "text/event-stream" };
        runtime.block_on(async {
            let (fake, broker) = one().await;
            fake.rules([Rule::standing(raw(200, content_type, body))]);
            // Random bytes do not make a whole answer, and nothing may pass for one.
            assert!(broker.text(&hello()).await.is_err());
            assert!(broker.image(&picture()).await.is_err());
            if let Ok(stream) = broker.text_stream(&hello()).await {
                let items: Vec<_> = stream.collect().await;
                assert!(items.last().unwrap().is_err());
            }
        });
    }
}
