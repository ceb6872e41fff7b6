//! Each adapter against its wire: what is sent, what comes back, and every way to fail.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod anthropic;
mod gemini;
mod gemini_images;
mod ollama;
mod spans;
mod tools;

use crate::streams::read;
use crate::support::{DEADLINE, KEY, broker, deps, hello, openai, outline};
use callboard_domain::limits;
use callboard_domain::llm::{Error, ErrorKind, Summary, TextRequest};
use callboard_provider_broker::config::{Adapter, ProviderConfig};
use callboard_provider_broker::{Broker, Config};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::Fault;
use std::sync::Arc;
use std::time::Duration;

/// The configuration of a provider of some adapter behind a fake one.
pub(crate) fn provider(name: &str, adapter: Adapter, fake: &FakeProvider) -> ProviderConfig {
    ProviderConfig {
        base_url: Some(fake.root_url()),
        api_key_env: Some("KEY".into()),
        text_model: Some("fake-text".into()),
        image_model: (adapter == Adapter::Gemini).then(|| "fake-image".into()),
        ..ProviderConfig::named(name, adapter)
    }
}

/// A fake provider, and a broker that has no other.
async fn one(adapter: Adapter) -> (FakeProvider, Arc<Broker>) {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let broker = broker(vec![provider("main", adapter, &fake)]);
    (fake, broker)
}

fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Fault {
    Fault::Raw { status, content_type: content_type.into(), body: body.into() }
}

/// A way to fail, and what must come of it.
struct Row {
    fault: Fault,
    kind: ErrorKind,
    falls_back: bool,
    retry_after: Option<u64>,
    /// What the message says.
    says: &'static str,
}

/// A failure that another provider makes up for.
fn row(fault: Fault, kind: ErrorKind, says: &'static str) -> Row {
    Row { fault, kind, falls_back: true, retry_after: None, says }
}

impl Row {
    /// Another provider would fail alike. A model that is gone is none of these: these calls name no model.
    fn for_good(mut self) -> Self {
        self.falls_back = false;
        self
    }

    fn wait(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    fn check(&self, error: &Error, shown: &str) {
        assert_eq!(error.kind, self.kind, "{shown}: {error}");
        assert!(error.message.contains(self.says), "{shown}: {error}");
        assert!(!format!("{error:?}").contains(KEY), "{shown}: {error}");
        assert!(error.message.len() <= limits::MESSAGE_BYTES, "{shown}");
        assert_eq!(error.retry_after, self.retry_after.map(Duration::from_secs), "{shown}");
    }
}

/// Whether texts are asked for in one piece or as streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Whole,
    Stream,
}

/// What a caller sees of a call.
async fn call(broker: &Arc<Broker>, way: Way) -> Result<(String, Summary), Error> {
    if way == Way::Whole {
        return broker.text(&hello()).await.map(|answer| (answer.text, answer.summary));
    }
    let (text, end) = read(broker.text_stream(&hello()).await?).await;
    end.map(|summary| (text, summary))
}

/// What any wire fails with, whole.
fn whole_anywhere() -> Vec<Row> {
    let huge = raw(200, "application/json", vec![b' '; (8 << 20) + 1]);
    vec![row(huge, ErrorKind::MalformedAnswer, "the answer is over 8388608 bytes")]
}

/// What any wire fails with before the first piece of a stream, of this content type.
fn streamed_anywhere(content_type: &str) -> Vec<Row> {
    let long = raw(200, content_type, vec![b'x'; 2 << 20]);
    vec![
        row(Fault::StreamCut { after_chunks: 0 }, ErrorKind::Connection, "ended before the answer"),
        row(long, ErrorKind::MalformedAnswer, "a line of the stream is too long"),
    ]
}

/// Each row has its kind, costs one request, says the truth without the key, and goes to the next provider or
/// not.
async fn fail(adapter: Adapter, way: Way, rows: Vec<Row>) {
    let bad = FakeProvider::builder().key(KEY).start().await.unwrap();
    let good = FakeProvider::start().await.unwrap();
    let alone = broker(vec![provider("bad", adapter, &bad)]);
    let both = broker(vec![provider("bad", adapter, &bad), openai("good", &good)]);
    for row in rows {
        let shown = format!("{way:?} {:.100}", format!("{:?}", row.fault));
        bad.fault(row.fault.clone());
        let before = bad.counts().received;
        row.check(&call(&alone, way).await.unwrap_err(), &shown);
        assert_eq!(bad.counts().received - before, 1, "{shown}");
        let before = good.counts().received;
        match call(&both, way).await {
            Ok((text, summary)) => {
                assert!(row.falls_back, "{shown}");
                assert_eq!(text, "fake: hello you");
                let reason = format!("bad: {}", row.kind.reason());
                assert_eq!(outline(&summary.attempts), [reason.as_str(), "good"], "{shown}");
            }
            Err(error) => {
                assert!(!row.falls_back, "{shown}: {error}");
                assert_eq!(good.counts().received, before, "{shown}");
            }
        }
        // Where the call names the model, the next one's would be another.
        if row.kind == ErrorKind::ModelNotFound {
            let before = good.counts().received;
            let named = TextRequest { model: Some("m".into()), ..hello() };
            row.check(&both.text(&named).await.unwrap_err(), &shown);
            assert_eq!(good.counts().received, before, "{shown}");
        }
    }
}

/// What fails after the first piece is an error after the text so far, and goes to nobody else. So does a stream that is
/// cut, on any wire.
async fn fail_midway(adapter: Adapter, mut rows: Vec<(Fault, ErrorKind, &str, &str)>) {
    let cut = Fault::StreamCut { after_chunks: 1 };
    rows.push((cut, ErrorKind::Connection, "fake: ", "ended before the answer did"));
    let bad = FakeProvider::builder().key(KEY).start().await.unwrap();
    let good = FakeProvider::start().await.unwrap();
    let broker = broker(vec![provider("bad", adapter, &bad), openai("good", &good)]);
    for (fault, kind, said, says) in rows {
        bad.fault(fault.clone());
        let (text, end) = read(broker.text_stream(&hello()).await.unwrap()).await;
        let error = end.unwrap_err();
        assert_eq!((text.as_str(), error.kind), (said, kind), "{fault:?}: {error}");
        assert!(error.message.contains(says) && !format!("{error:?}").contains(KEY), "{fault:?}: {error}");
    }
    assert_eq!(good.counts().received, 0);
}

/// A stream that says nothing more, be it with pings, is timed out, and given up at the provider.
async fn stall(adapter: Adapter) {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let providers = vec![provider("main", adapter, &fake)];
    let config = Config { providers, stall_timeout: Duration::from_millis(100), ..Config::default() };
    let broker = Broker::new(&config, &deps().0).unwrap();
    fake.fault(Fault::StreamStall { after_chunks: 2 });
    let (text, end) = read(broker.text_stream(&hello()).await.unwrap()).await;
    assert_eq!((text.as_str(), end.unwrap_err().kind), ("fake: hello ", ErrorKind::Timeout));
    fake.wait(|c| c.aborted == 1, DEADLINE).await.unwrap();
}
