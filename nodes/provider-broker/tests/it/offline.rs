//! The offline generator, as the task kinds meet it.

use crate::support::{broker, picture};
use callboard_domain::llm::{ImageRequest, TextRequest};
use callboard_provider_broker::SKELETON_PREFIX;
use callboard_provider_broker::config::ProviderConfig;
use serde_json::Value;

const BRIEF: &str = "Write the text of a marketing campaign for this brief.\n\nProduct: Harbour Blend, a dark coffee\n\
    Audience: people who work at night\nTone: dry\nKey point: roasted on Tuesdays\nKey point: in 250 g bags\n\n\
    Answer with these three parts and nothing else:\nHeadline: one line of at most ten words\nBody: two paragraphs\n\
    Call to action: one sentence";

#[tokio::test]
async fn the_same_prompt_gives_the_same_labelled_text() {
    let broker = broker(vec![ProviderConfig::offline()]);
    let ask = async |prompt: &str| broker.text(&TextRequest::prompt(prompt)).await.unwrap();
    let first = ask("Name three things that a night shift needs.").await;
    assert_eq!(first.text, ask("Name three things that a night shift needs.").await.text);
    assert!(first.text.contains("offline template, no model was called"), "{}", first.text);
    assert!(first.text.contains("night shift needs"), "{}", first.text);
    assert_eq!(first.summary.finish_reason, "stop");
    assert!(first.summary.usage.output_tokens > 5);
    assert_ne!(first.text, ask("Name two things.").await.text);

    let request = TextRequest { max_tokens: Some(4), ..TextRequest::prompt("Name three things.") };
    let cut = broker.text(&request).await.unwrap();
    assert_eq!((cut.summary.finish_reason.as_str(), cut.summary.usage.output_tokens), ("length", 4));
}

#[tokio::test]
async fn a_campaign_has_its_three_parts() {
    let broker = broker(vec![ProviderConfig::offline()]);
    let text = broker.text(&TextRequest::prompt(BRIEF).system("You are a copywriter.")).await.unwrap().text;
    let start = |label: &str| text.lines().position(|line| line.starts_with(label)).unwrap();
    assert!(start("Headline: Harbour Blend") < start("Body: "));
    assert!(start("Body: ") < start("Call to action: "));
    assert!(
        text.contains("people who work at night") && text.contains("roasted on Tuesdays; in 250 g bags"),
        "{text}"
    );
    assert!(text.contains("no model was called"), "{text}");
}

#[tokio::test]
async fn a_skeleton_is_filled_in() {
    let broker = broker(vec![ProviderConfig::offline()]);
    let prompt = format!(
        "Analyse this return policy of a shop.\n\n<policy>\nReturns within 14 days. You pay the postage of returns.\n\
         </policy>\n\nRespond with a JSON object.\n{SKELETON_PREFIX}{{\"score\": 0, \"strengths\": [\"\"], \"risks\": [\"\"]}}"
    );
    let request = TextRequest { json: true, ..TextRequest::prompt(prompt) };
    let answer = broker.text(&request).await.unwrap().text;
    assert_eq!(answer, broker.text(&request).await.unwrap().text);
    let filled: Value = serde_json::from_str(&answer).unwrap();
    assert!(filled["score"].as_u64().unwrap() <= 100);
    assert!(
        filled["strengths"][0].as_str().unwrap().contains("returns") || answer.contains("postage"),
        "{answer}"
    );
    assert_eq!(filled.as_object().unwrap().len(), 3);
    let without = TextRequest { json: true, ..TextRequest::prompt("anything") };
    let object: Value = serde_json::from_str(&broker.text(&without).await.unwrap().text).unwrap();
    assert_eq!(object["offline"], true);
}

#[tokio::test]
async fn an_image_is_a_png_of_the_size_asked_for() {
    let broker = broker(vec![ProviderConfig::offline()]);
    let request = ImageRequest { width: 640, height: 480, ..picture() };
    let image = broker.image(&request).await.unwrap();
    assert_eq!(image.media_type, "image/png");
    // The header: length, `IHDR`, width, height.
    assert_eq!(image.data[..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!(image.data[16..24], [0, 0, 2, 128, 0, 0, 1, 224]);
    assert_eq!(image.data, broker.image(&request).await.unwrap().data);
    assert!(image.summary.degraded.is_some());
}
