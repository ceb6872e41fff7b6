//! Images.

use super::{Bench, header, refusal};
use callboard_testkit::fake_provider::Fault;
use serde_json::{Value, json};

#[tokio::test]
async fn an_image_comes_in_base64_from_who_makes_it() {
    let bench = Bench::start().await;
    for model in [json!(null), json!("auto"), json!("fake-image"), json!("main/fake-image")] {
        let body = json!({"prompt": "a cup of tea", "model": model, "size": "512x512"});
        let response = bench.post("images/generations", &body).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), header(&response, "x-callboard-provider")),
            (200, "main"),
            "{model}"
        );
        let answer: Value = response.json().await.unwrap();
        assert!(answer["data"][0]["b64_json"].as_str().unwrap().starts_with("iVBORw0KGgo"), "{answer}");
        let usage = json!({"input_tokens": 12, "output_tokens": 34, "total_tokens": 46});
        assert_eq!(answer["usage"], usage);
    }
    let asked = &bench.fake.requests()[0].body;
    assert_eq!((&asked["model"], &asked["size"]), (&json!("fake-image"), &json!("512x512")));
}

#[tokio::test]
async fn a_model_that_makes_no_images_is_not_found_and_errors_keep_their_meaning() {
    let bench = Bench::start().await;
    let ask = async |model: &str| {
        let body = json!({"prompt": "x", "model": model});
        refusal(bench.post("images/generations", &body).send().await.unwrap()).await
    };
    let (status, error) = ask("dall-e-3").await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
    assert!(error["message"].as_str().unwrap().contains("main/fake-image"), "{error}");
    assert_eq!(bench.fake.counts().received, 0);
    bench.fake.fault(Fault::ContentFilter);
    let (status, error) = ask("fake-image").await;
    assert_eq!((status, &error["code"]), (400, &json!("content_filter")));
}
