//! `POST /v1/embeddings`: a vector for each text.

use super::answer;
use super::error::Error;
use super::request::parse;
use super::{Endpoint, body};
use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use callboard_contracts::mesh::v1 as mesh;
use callboard_domain::limits;
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Embed {
    model: Option<String>,
    input: Option<Input>,
    dimensions: Option<u32>,
    encoding_format: Option<String>,
}

/// One text or several. Tokens are not taken: which they are only their own model knows.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Several(Vec<String>),
    Other(serde::de::IgnoredAny),
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    model: String,
    inputs: Vec<String>,
    dimensions: Option<u32>,
    base64: bool,
}

/// The answer.
#[derive(Debug, Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Numbers,
}

/// A vector, as numbers or as the bytes of 32-bit floats, little end first, in base64.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Numbers {
    Plain(Vec<f32>),
    Base64(String),
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: u32,
    total_tokens: u32,
}

/// Turns texts into vectors.
pub(super) async fn embed(State(endpoint): State<Endpoint>, request: Request) -> Result<Response, Error> {
    let asked = read(&body::read(request.into_body()).await?)?;
    let named = endpoint.named(&asked.model).await?;
    let call = mesh::EmbedRequest {
        inputs: asked.inputs,
        model: named.model,
        dimensions: asked.dimensions,
        provider: named.provider,
        ..Default::default()
    };
    let answer = endpoint.0.broker.embed(call).await.map_err(Error::of_input)?;
    let summary = answer.summary.unwrap_or_default();
    let embedding = |(index, embedding): (usize, mesh::Embedding)| Embedding {
        object: "embedding",
        index,
        embedding: match asked.base64 {
            true => Numbers::Base64(in_base64(&embedding.values)),
            false => Numbers::Plain(embedding.values),
        },
    };
    let tokens = summary.input_tokens;
    let list = List {
        object: "list",
        data: answer.embeddings.into_iter().enumerate().map(embedding).collect(),
        model: &summary.model,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    };
    let mut response = Json(list).into_response();
    answer::tell(response.headers_mut(), &summary, summary.attempts.len());
    Ok(response)
}

fn in_base64(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

/// Reads what is asked.
fn read(body: &[u8]) -> Result<Asked, Error> {
    let embed: Embed = parse(body)?;
    let required = |name: &str| Error::invalid(Some(name.to_owned()), format!("you must provide `{name}`"));
    let model = embed.model.filter(|model| !model.is_empty()).ok_or_else(|| required("model"))?;
    let inputs = match embed.input.ok_or_else(|| required("input"))? {
        Input::One(text) => vec![text],
        Input::Several(texts) => texts,
        Input::Other(_) => {
            let what = "it is a text or an array of texts; tokens are not passed on to providers";
            return Err(Error::unsupported("input", what));
        }
    };
    if inputs.is_empty() || inputs.len() > limits::EMBEDDING_INPUTS || inputs.iter().any(String::is_empty) {
        let what = format!("`input` must be 1 to {} texts, none empty", limits::EMBEDDING_INPUTS);
        return Err(Error::invalid(Some("input".into()), what));
    }
    let bytes: usize = inputs.iter().map(String::len).sum();
    if bytes > limits::INPUT_BYTES {
        let most = limits::INPUT_BYTES;
        return Err(Error::too_large(format!("the texts have {bytes} bytes, {most} are allowed")));
    }
    let base64 = match embed.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let what = format!("`{other}` is no form of a vector; there are: float, base64");
            return Err(Error::invalid(Some("encoding_format".into()), what));
        }
    };
    Ok(Asked { model, inputs, dimensions: embed.dimensions, base64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(field: &str, value: Value) -> (Value, Value) {
        let mut body = json!({"model": "m", "input": "x"});
        body[field] = value;
        let error = read(body.to_string().as_bytes()).unwrap_err();
        let error: Value = serde_json::from_str(&error.document()).unwrap();
        (error["error"]["param"].clone(), error["error"]["code"].clone())
    }

    #[test]
    fn one_text_or_several_are_taken_in_either_form() {
        let read = |body: Value| read(body.to_string().as_bytes()).unwrap();
        let one = read(json!({"model": "m", "input": "x", "user": "u", "encoding_format": "float"}));
        assert_eq!(
            one,
            Asked { model: "m".into(), inputs: vec!["x".into()], dimensions: None, base64: false }
        );
        let body = json!({"model": "m", "input": ["x", "y"], "dimensions": 8, "encoding_format": "base64"});
        let several = read(body);
        assert_eq!((several.inputs.len(), several.dimensions, several.base64), (2, Some(8), true));
        assert_eq!(in_base64(&[1.0, -2.0]), "AACAPwAAAMA=");
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        let nothing = Value::Null;
        for (field, value, code) in [
            ("model", json!(""), nothing.clone()),
            ("input", nothing.clone(), nothing.clone()),
            ("input", json!([]), nothing.clone()),
            ("input", json!(["x", ""]), nothing.clone()),
            ("input", json!([1, 2]), json!("unsupported_parameter")),
            ("input", json!([[1, 2]]), json!("unsupported_parameter")),
            ("encoding_format", json!("hex"), nothing.clone()),
            ("input", json!("x".repeat(limits::INPUT_BYTES + 1)), json!("request_too_large")),
        ] {
            let (param, got) = refused(field, value);
            assert_eq!(got, code, "{field}");
            assert!(param == field || got == "request_too_large", "{param}");
        }
    }
}
