//! Images by Gemini's own models and by Imagen's.

use super::{Row, provider, raw, row};
use crate::support::{KEY, broker, openai, outline, picture};
use callboard_domain::llm::{ErrorKind, ImageRequest, Usage};
use callboard_provider_broker::config::{Adapter, ProviderConfig};
use callboard_testkit::FakeProvider;
use callboard_testkit::fake_provider::Fault;
use serde_json::json;

const GEMINI: &str = "gemini-2.5-flash-image";
const IMAGEN: &str = "models/imagen-4.0-generate-001";

fn with(model: &str, name: &str, fake: &FakeProvider) -> ProviderConfig {
    ProviderConfig { image_model: Some(model.into()), ..provider(name, Adapter::Gemini, fake) }
}

async fn one(model: &str) -> (FakeProvider, std::sync::Arc<callboard_provider_broker::Broker>) {
    let fake = FakeProvider::builder().key(KEY).start().await.unwrap();
    let broker = broker(vec![with(model, "main", &fake)]);
    (fake, broker)
}

#[tokio::test]
async fn geminis_models_make_images_in_a_content() {
    let (fake, broker) = one(GEMINI).await;
    let wide = ImageRequest { width: 1200, height: 628, ..picture() };
    let image = broker.image(&wide).await.unwrap();
    assert_eq!((image.media_type.as_str(), image.summary.model.as_str()), ("image/png", GEMINI));
    assert_eq!(image.summary.usage, Usage::of(4, 1290));
    let sent = &fake.requests()[0];
    assert_eq!(sent.path, format!("/v1beta/models/{GEMINI}:generateContent"));
    assert_eq!(sent.headers["x-goog-api-key"], KEY);
    let config = json!({"responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "16:9"}});
    assert_eq!(sent.body["generationConfig"], config);
}

#[tokio::test]
async fn imagens_models_predict_them() {
    let (fake, broker) = one(IMAGEN).await;
    let image = broker.image(&picture()).await.unwrap();
    assert_eq!((image.media_type.as_str(), image.summary.model.as_str()), ("image/png", IMAGEN));
    let sent = &fake.requests()[0];
    assert_eq!(sent.path, format!("/v1beta/{IMAGEN}:predict"));
    let body = json!({
        "instances": [{"prompt": "a lamp at night"}],
        "parameters": {"sampleCount": 1, "aspectRatio": "1:1", "includeRaiReason": true},
    });
    assert_eq!(sent.body, body);
}

/// What fails alike at both.
fn rows() -> Vec<Row> {
    use ErrorKind::*;
    let json = |status, body: &str| raw(status, "application/json", body);
    vec![
        row(Fault::Quota, QuotaExceeded, "PerDay"),
        row(Fault::RateLimit { retry_after: Some(7) }, RateLimited, "PerMinute").wait(7),
        row(Fault::Overloaded, Overloaded, "(UNAVAILABLE)"),
        row(Fault::BadKey, Authentication, "400: API key not valid. Please pass a valid API key: ***."),
        row(Fault::NoSuchModel, ModelNotFound, "(NOT_FOUND)"),
        row(Fault::ServerFault { status: 500 }, ServerFault, "(INTERNAL)"),
        row(Fault::ServerFault { status: 504 }, Timeout, "(DEADLINE_EXCEEDED)"),
        row(Fault::ConnectionReset { after_bytes: 0 }, Connection, "bad: "),
        row(Fault::MalformedJson, MalformedAnswer, "the answer is no "),
        row(
            json(
                200,
                r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
            ),
            Overloaded,
            "bad: The model is overloaded. (UNAVAILABLE)",
        ),
        row(
            raw(200, "application/json", vec![b' '; (32 << 20) + 1]),
            MalformedAnswer,
            "the answer is over 33554432 bytes",
        ),
    ]
}

async fn fail(model: &str, own: Vec<Row>) {
    let bad = FakeProvider::builder().key(KEY).start().await.unwrap();
    let good = FakeProvider::start().await.unwrap();
    let alone = broker(vec![with(model, "bad", &bad)]);
    let both = broker(vec![with(model, "bad", &bad), openai("good", &good)]);
    for row in rows().into_iter().chain(own) {
        let shown = format!("{model} {:.100}", format!("{:?}", row.fault));
        bad.fault(row.fault.clone());
        let before = bad.counts().received;
        row.check(&alone.image(&picture()).await.unwrap_err(), &shown);
        assert_eq!(bad.counts().received - before, 1, "{shown}");
        match both.image(&picture()).await {
            Ok(image) => {
                assert!(row.falls_back, "{shown}");
                let reason = format!("bad: {}", row.kind.reason());
                assert_eq!(outline(&image.summary.attempts), [reason.as_str(), "good"], "{shown}");
            }
            Err(error) => assert!(!row.falls_back, "{shown}: {error}"),
        }
    }
}

#[tokio::test]
async fn each_fault_has_its_kind_and_its_way_on() {
    use ErrorKind::*;
    let withheld = "the provider's filter withheld the answer (IMAGE_SAFETY)";
    let words = r#"{"candidates":[{"content":{"parts":[{"text":"I cannot draw."}]},"finishReason":"STOP"}]}"#;
    let own = vec![
        row(Fault::ContentFilter, ContentFiltered, "the provider's filter blocked the prompt (SAFETY)"),
        row(Fault::ContentFilterFinish, ContentFiltered, withheld),
        row(Fault::EmptyChoices, MalformedAnswer, "the answer has no candidates"),
        row(raw(200, "application/json", words), MalformedAnswer, "no image but words: I cannot draw."),
    ];
    fail(GEMINI, own).await;
    let own = vec![
        row(Fault::ContentFilter, ContentFiltered, "violate Google's Responsible AI practices"),
        row(
            Fault::ContentFilterFinish,
            ContentFiltered,
            "withheld the image (Unable to show generated images.",
        ),
        row(Fault::EmptyChoices, ContentFiltered, "the provider's filter withheld the image"),
    ];
    fail(IMAGEN, own).await;
}
