//! Images: Gemini's own models answer with one among the parts of a content, Imagen's with predictions.
//!
//! Neither takes a size in pixels: the nearest shape that the model makes is asked for. What a filter withheld is
//! told as that, also where all that is left of the answer is that nothing is in it.

use super::error::in_document;
use super::response::{Generated, finish_reason};
use crate::provider::ProviderImage;
use crate::wire::{document, excerpt, image, malformed};
use callboard_domain::llm::{Error, ErrorKind, ImageRequest, Usage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The shapes that Gemini's models make, as they are named, and their widths and heights.
const SHAPES: &[Shape] = &[
    ("1:1", 1, 1),
    ("2:3", 2, 3),
    ("3:2", 3, 2),
    ("3:4", 3, 4),
    ("4:3", 4, 3),
    ("4:5", 4, 5),
    ("5:4", 5, 4),
    ("9:16", 9, 16),
    ("16:9", 16, 9),
    ("21:9", 21, 9),
];
/// Those that Imagen's make.
const IMAGEN_SHAPES: &[Shape] =
    &[("1:1", 1, 1), ("3:4", 3, 4), ("4:3", 4, 3), ("9:16", 9, 16), ("16:9", 16, 9)];

/// What is said of an answer that is something else.
const NO_PREDICTION: &str = "the answer is no prediction";

type Shape = (&'static str, u32, u32);

/// How a model is asked for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// As for a text, with an image among the parts of the answer.
    Content,
    /// Imagen's.
    Predict,
}

impl Api {
    /// That of a model, by its name.
    pub(super) fn of(model: &str) -> Self {
        match bare(model).starts_with("imagen") {
            true => Self::Predict,
            false => Self::Content,
        }
    }

    /// The method in the path of a call.
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Content => "generateContent",
            Self::Predict => "predict",
        }
    }

    /// The body of a call.
    pub(super) fn body<'a>(self, request: &'a ImageRequest, model: &str) -> Body<'a> {
        match self {
            Self::Content => {
                // The first that made images refuses to be told their shape.
                let shaped = !bare(model).starts_with("gemini-2.0");
                let shape = || ImageConfig { aspect_ratio: shape(SHAPES, request.width, request.height) };
                Body::Content {
                    contents: [Content { role: "user", parts: [Part { text: &request.prompt }] }],
                    generation_config: Generation {
                        // Asked for images alone, some models refuse.
                        response_modalities: ["TEXT", "IMAGE"],
                        image_config: shaped.then(shape),
                    },
                }
            }
            Self::Predict => Body::Predict {
                instances: [Instance { prompt: &request.prompt }],
                parameters: Parameters {
                    sample_count: 1,
                    aspect_ratio: shape(IMAGEN_SHAPES, request.width, request.height),
                    include_rai_reason: true,
                },
            },
        }
    }

    /// The image of an answer.
    ///
    /// # Errors
    /// The error that it holds, that a filter withheld the image, or that there is none.
    pub(super) fn read(self, body: &[u8], model: &str) -> Result<ProviderImage, Error> {
        match self {
            Self::Content => generated(body, model),
            Self::Predict => predicted(body, model),
        }
    }
}

fn bare(model: &str) -> &str {
    model.trim_start_matches("models/")
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Body<'a> {
    #[serde(rename_all = "camelCase")]
    Content {
        contents: [Content<'a>; 1],
        generation_config: Generation,
    },
    Predict {
        instances: [Instance<'a>; 1],
        parameters: Parameters,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct Content<'a> {
    role: &'static str,
    parts: [Part<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Part<'a> {
    text: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Generation {
    response_modalities: [&'static str; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    image_config: Option<ImageConfig>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageConfig {
    aspect_ratio: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Instance<'a> {
    prompt: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parameters {
    sample_count: u32,
    aspect_ratio: &'static str,
    /// Without it what a filter withheld is just not there.
    include_rai_reason: bool,
}

/// The shape nearest to a size: that whose ratio differs by the smallest factor.
fn shape(shapes: &[Shape], width: u32, height: u32) -> &'static str {
    let wanted = f64::from(width.max(1)) / f64::from(height.max(1));
    let off = |(_, w, h): &Shape| (f64::from(*w) / f64::from(*h) / wanted).ln().abs();
    let nearest = shapes.iter().min_by(|a, b| off(a).total_cmp(&off(b)));
    nearest.map_or("1:1", |(name, ..)| *name)
}

/// The image of a content.
pub(super) fn generated(body: &[u8], model: &str) -> Result<ProviderImage, Error> {
    let mut generated = Generated::read(body)?;
    let none = |what: String| Error::new(ErrorKind::MalformedAnswer, what);
    let Some(candidate) = generated.candidate() else {
        return Err(none("the answer has no candidates".into()));
    };
    let (found, words, reason) = candidate.into_pictured();
    // A filter may leave a part of the answer.
    finish_reason(reason.as_deref().unwrap_or("STOP"))?;
    let Some(base64) = found else {
        return Err(none(match words.is_empty() {
            true => "the answer holds no image".into(),
            false => format!("the answer holds no image but words: {}", excerpt(words.as_bytes())),
        }));
    };
    let (data, media_type) = image(&base64)?;
    Ok(ProviderImage {
        data,
        media_type: media_type.into(),
        model: generated.model_version.filter(|m| !m.is_empty()).unwrap_or_else(|| model.to_owned()),
        usage: generated.usage_metadata.unwrap_or_default().into(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prediction {
    #[serde(default)]
    bytes_base64_encoded: Option<String>,
    #[serde(default)]
    rai_filtered_reason: Option<String>,
}

/// The image of a prediction. The API counts no tokens here.
pub(super) fn predicted(body: &[u8], model: &str) -> Result<ProviderImage, Error> {
    let filtered = |what: String| Error::new(ErrorKind::ContentFiltered, what);
    let mut answer: Map<String, Value> = document(body, NO_PREDICTION, in_document)?;
    let list = answer.remove("predictions").unwrap_or_default();
    let predictions = Option::<Vec<Prediction>>::deserialize(list)
        .map_err(|e| malformed(&format!("{NO_PREDICTION} ({e})"), body))?;
    // All that is withheld is left out, and then the list too: an empty object is what is left.
    let withheld = || filtered("the provider's filter withheld the image".into());
    let predictions = predictions.filter(|list| !list.is_empty()).ok_or_else(withheld)?;
    let mut reason = None;
    for prediction in predictions {
        if let Some(base64) = prediction.bytes_base64_encoded {
            let (data, media_type) = image(&base64)?;
            let (media_type, model) = (media_type.into(), model.to_owned());
            return Ok(ProviderImage { data, media_type, model, usage: Usage::default() });
        }
        reason = reason.or(prediction.rai_filtered_reason);
    }
    Err(match reason {
        Some(reason) => {
            filtered(format!("the provider's filter withheld the image ({})", excerpt(reason.as_bytes())))
        }
        None => Error::new(ErrorKind::MalformedAnswer, "the prediction holds no image"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PNG: &str = "iVBORw0KGgo=";

    fn asked(width: u32, height: u32) -> ImageRequest {
        ImageRequest { prompt: "a lamp".into(), width, height, provider: None, idempotency_key: None }
    }

    #[test]
    fn a_model_is_asked_in_the_way_of_its_family() {
        let body = |model: &str| json!(Api::of(model).body(&asked(1024, 768), model));
        let mut content = json!({
            "contents": [{"role": "user", "parts": [{"text": "a lamp"}]}],
            "generationConfig": {
                "responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "4:3"},
            },
        });
        assert_eq!(body("gemini-2.5-flash-image"), content);
        content["generationConfig"].as_object_mut().unwrap().remove("imageConfig");
        assert_eq!(body("models/gemini-2.0-flash-preview-image-generation"), content);
        let predict = json!({
            "instances": [{"prompt": "a lamp"}],
            "parameters": {"sampleCount": 1, "aspectRatio": "4:3", "includeRaiReason": true},
        });
        assert_eq!(body("models/imagen-4.0-generate-001"), predict);
        assert_eq!((Api::of("imagen-3").method(), Api::of("m").method()), ("predict", "generateContent"));
    }

    #[test]
    fn a_size_becomes_the_nearest_shape_that_the_model_makes() {
        for (width, height, gemini, imagen) in [
            (1024, 1024, "1:1", "1:1"),
            (1200, 628, "16:9", "16:9"),
            (628, 1200, "9:16", "9:16"),
            (2048, 64, "21:9", "16:9"),
            (64, 2048, "9:16", "9:16"),
            (1000, 800, "5:4", "4:3"),
            (600, 900, "2:3", "3:4"),
            (0, 0, "1:1", "1:1"),
        ] {
            assert_eq!(shape(SHAPES, width, height), gemini, "{width}x{height}");
            assert_eq!(shape(IMAGEN_SHAPES, width, height), imagen, "{width}x{height}");
        }
    }

    #[test]
    fn the_image_is_found_among_words_and_thoughts() {
        let body = json!({"candidates": [{"content": {"parts": [
            {"thought": true, "inlineData": {"mimeType": "image/png", "data": "x"}},
            {"text": "Here it is"},
            // The kind is that of the bytes.
            {"inlineData": {"mimeType": "image/jpeg", "data": PNG}},
        ]}, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1290},
            "modelVersion": "m-2"});
        let image = generated(body.to_string().as_bytes(), "m").unwrap();
        assert_eq!((image.media_type.as_str(), image.model.as_str()), ("image/png", "m-2"));
        assert_eq!(image.usage, Usage::of(3, 1290));
        let body = json!({"predictions": [
            {"raiFilteredReason": "one was withheld"}, {"mimeType": "image/png", "bytesBase64Encoded": PNG},
        ]});
        assert_eq!(predicted(body.to_string().as_bytes(), "m").unwrap().media_type, "image/png");
    }

    #[test]
    fn what_holds_no_image_has_its_kind() {
        use ErrorKind::*;
        for (body, kind) in [
            (r#"{"candidates":[{"finishReason":"IMAGE_SAFETY"}]}"#, ContentFiltered),
            (r#"{"candidates":[{"finishReason":"IMAGE_PROHIBITED_CONTENT"}]}"#, ContentFiltered),
            (
                r#"{"candidates":[{"content":{"parts":[{"text":"no"}]},"finishReason":"SAFETY"}]}"#,
                ContentFiltered,
            ),
            (r#"{"promptFeedback":{"blockReason":"OTHER"}}"#, ContentFiltered),
            (r#"{"candidates":[{"finishReason":"NO_IMAGE"}]}"#, MalformedAnswer),
            (
                r#"{"candidates":[{"content":{"parts":[{"text":"no"}]},"finishReason":"STOP"}]}"#,
                MalformedAnswer,
            ),
            (r#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":"?"}}]}}]}"#, MalformedAnswer),
            (r#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":"AQID"}}]}}]}"#, MalformedAnswer),
            (r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#, Overloaded),
            ("{}", MalformedAnswer),
        ] {
            assert_eq!(generated(body.as_bytes(), "m").unwrap_err().kind, kind, "{body}");
        }
        for (body, kind) in [
            ("{}", ContentFiltered),
            (r#"{"predictions":[]}"#, ContentFiltered),
            (r#"{"predictions":[{"raiFilteredReason":"r"}]}"#, ContentFiltered),
            (r#"{"predictions":[{"mimeType":"image/png"}]}"#, MalformedAnswer),
            (r#"{"predictions":[{"bytesBase64Encoded":"AQID"}]}"#, MalformedAnswer),
            (r#"{"error":{"code":429,"message":"m"}}"#, RateLimited),
            ("[]", MalformedAnswer),
            (r#"{"predictions":7}"#, MalformedAnswer),
        ] {
            assert_eq!(predicted(body.as_bytes(), "m").unwrap_err().kind, kind, "{body}");
        }
    }
}
