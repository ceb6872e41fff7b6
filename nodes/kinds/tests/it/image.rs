use crate::support::{Stage, TASK, digest, picture, png, summary};
use callboard_sdk::llm::{Error, ErrorKind, ImageResponse};
use serde_json::json;

#[tokio::test]
async fn an_image_is_stored_and_its_real_size_told() {
    let file = png(96, 64);
    let stage = Stage::of("image.generate").image(Ok(picture(file.clone(), "image/png")));
    let result = stage.run(&json!({"prompt": "A lamp.", "width": 100, "height": 64})).await.unwrap();
    assert_eq!(
        result,
        json!({
            "image": digest(0).to_string(), "media_type": "image/png", "width": 96, "height": 64,
            "provider": "painter", "model": "image-test", "degraded": false, "placeholder": false,
        })
    );
    assert_eq!(stage.artifacts(), [(file.into(), "image/png".to_owned())]);
    assert_eq!(
        stage.progress(),
        [(10, "painting the image".to_owned()), (90, "storing the image".to_owned())]
    );
    let asked = &stage.asked_images()[0];
    assert_eq!((asked.prompt.as_str(), asked.width, asked.height), ("A lamp.", 100, 64));
    assert_eq!(asked.idempotency_key, Some(format!("{TASK}/image")));
}

#[tokio::test]
async fn an_image_of_another_format_has_no_size_and_the_default_is_asked_for() {
    let stage = Stage::of("image.generate").image(Ok(picture(&b"RIFF....WEBP"[..], "image/webp")));
    let result = stage.run(&json!({"prompt": "A lamp.", "provider": "painter"})).await.unwrap();
    assert_eq!(result["media_type"], "image/webp");
    assert!(result.get("width").is_none() && result.get("height").is_none());
    let asked = &stage.asked_images()[0];
    assert_eq!((asked.width, asked.height, asked.provider.as_deref()), (1024, 1024, Some("painter")));
}

#[tokio::test]
async fn the_offline_generators_image_is_a_placeholder() {
    let offline = ImageResponse {
        summary: summary("offline", "offline-template-1"),
        ..picture(png(8, 8), "image/png")
    };
    let result = Stage::of("image.generate").image(Ok(offline)).run(&json!({"prompt": "?"})).await.unwrap();
    assert_eq!((&result["placeholder"], &result["degraded"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn without_an_image_the_attempt_fails_and_nothing_is_stored() {
    let stage = Stage::of("image.generate").image(Err(Error::new(ErrorKind::ContentFiltered, "not that")));
    let failure = stage.run(&json!({"prompt": "?"})).await.unwrap_err();
    assert_eq!(failure.error.reason, "PROVIDER_CONTENT_FILTERED");
    assert!(!failure.error.retryable);
    assert!(stage.artifacts().is_empty());
}

#[tokio::test]
async fn a_cancel_drops_the_call() {
    let (failure, dropped) = Stage::of("image.generate").cancel_in_call(&json!({"prompt": "?"})).await;
    assert!(failure.error.message.contains("cancelled"), "{failure}");
    assert!(dropped);
}
