//! Embeddings: on every wire that has them, and never from another model than the call began with.

use crate::adapters::provider;
use crate::support::{Act, KEY, Scripted, broker, openai, outline, scripted};
use callboard_domain::llm::{EmbeddingRequest, ErrorKind};
use callboard_provider_broker::config::{Adapter, ProviderConfig};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::{Fault, Rule};

fn texts(model: Option<&str>) -> EmbeddingRequest {
    EmbeddingRequest {
        inputs: vec!["hello you".into(), "tea".into()],
        model: model.map(str::to_owned),
        ..EmbeddingRequest::default()
    }
}

fn config(name: &str, adapter: Adapter, fake: &FakeProvider, model: &str) -> ProviderConfig {
    let config = match adapter {
        Adapter::OpenAi => openai(name, fake),
        other => provider(name, other, fake),
    };
    ProviderConfig { embedding_model: Some(model.to_owned()).filter(|model| !model.is_empty()), ..config }
}

#[tokio::test]
async fn each_text_has_a_vector_on_every_wire_that_has_them() {
    // Gemini does not count them.
    for (adapter, path, estimated) in [
        (Adapter::OpenAi, "/v1/embeddings", false),
        (Adapter::Gemini, "/v1beta/models/e-1:batchEmbedContents", true),
        (Adapter::Ollama, "/api/embed", false),
    ] {
        let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
        let broker = broker(vec![config("main", adapter, &fake, "e-1")]);
        let answer = broker.embed(&texts(None)).await.unwrap();
        assert_eq!(answer.vectors, [[9.0, 2.0, 0.5, 0.5], [3.0, 1.0, 0.5, 0.5]], "{adapter:?}");
        let summary = &answer.summary;
        assert_eq!((summary.model.as_str(), summary.usage.input_tokens), ("e-1", 3), "{adapter:?}");
        assert_eq!(summary.usage_estimated, estimated, "{adapter:?}");
        assert_eq!(fake.requests()[0].path, path);
        let short = EmbeddingRequest { dimensions: Some(2), ..texts(Some("e-2")) };
        let answer = broker.embed(&short).await.unwrap();
        assert_eq!((answer.vectors[0].len(), answer.summary.model.as_str()), (2, "e-2"), "{adapter:?}");
        fake.fault(Fault::Overloaded);
        assert_eq!(broker.embed(&texts(None)).await.unwrap_err().kind, ErrorKind::Overloaded, "{adapter:?}");
    }
}

#[tokio::test]
async fn a_call_goes_on_to_the_same_model_alone() {
    let bad = FakeProvider::builder().key(KEY).start().await.unwrap();
    let good = FakeProvider::builder().key(KEY).start().await.unwrap();
    bad.fault(Fault::Overloaded);
    let of = |list: &[(&str, &FakeProvider, &str)]| {
        let named = list.iter().map(|(name, fake, model)| config(name, Adapter::OpenAi, fake, model));
        broker(named.chain([ProviderConfig::offline()]).collect())
    };
    let same = of(&[("a", &bad, "e-1"), ("b", &good, "e-2"), ("c", &good, "e-1")]);
    let answer = same.embed(&texts(None)).await.unwrap();
    assert_eq!(outline(&answer.summary.attempts), ["a: PROVIDER_OVERLOADED", "c"]);
    // Neither another model nor the offline generator makes up for it: their vectors cannot be compared.
    let other = of(&[("a", &bad, "e-1"), ("b", &good, "e-2")]);
    let error = other.embed(&texts(None)).await.unwrap_err();
    assert_eq!((error.kind, outline(&error.attempts).len()), (ErrorKind::Overloaded, 1));
    assert_eq!(other.embed(&texts(Some("e-2"))).await.unwrap().summary.provider, "b");
    // A model that is nobody's own is asked of all in their order.
    let answer = other.embed(&texts(Some("e-3"))).await.unwrap();
    assert_eq!(outline(&answer.summary.attempts), ["a: PROVIDER_OVERLOADED", "b"]);
    assert_eq!(answer.summary.model, "e-3");
}

#[tokio::test]
async fn the_offline_generator_answers_where_nobody_else_could_and_says_so() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let alone = broker(vec![ProviderConfig::offline()]);
    for model in [None, Some("text-embedding-3-small")] {
        let answer = alone.embed(&texts(model)).await.unwrap();
        assert_eq!((answer.vectors[0].len(), answer.summary.model.as_str()), (256, "offline-hash-1"));
        assert!(answer.summary.degraded.is_some());
    }
    let beside = broker(vec![config("main", Adapter::OpenAi, &fake, "e-1"), ProviderConfig::offline()]);
    assert_eq!(beside.embed(&texts(Some("offline-hash-1"))).await.unwrap().summary.provider, "offline");
    assert_eq!(beside.embed(&texts(None)).await.unwrap().summary.provider, "main");
}

#[tokio::test]
async fn a_provider_that_makes_none_says_so() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let broker = broker(vec![provider("claude", Adapter::Anthropic, &fake)]);
    let error = broker.embed(&texts(None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(error.message, "no configured provider makes embeddings: set its embedding_model");
    let pinned = EmbeddingRequest { provider: Some("claude".into()), ..texts(Some("x")) };
    let error = broker.embed(&pinned).await.unwrap_err();
    assert_eq!(error.message, "claude makes no embeddings: set its embedding_model");
    assert_eq!(fake.counts().received, 0);
}

#[tokio::test]
async fn vectors_that_are_too_few_are_no_answer() {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let broker = broker(vec![config("main", Adapter::OpenAi, &fake, "e-1")]);
    fake.rules([Rule::standing(Fault::EmptyChoices)]);
    let error = broker.embed(&texts(None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::MalformedAnswer);
    assert!(error.message.contains("0 vectors for 2 texts"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn embeddings_have_a_timeout_and_count_for_health() {
    let slow = Scripted::new("slow", Act::Hang);
    let (broker, _) = scripted(&[&slow], false);
    let error = broker.embed(&texts(None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    slow.set(Act::Answer);
    broker.embed(&texts(None)).await.unwrap();
    let status = &broker.providers()[0];
    assert_eq!((status.successes, status.failures), (1, 1));
}
