//! Vectors and images, straight from the providers: over gRPC, by the command line, and in a handler.

use crate::node::{InProcess, callboard, scripted};
use callboard_client::{Code, v1};
use callboard_domain::llm::EmbeddingRequest;
use callboard_provider_broker::config::{Adapter, ProviderConfig};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::{Endpoint, Fault, Rule};
use futures::FutureExt;
use serde_json::{Value, json};

fn providers(fake: &FakeProvider) -> Vec<ProviderConfig> {
    let some = |text: &str| Some(text.to_owned());
    let main = ProviderConfig {
        text_model: some("fake-text"),
        embedding_model: some("fake-embedding"),
        ..ProviderConfig::openai("main", fake.base_url())
    };
    let gemini = ProviderConfig {
        base_url: Some(fake.root_url()),
        text_model: some("fake-text"),
        image_model: some("gemini-2.5-flash-image"),
        ..ProviderConfig::named("gemini", Adapter::Gemini)
    };
    vec![main, gemini]
}

async fn start(fake: &FakeProvider) -> InProcess {
    let providers = providers(fake);
    let change = move |config: &mut callboard::config::Config| {
        config.broker.providers = providers;
        // What becomes of one call: a breaker would answer the next.
        config.broker.breaker.enabled = false;
    };
    InProcess::builder().config(change).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_become_vectors_by_the_api_and_the_command_line() {
    let fake = FakeProvider::start().await.unwrap();
    let node = start(&fake).await;
    let of = |inputs: &[&str]| v1::EmbedRequest {
        inputs: inputs.iter().map(|text| (*text).to_owned()).collect(),
        dimensions: Some(3),
        ..Default::default()
    };
    let answer = node.client.embed(of(&["hello you", "tea"])).await.unwrap();
    let values: Vec<_> = answer.embeddings.into_iter().map(|embedding| embedding.values).collect();
    assert_eq!(values, [[9.0, 2.0, 0.5], [3.0, 1.0, 0.5]]);
    let summary = answer.summary.unwrap();
    assert_eq!((summary.provider.as_str(), summary.model.as_str()), ("main", "fake-embedding"));
    assert_eq!(summary.input_tokens, 3);

    // What is wrong is said by its field, and nobody is asked.
    let asked = fake.counts().received;
    let error =
        node.client.embed(v1::EmbedRequest { dimensions: Some(0), ..of(&["a", ""]) }).await.unwrap_err();
    let fields: Vec<_> = error.violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!((error.code, fields), (Code::InvalidArgument, vec!["inputs[1]", "dimensions"]));
    let long = "x".repeat((1 << 20) + 1);
    let error = node.client.embed(of(&[&long])).await.unwrap_err();
    assert_eq!(
        (error.code, error.violations[0].field.as_str()),
        (Code::InvalidArgument, "inputs"),
        "{error}"
    );
    assert_eq!(fake.counts().received, asked);

    let address = node.running.public.to_string();
    let run = async |args: &[&str]| callboard(args, &[("CALLBOARD_ADDR", address.as_str())]).await;
    let table = run(&["embed", "hello you", "tea"]).await;
    assert!(
        table.stdout.contains("LIKE THE FIRST") && table.stdout.contains("hello you"),
        "{}",
        table.stdout
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hello you\n\ntea\n").unwrap();
    let path = file.path().to_str().unwrap();
    let output = run(&["embed", "--file", path, "--dimensions", "2", "--output", "json"]).await;
    let output: Value = serde_json::from_str(&output.stdout).unwrap();
    let expected = json!([
        {"text": "hello you", "values": [9.0, 2.0]}, {"text": "tea", "values": [3.0, 1.0]},
    ]);
    assert_eq!((&output["embeddings"], &output["summary"]["model"]), (&expected, &json!("fake-embedding")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_made_by_the_api_and_written_by_the_command_line() {
    let fake = FakeProvider::start().await.unwrap();
    let node = start(&fake).await;
    let request = v1::GenerateImageRequest { prompt: "a lamp".into(), ..Default::default() };
    let image = node.client.generate_image(request.clone()).await.unwrap();
    assert_eq!((image.media_type.as_str(), &image.data[1..4]), ("image/png", &b"PNG"[..]));
    assert_eq!(image.summary.unwrap().provider, "gemini");
    let wrong = v1::GenerateImageRequest { width: 1, ..request };
    assert_eq!(node.client.generate_image(wrong).await.unwrap_err().violations[0].field, "width");

    let address = node.running.public.to_string();
    let run = async |args: &[&str]| callboard(args, &[("CALLBOARD_ADDR", address.as_str())]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lamp.png");
    let done = run(&["image", "a lamp", "--size", "1536x1024", "--output", path.to_str().unwrap()]).await;
    assert_eq!(std::fs::read(&path).unwrap(), image.data, "{}", done.stderr);
    assert!(done.stderr.contains("(image/png)"), "{}", done.stderr);
    let config = fake.requests().pop().unwrap().body["generationConfig"].clone();
    assert_eq!(config["imageConfig"]["aspectRatio"], "3:2");
    let output = run(&["image", "a lamp", "--output", "json"]).await;
    let output: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        (&output["media_type"], &output["size_bytes"]),
        (&json!("image/png"), &json!(image.data.len()))
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_told_of_every_attempt() {
    let fake = FakeProvider::start().await.unwrap();
    let node = start(&fake).await;
    fake.rules([Rule::standing(Fault::Quota).at(Endpoint::Chat)]);
    let address = node.running.public.to_string();
    let run = async |args: &[&str]| callboard(args, &[("CALLBOARD_ADDR", address.as_str())]).await;
    for stream in [&[][..], &["--stream"]] {
        let told = run(&[&["generate", "tea", "--verbose"], stream].concat()).await;
        assert_eq!(told.stdout, "fake: tea\n", "{}", told.stderr);
        for line in ["answered by gemini", "attempt 1: main (fake-text)", "attempt 2: gemini (fake-text)"] {
            assert!(told.stderr.contains(line), "{line}: {}", told.stderr);
        }
    }
    let output = run(&["generate", "tea", "--output", "json"]).await;
    let output: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(output["summary"]["attempts"][0]["provider"], "main");
    assert_eq!(
        (&output["summary"]["dropped_parameters"], &output["summary"]["arm"]),
        (&json!([]), &Value::Null)
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_gets_vectors_and_the_error_of_who_makes_none() {
    let fake = FakeProvider::start().await.unwrap();
    let embeds = scripted("embeds", |context, _| {
        async move {
            let answer = context.llm().embed(EmbeddingRequest::of(["hello you", "tea"])).await.unwrap();
            let pinned =
                EmbeddingRequest { provider: Some("nobody".into()), ..EmbeddingRequest::of(["tea"]) };
            let error = context.llm().embed(pinned).await.unwrap_err();
            let (vectors, provider) = (answer.vectors, answer.summary.provider);
            Ok(json!({"vectors": vectors, "provider": provider, "error": error.kind.reason()})
                .to_string()
                .into())
        }
        .boxed()
    });
    let providers = providers(&fake);
    let builder = InProcess::builder().config(move |config| config.broker.providers = providers);
    let node = builder.kinds(|kinds| kinds.with_handler(embeds).unwrap()).start().await;
    let task = node.submit("embeds", "{}").await;
    let result: Value = serde_json::from_slice(&node.wait(&task.id).await.result).unwrap();
    let vectors = json!([[9.0, 2.0, 0.5, 0.5], [3.0, 1.0, 0.5, 0.5]]);
    assert_eq!((&result["vectors"], &result["provider"]), (&vectors, &json!("main")));
    assert_eq!(result["error"], "PROVIDER_INVALID_REQUEST");
    node.stop().await;
}
