use crate::support::{Stage, TASK, answer, digest, picture, png, summary};
use callboard_sdk::llm::{Error, ErrorKind, ImageResponse, TextResponse};
use serde_json::{Value, json};
use std::time::Duration;

const TEXT: &str =
    "Headline: Light for those in the dark\nBody: One lamp.\n\nNo glare.\nCall to action: Order it.";

fn brief() -> Value {
    json!({
        "product": "Nightlight", "audience": "stage managers", "tone": "dry", "channel": "email",
        "key_points": ["dims to nothing", "runs for a week"],
    })
}

fn steps(stage: &Stage) -> Vec<u8> {
    stage.progress().into_iter().map(|(percent, _)| percent).collect()
}

#[tokio::test]
async fn a_brief_becomes_a_text_and_an_image() {
    let file = png(64, 64);
    let stage =
        Stage::of("campaign.generate").text(Ok(answer(TEXT))).image(Ok(picture(file.clone(), "image/png")));
    let result = stage.run(&brief()).await.unwrap();
    assert_eq!(
        result,
        json!({
            "headline": "Light for those in the dark",
            "body": "One lamp.\n\nNo glare.",
            "call_to_action": "Order it.",
            "text": "Light for those in the dark\n\nOne lamp.\n\nNo glare.\n\nOrder it.",
            "image": digest(0).to_string(),
            "image_media_type": "image/png",
            "image_placeholder": false,
            "providers": ["openai", "painter"],
            "degraded": false,
        })
    );
    assert_eq!(stage.artifacts(), [(file.into(), "image/png".to_owned())]);
    let progress: Vec<_> = stage.progress();
    let progress: Vec<_> = progress.iter().map(|(percent, message)| (*percent, message.as_str())).collect();
    assert_eq!(
        progress,
        [
            (0, "reading the brief"),
            (10, "writing the text"),
            (50, "painting the image"),
            (90, "storing the image"),
            (100, "done"),
        ]
    );
}

#[tokio::test]
async fn the_whole_brief_reaches_both_models_under_stable_keys() {
    let stage =
        Stage::of("campaign.generate").text(Ok(answer(TEXT))).image(Ok(picture(png(8, 8), "image/png")));
    stage.run(&brief()).await.unwrap();
    let (text, image) = (&stage.asked_texts()[0], &stage.asked_images()[0]);
    for word in ["Nightlight", "stage managers", "dry", "email", "dims to nothing", "runs for a week"] {
        assert!(text.messages[1].content.text().contains(word), "{word}");
        assert!(image.prompt.contains(word), "{word}");
    }
    assert!(image.prompt.contains("Light for those in the dark"));
    assert_eq!(text.idempotency_key, Some(format!("{TASK}/text")));
    assert_eq!(image.idempotency_key, Some(format!("{TASK}/image")));
}

#[tokio::test]
async fn without_an_image_there_is_a_placeholder_that_says_why() {
    for kind in ErrorKind::ALL {
        let stage = Stage::of("campaign.generate")
            .text(Ok(answer(TEXT)))
            .image(Err(Error::new(*kind, "the paint is out")));
        let result = stage.run(&brief()).await.unwrap();
        assert_eq!((&result["image_placeholder"], &result["degraded"]), (&json!(true), &json!(true)));
        assert_eq!(result["providers"], json!(["openai"]));
        let reason = result["degraded_reason"].as_str().unwrap();
        assert!(reason.starts_with("image: ") && reason.contains("the paint is out"), "{reason}");

        let (file, media_type) = stage.artifacts().remove(0);
        assert_eq!((media_type.as_str(), &result["image_media_type"]), ("image/png", &json!("image/png")));
        let info = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap().info().size();
        assert_eq!(info, (1024, 1024));
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_that_does_not_come_in_time_is_a_placeholder_before_the_attempt_runs_out() {
    let stage = Stage::of("campaign.generate").timeout(Duration::from_secs(30)).text(Ok(answer(TEXT)));
    let start = tokio::time::Instant::now();
    let result = stage.run(&brief()).await.unwrap();
    assert_eq!(result["image_placeholder"], true);
    assert!(result["degraded_reason"].as_str().unwrap().contains("in time"));
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(steps(&stage), [0, 10, 50, 90, 100]);
}

#[tokio::test]
async fn no_image_is_made_if_none_is_wanted() {
    let mut input = brief();
    input["image"] = json!(false);
    let stage = Stage::of("campaign.generate").text(Ok(answer(TEXT)));
    let result = stage.run(&input).await.unwrap();
    assert!(["image", "image_media_type", "image_placeholder"].iter().all(|f| result.get(f).is_none()));
    assert_eq!(result["degraded"], false);
    assert!(stage.asked_images().is_empty() && stage.artifacts().is_empty());
    assert_eq!(steps(&stage), [0, 10, 100]);
}

#[tokio::test]
async fn offline_answers_make_a_degraded_campaign_of_one_provider() {
    let offline = summary("offline", "offline-template-1");
    let stage = Stage::of("campaign.generate")
        .text(Ok(TextResponse { text: TEXT.into(), summary: offline.clone(), ..TextResponse::default() }))
        .image(Ok(ImageResponse { summary: offline, ..picture(png(8, 8), "image/png") }));
    let result = stage.run(&brief()).await.unwrap();
    assert_eq!(result["providers"], json!(["offline"]));
    assert_eq!((&result["image_placeholder"], &result["degraded"]), (&json!(true), &json!(true)));
    let reason = result["degraded_reason"].as_str().unwrap();
    assert!(reason.contains("text: ") && reason.contains("image: "), "{reason}");
}

#[tokio::test]
async fn without_a_text_the_attempt_fails() {
    let error = Error::new(ErrorKind::Overloaded, "too many writers");
    let failure = Stage::of("campaign.generate").text(Err(error)).run(&brief()).await.unwrap_err();
    assert_eq!((failure.error.reason.as_str(), failure.error.retryable), ("PROVIDER_OVERLOADED", true));

    let empty = Stage::of("campaign.generate").text(Ok(answer(" \n")));
    let failure = empty.run(&brief()).await.unwrap_err();
    assert_eq!((failure.error.reason.as_str(), failure.error.retryable), ("PROVIDER_MALFORMED_ANSWER", true));
    assert!(empty.asked_images().is_empty());
}

#[tokio::test]
async fn a_cancel_drops_the_call_for_the_text_and_the_one_for_the_image() {
    let text = Stage::of("campaign.generate");
    let (failure, dropped) = text.cancel_in_call(&brief()).await;
    assert!(failure.error.message.contains("cancelled") && dropped);
    assert!(text.asked_images().is_empty());

    // The text is there, and the image never comes: a cancel is no reason for a placeholder.
    let image = Stage::of("campaign.generate").text(Ok(answer(TEXT)));
    let cancel = async {
        while image.asked_images().is_empty() {
            tokio::task::yield_now().await;
        }
        image.cancel();
    };
    let input = brief();
    let (result, ()) = tokio::join!(image.run(&input), cancel);
    assert!(result.unwrap_err().error.message.contains("cancelled"));
    assert!(image.artifacts().is_empty());
}
