//! `POST /v1/images/generations`: one image, in base64.

use super::answer;
use super::error::Error;
use super::request::{is_nothing, is_number, parse};
use super::{Endpoint, body};
use crate::config::Alias;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use callboard_contracts::mesh::v1 as mesh;
use callboard_domain::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The sides that an image may have, in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 64..=2048;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Image {
    prompt: Option<String>,
    model: Option<String>,
    size: Option<String>,
    response_format: Option<String>,
    // What may change the answer.
    n: Option<Value>,
    stream: Option<Value>,
    output_format: Option<String>,
    background: Option<String>,
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    model: Option<String>,
    prompt: String,
    width: u32,
    height: u32,
}

#[derive(Debug, Serialize)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    total_tokens: u64,
}

#[derive(Debug, Serialize)]
struct Datum {
    b64_json: String,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Images {
    created: i64,
    data: [Datum; 1],
    usage: Usage,
}

/// Generates an image.
pub(super) async fn generate(State(endpoint): State<Endpoint>, request: Request) -> Result<Response, Error> {
    let asked = read(&body::read(request.into_body()).await?)?;
    let provider = endpoint.maker(asked.model.as_deref()).await?;
    let (prompt, width, height) = (asked.prompt, asked.width, asked.height);
    let call = mesh::GenerateImageRequest { prompt, width, height, provider, ..Default::default() };
    let answer = endpoint.0.broker.image(call).await?;
    let summary = answer.summary.unwrap_or_default();
    let (input, output) = (summary.input_tokens.into(), summary.output_tokens.into());
    let images = Images {
        created: endpoint.now(),
        data: [Datum { b64_json: STANDARD.encode(&answer.data) }],
        usage: Usage { input_tokens: input, output_tokens: output, total_tokens: input + output },
    };
    let mut response = Json(images).into_response();
    answer::tell(response.headers_mut(), &summary, summary.attempts.len());
    Ok(response)
}

impl Endpoint {
    /// The provider that makes images with a model; empty if any may. A call cannot name a model to a provider: it has one
    /// for images.
    async fn maker(&self, model: Option<&str>) -> Result<String, Error> {
        let Some(name) = model else { return Ok(String::new()) };
        let Alias { provider, model } = self.named(name).await?;
        if model.is_empty() {
            return Ok(provider);
        }
        let providers = self.providers().await?;
        let makers = providers.iter().filter(|known| !known.image_model.is_empty());
        let maker = makers
            .clone()
            .find(|known| known.image_model == model && (provider.is_empty() || known.name == provider));
        maker.map(|maker| maker.name.clone()).ok_or_else(|| {
            let known: Vec<_> = makers.map(|known| format!("{}/{}", known.name, known.image_model)).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            Error::no_such_model(format!("no provider makes images with `{name}`; there are: {known}"))
        })
    }
}

/// Reads what is asked.
fn read(body: &[u8]) -> Result<Asked, Error> {
    let image: Image = parse(body)?;
    let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| !is_nothing(value));
    if given(&image.n) && !image.n.as_ref().is_some_and(|n| is_number(n, 1.0)) {
        return Err(Error::unsupported("n", "one image is made at a time"));
    }
    if given(&image.stream) {
        return Err(Error::unsupported("stream", "images come in one piece"));
    }
    for (field, value, holds) in [
        ("response_format", &image.response_format, "b64_json"),
        ("output_format", &image.output_format, "png"),
        ("background", &image.background, "auto"),
    ] {
        if let Some(other) = value.as_deref().filter(|value| *value != holds) {
            return Err(Error::unsupported(
                field,
                &format!("`{other}` is not passed on to providers; `{holds}` is what holds"),
            ));
        }
    }
    let prompt = image.prompt.filter(|prompt| !prompt.trim().is_empty());
    let prompt = prompt.ok_or_else(|| Error::invalid(Some("prompt".into()), "you must provide `prompt`"))?;
    if prompt.len() > limits::INPUT_BYTES {
        return Err(Error::too_large(format!("the prompt is over {} bytes", limits::INPUT_BYTES)));
    }
    let (width, height) = match image.size.as_deref() {
        None | Some("auto") => (1024, 1024),
        Some(size) => sides(size).ok_or_else(|| {
            let what =
                format!("`{size}` is no size: it is WIDTHxHEIGHT, each {} to {}", SIDES.start(), SIDES.end());
            Error::invalid(Some("size".into()), what)
        })?,
    };
    Ok(Asked { model: image.model.filter(|model| !model.is_empty()), prompt, width, height })
}

fn sides(size: &str) -> Option<(u32, u32)> {
    let (width, height) = size.split_once('x')?;
    let side = |text: &str| text.parse().ok().filter(|side| SIDES.contains(side));
    Some((side(width)?, side(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(field: &str, value: Value) -> Value {
        let mut body = json!({"prompt": "a cup"});
        body[field] = value;
        let error = read(body.to_string().as_bytes()).unwrap_err();
        let error: Value = serde_json::from_str(&error.document()).unwrap();
        error["error"]["param"].clone()
    }

    #[test]
    fn an_image_is_asked_for_with_what_holds_anyway() {
        let body = json!({"prompt": "a cup", "n": 1, "size": "640x320", "response_format": "b64_json", "quality": "low",
            "output_format": "png", "background": "auto", "stream": false, "user": "u"});
        let asked = read(body.to_string().as_bytes()).unwrap();
        assert_eq!(asked, Asked { model: None, prompt: "a cup".into(), width: 640, height: 320 });
        assert_eq!(read(br#"{"prompt":"x","size":"auto","model":""}"#).unwrap().width, 1024);
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        for (field, value) in [
            ("n", json!(2)),
            ("stream", json!(true)),
            ("response_format", json!("url")),
            ("output_format", json!("webp")),
            ("background", json!("transparent")),
            ("size", json!("9x9")),
            ("size", json!("large")),
            ("prompt", json!(" ")),
        ] {
            assert_eq!(refused(field, value), field, "{field}");
        }
    }
}
