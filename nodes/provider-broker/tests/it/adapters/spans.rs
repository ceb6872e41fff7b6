//! The span of a call names whose wire was spoken, as OpenTelemetry's conventions do.

use super::provider;
use crate::support::{deps, hello, openai};
use callboard_domain::llm::TextRequest;
use callboard_ports::trace::{Exporter, Sampling, SpanData, Tracer, Value};
use callboard_provider_broker::config::{Adapter, ArmConfig, Experiment, Subject};
use callboard_provider_broker::{Broker, Config, Deps};
use callboard_testkit::FakeProvider;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct Spans(Mutex<Vec<SpanData>>);

impl Exporter for Spans {
    fn export(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }
}

#[tokio::test]
async fn a_span_says_whose_wire_was_spoken_and_which_provider_that_was() {
    let fake = FakeProvider::start().await.unwrap();
    for (config, name) in
        [(openai("main", &fake), "openai"), (provider("main", Adapter::Anthropic, &fake), "anthropic")]
    {
        let (next, spans) = (AtomicU64::new(1), Arc::<Spans>::default());
        let random = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
        let sampling = Sampling { ratio: 1.0, slow: Duration::from_secs(10) };
        let deps = Deps { tracer: Tracer::new(random, spans.clone(), sampling), ..deps().0 };
        let broker = Broker::new(&Config { providers: vec![config], ..Config::default() }, &deps).unwrap();
        broker.text(&hello()).await.unwrap();
        let spans = spans.0.lock().unwrap();
        let call = spans.iter().find(|span| span.name == "chat fake-text").unwrap();
        let get = |key| call.attributes.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
        assert_eq!(get("gen_ai.provider.name"), Some(Value::from(name)));
        assert_eq!(get("callboard.provider"), Some(Value::from("main".to_owned())));
        assert_eq!(get("callboard.provider.key"), Some(Value::from("key-1".to_owned())));
        assert_eq!(get("gen_ai.usage.input_tokens"), Some(Value::from(2_u32)));
    }
}

#[tokio::test]
async fn the_span_of_the_way_through_the_broker_names_the_arm_of_an_experiment() {
    let fake = FakeProvider::start().await.unwrap();
    let (next, spans) = (AtomicU64::new(1), Arc::<Spans>::default());
    let random = Arc::new(move || next.fetch_add(1, Ordering::Relaxed));
    let sampling = Sampling { ratio: 1.0, slow: Duration::from_secs(10) };
    let deps = Deps { tracer: Tracer::new(random, spans.clone(), sampling), ..deps().0 };
    let arm = |name: &str, share| ArmConfig {
        name: name.into(),
        share,
        model: Some("fake-text".into()),
        ..ArmConfig::default()
    };
    let arms = vec![arm("now", 0), arm("new", 1)];
    let experiments = vec![Experiment { name: "trial".into(), subject: Subject::User, arms }];
    let config = Config { providers: vec![openai("main", &fake)], experiments, ..Config::default() };
    let broker = Broker::new(&config, &deps).unwrap();
    let request = TextRequest { model: Some("trial".into()), subject: Some("anna".into()), ..hello() };
    broker.text(&request).await.unwrap();
    let spans = spans.0.lock().unwrap();
    let way = spans.iter().find(|span| span.name == "broker chat").unwrap();
    let get = |key| way.attributes.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
    assert_eq!(get("callboard.experiment"), Some(Value::from("trial".to_owned())));
    assert_eq!(get("callboard.experiment.arm"), Some(Value::from("new".to_owned())));
}
