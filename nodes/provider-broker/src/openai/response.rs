//! What comes back in one piece.

use super::error::in_document;
use super::tools::Called;
use crate::provider::{ProviderEmbeddings, ProviderImage, ProviderText};
use crate::wire::{cached, count, document, image as decode, malformed, whole};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use callboard_domain::llm::{Error, ErrorKind, Usage};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Completion {
    #[serde(default)]
    model: Option<String>,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Tokens>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Called>>,
}

/// The text of a message: some servers send it in parts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

/// Token counts, under the names of both of OpenAI's APIs. Some servers give both at once: no name is an alias of another.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    #[serde(deserialize_with = "count")]
    prompt_tokens: u32,
    #[serde(deserialize_with = "count")]
    input_tokens: u32,
    #[serde(deserialize_with = "count")]
    completion_tokens: u32,
    #[serde(deserialize_with = "count")]
    output_tokens: u32,
    #[serde(rename = "prompt_tokens_details", deserialize_with = "cached")]
    cached_prompt_tokens: u32,
    #[serde(rename = "input_tokens_details", deserialize_with = "cached")]
    cached_input_tokens: u32,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        // Of two names the one that is there counts, or the one that is not zero.
        let input = tokens.prompt_tokens.max(tokens.input_tokens);
        let output = tokens.completion_tokens.max(tokens.output_tokens);
        // Those from the cache are a part of the prompt's.
        let cached_input_tokens = tokens.cached_prompt_tokens.max(tokens.cached_input_tokens).min(input);
        Self { cached_input_tokens, ..Self::of(input, output) }
    }
}

/// The error that a document under a 200 holds, or that it is not what was asked for.
fn not_understood(what: &str, body: &[u8]) -> Error {
    let fault = serde_json::from_slice(body).ok().as_ref().and_then(in_document);
    fault.unwrap_or_else(|| malformed(what, body))
}

/// The text of a chat completion.
pub(super) fn text(body: &[u8], model: &str) -> Result<ProviderText, Error> {
    let completion: Completion = serde_json::from_slice(body)
        .map_err(|e| not_understood(&format!("the answer is no completion ({e})"), body))?;
    let choice = completion.choices.into_iter().next();
    let Some(Choice { message, finish_reason }) = choice else {
        return Err(not_understood("the answer has no choices", body));
    };
    check_refusal(message.refusal.as_deref(), finish_reason.as_deref())?;
    let tool_calls: Vec<_> = message
        .tool_calls
        .into_iter()
        .flatten()
        .map(Called::into_call)
        .filter(|c| !c.name.is_empty())
        .collect();
    let text = match message.content {
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => parts.into_iter().map(|p| p.text).collect(),
        None if tool_calls.is_empty() => return Err(malformed("the answer has no content", body)),
        None => String::new(),
    };
    // An empty text has been an answer here: a model may end at once.
    let silent = text.is_empty() && tool_calls.is_empty();
    let answer = ProviderText {
        text,
        tool_calls,
        finish_reason: finish_reason.unwrap_or_else(|| "stop".into()),
        model: completion.model.filter(|m| !m.is_empty()).unwrap_or_else(|| model.to_owned()),
        usage: completion.usage.unwrap_or_default().into(),
    };
    if silent { Ok(answer) } else { whole(answer) }
}

/// Whether the content was refused, by the model or by a filter.
pub(super) fn check_refusal(refusal: Option<&str>, finish_reason: Option<&str>) -> Result<(), Error> {
    match (refusal.filter(|text| !text.is_empty()), finish_reason) {
        (Some(refusal), _) => {
            Err(Error::new(ErrorKind::ContentFiltered, format!("the model refused: {refusal}")))
        }
        (None, Some("content_filter")) => {
            Err(Error::new(ErrorKind::ContentFiltered, "the provider's filter withheld the answer"))
        }
        _ => Ok(()),
    }
}

#[derive(Debug, Deserialize)]
struct Images {
    data: Vec<Image>,
    #[serde(default)]
    usage: Option<Tokens>,
}

#[derive(Debug, Deserialize)]
struct Image {
    #[serde(default)]
    b64_json: Option<String>,
}

/// The image of an image generation. An address instead of an image is not followed.
pub(super) fn image(body: &[u8], model: &str) -> Result<ProviderImage, Error> {
    let bad = |what: &str| Error::new(ErrorKind::MalformedAnswer, what);
    let images: Images = serde_json::from_slice(body)
        .map_err(|e| not_understood(&format!("the answer holds no images ({e})"), body))?;
    let Some(image) = images.data.into_iter().next() else {
        return Err(not_understood("the answer holds no image", body));
    };
    let text = image.b64_json.ok_or_else(|| bad("the answer holds no b64_json"))?;
    let (data, media_type) = decode(&text)?;
    Ok(ProviderImage {
        data,
        media_type: media_type.into(),
        model: model.to_owned(),
        usage: images.usage.unwrap_or_default().into(),
    })
}

#[derive(Debug, Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Tokens>,
}

#[derive(Debug, Deserialize)]
struct Embedding {
    #[serde(default)]
    index: Option<usize>,
    embedding: Numbers,
}

/// The numbers of a vector; some servers send them in base64 unasked.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Numbers {
    Plain(Vec<f32>),
    Base64(String),
}

/// The vectors of a call for embeddings, one for each text.
pub(super) fn embeddings(body: &[u8], model: &str) -> Result<ProviderEmbeddings, Error> {
    let bad = |what: &str| Error::new(ErrorKind::MalformedAnswer, what);
    let mut answer: Embeddings = serde_json::from_slice(body)
        .map_err(|e| not_understood(&format!("the answer holds no embeddings ({e})"), body))?;
    // Each says its place; they come in order as a rule.
    answer.data.sort_by_key(|embedding| embedding.index);
    let mut vectors = Vec::with_capacity(answer.data.len());
    for Embedding { embedding, .. } in answer.data {
        vectors.push(match embedding {
            Numbers::Plain(numbers) => numbers,
            Numbers::Base64(text) => {
                let bytes = STANDARD.decode(text).map_err(|_| bad("an embedding is no base64"))?;
                let (numbers, rest) = bytes.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(bad("an embedding is cut"));
                }
                numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
            }
        });
    }
    Ok(ProviderEmbeddings {
        vectors,
        model: answer.model.filter(|m| !m.is_empty()).unwrap_or_else(|| model.to_owned()),
        usage: answer.usage.unwrap_or_default().into(),
    })
}

#[derive(Debug, Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Model {
    id: String,
}

/// The models of a list.
pub(super) fn models(body: &[u8]) -> Result<Vec<String>, Error> {
    let models: Models = document(body, "the answer lists no models", in_document)?;
    Ok(models.data.into_iter().map(|m| m.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(body: &str) -> ErrorKind {
        text(body.as_bytes(), "m").unwrap_err().kind
    }

    #[test]
    fn an_answer_is_read_whatever_else_it_holds() {
        let body = r#"{"x":[1],"model":"m-2","choices":[{"index":0,"message":{"role":"assistant","content":"hi","y":{}},
            "finish_reason":"length","logprobs":null}],"usage":{"prompt_tokens":3,"completion_tokens":9e99,"prompt_tokens_details":{"cached_tokens":2},"z":1}}"#;
        let answer = text(body.as_bytes(), "m").unwrap();
        let usage = Usage { cached_input_tokens: 2, ..Usage::of(3, 0) };
        assert_eq!(
            answer,
            ProviderText {
                text: "hi".into(),
                finish_reason: "length".into(),
                model: "m-2".into(),
                usage,
                ..ProviderText::default()
            }
        );
        let parts =
            r#"{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"x"},{"text":"b"}]}}]}"#;
        let answer = text(parts.as_bytes(), "m").unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.model.as_str(), answer.finish_reason.as_str()),
            ("ab", "m", "stop")
        );
    }

    #[test]
    fn tokens_are_counted_under_either_name_and_under_both() {
        for (names, usage) in [
            (
                r#""prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}"#,
                (3, 4, 2),
            ),
            (r#""input_tokens":3,"output_tokens":4,"input_tokens_details":{"cached_tokens":2}"#, (3, 4, 2)),
            (
                r#""prompt_tokens":3,"input_tokens":0,"completion_tokens":0,"output_tokens":4,
                "prompt_tokens_details":{"cached_tokens":2},"input_tokens_details":null"#,
                (3, 4, 2),
            ),
        ] {
            let body = format!(r#"{{"choices":[{{"message":{{"content":"hi"}}}}],"usage":{{{names}}}}}"#);
            let (input, output, cached_input_tokens) = usage;
            let usage = Usage { cached_input_tokens, ..Usage::of(input, output) };
            assert_eq!(text(body.as_bytes(), "m").unwrap().usage, usage, "{names}");
        }
    }

    #[test]
    fn an_answer_that_is_none_has_its_kind() {
        for malformed in
            ["", "null", "{", "[]", r#"{"choices":[]}"#, r#"{"choices":[{"message":{"content":null}}]}"#]
        {
            assert_eq!(kind(malformed), ErrorKind::MalformedAnswer, "{malformed}");
        }
        assert_eq!(
            kind(r#"{"error":{"message":"m","code":"insufficient_quota"}}"#),
            ErrorKind::QuotaExceeded
        );
        let refused = r#"{"choices":[{"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}]}"#;
        assert_eq!(kind(refused), ErrorKind::ContentFiltered);
        let filtered = r#"{"choices":[{"message":{"content":"half"},"finish_reason":"content_filter"}]}"#;
        assert_eq!(kind(filtered), ErrorKind::ContentFiltered);
    }

    #[test]
    fn tools_that_are_called_are_an_answer() {
        let call = |arguments: &str| {
            format!(r#"{{"id":"c1","type":"function","function":{{"name":"f","arguments":{arguments}}}}}"#)
        };
        let answer = |calls: &str| {
            let body = format!(
                r#"{{"choices":[{{"message":{{"content":null,"tool_calls":[{calls}]}},"finish_reason":"stop"}}]}}"#
            );
            text(body.as_bytes(), "m").unwrap()
        };
        let answer = answer(&[call(r#""{\"a\": 1}""#), call("{\"a\":1}"), call("\"\"")].join(","));
        let arguments: Vec<_> = answer.tool_calls.iter().map(|call| call.arguments.as_str()).collect();
        assert_eq!(arguments, [r#"{"a": 1}"#, r#"{"a":1}"#, "{}"]);
        assert_eq!((answer.text.as_str(), answer.finish_reason.as_str()), ("", "tool_calls"));
        assert_eq!((answer.tool_calls[0].id.as_str(), answer.tool_calls[0].name.as_str()), ("c1", "f"));
    }

    #[test]
    fn embeddings_are_read_in_their_order_in_either_form() {
        let body = r#"{"data":[{"index":1,"embedding":"AACAPwAAAMA="},{"index":0,"embedding":[0.5,1]}],"model":"e-2",
            "usage":{"prompt_tokens":3,"total_tokens":3}}"#;
        let answer = embeddings(body.as_bytes(), "e").unwrap();
        assert_eq!(answer.vectors, [[0.5, 1.0], [1.0, -2.0]]);
        assert_eq!((answer.model.as_str(), answer.usage.input_tokens), ("e-2", 3));
        for wrong in [
            "{}",
            r#"{"data":[{}]}"#,
            r#"{"data":[{"embedding":"AA=="}]}"#,
            r#"{"data":[{"embedding":"?"}]}"#,
        ] {
            assert_eq!(
                embeddings(wrong.as_bytes(), "e").unwrap_err().kind,
                ErrorKind::MalformedAnswer,
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_image_must_be_one() {
        let image = |b64: &str| image(format!(r#"{{"data":[{{"b64_json":"{b64}"}}]}}"#).as_bytes(), "m");
        assert_eq!(image("iVBORw0KGgo=").unwrap().media_type, "image/png");
        assert_eq!(image("data:image/jpeg;base64,/9j/4AA=").unwrap().media_type, "image/jpeg");
        for wrong in ["", "????", "aGVsbG8="] {
            assert_eq!(image(wrong).unwrap_err().kind, ErrorKind::MalformedAnswer, "{wrong}");
        }
    }

    #[test]
    fn models_are_listed_by_their_ids() {
        let list = br#"{"object":"list","data":[{"id":"nomic-embed-text"},{"id":"llama3.2:latest"}]}"#;
        assert_eq!(models(list).unwrap(), ["nomic-embed-text", "llama3.2:latest"]);
        assert_eq!(models(br#"{"error":"m"}"#).unwrap_err().kind, ErrorKind::ServerFault);
        assert_eq!(models(b"<html>").unwrap_err().kind, ErrorKind::MalformedAnswer);
    }
}
