//! What is sent.

use super::message::{Message, messages};
use super::tools::{Choice, Format, Tool, choice, format, tools};
use crate::wire::{Hint, dropped};
use callboard_domain::llm::{EmbeddingRequest, Error, ImageRequest, TextRequest};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Chat<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// The body of a chat completion.
///
/// # Errors
/// If a schema is no JSON.
pub(super) fn chat<'a>(request: &'a TextRequest, model: &'a str, stream: bool) -> Result<Chat<'a>, Error> {
    let reasoning = is_reasoning(model);
    let has_tools = !request.tools.is_empty();
    Ok(Chat {
        model,
        messages: messages(request),
        // Servers other than OpenAI's know only the old name; its reasoning models know only the new one.
        max_tokens: request.max_tokens.filter(|_| !reasoning),
        max_completion_tokens: request.max_tokens.filter(|_| reasoning),
        // Reasoning models refuse these.
        temperature: request.temperature.filter(|_| !reasoning),
        top_p: request.top_p.filter(|_| !reasoning),
        presence_penalty: request.presence_penalty.filter(|_| !reasoning),
        frequency_penalty: request.frequency_penalty.filter(|_| !reasoning),
        seed: request.seed,
        stop: &request.stop,
        response_format: format(request)?,
        tools: tools(request)?,
        // Refused where there are no tools.
        tool_choice: request.tool_choice.as_ref().filter(|_| has_tools).map(choice),
        parallel_tool_calls: request.parallel_tool_calls.filter(|_| has_tools),
        stream,
        stream_options: stream.then_some(StreamOptions { include_usage: true }),
    })
}

/// What a request hints at and a model is not told.
pub(super) fn unsaid(request: &TextRequest, model: &str) -> Vec<&'static str> {
    const REFUSED: [Hint; 4] = [Hint::Temperature, Hint::TopP, Hint::PresencePenalty, Hint::FrequencyPenalty];
    dropped(request, REFUSED.into_iter().filter(|_| is_reasoning(model)))
}

fn is_reasoning(model: &str) -> bool {
    ["o1", "o3", "o4", "gpt-5"].iter().any(|family| {
        model.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
    })
}

#[derive(Debug, Serialize)]
pub(super) struct Embeddings<'a> {
    model: &'a str,
    input: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

/// The body of a call for embeddings. They come as numbers: not every server knows base64.
pub(super) fn embeddings<'a>(request: &'a EmbeddingRequest, model: &'a str) -> Embeddings<'a> {
    Embeddings { model, input: &request.inputs, dimensions: request.dimensions }
}

#[derive(Debug, Serialize)]
pub(super) struct Image<'a> {
    model: &'a str,
    prompt: &'a str,
    n: u32,
    size: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<&'static str>,
}

/// The body of an image generation.
pub(super) fn image<'a>(request: &'a ImageRequest, model: &'a str) -> Image<'a> {
    Image {
        model,
        prompt: &request.prompt,
        n: 1,
        size: size(model, request.width, request.height),
        // These always answer in base64 and refuse the field; all others would answer with an address.
        response_format: (!model.starts_with("gpt-image")).then_some("b64_json"),
    }
}

/// The size to ask a model for: OpenAI's make a few, the nearest in shape is taken; others take any.
fn size(model: &str, width: u32, height: u32) -> String {
    // Wider than 6:5 is landscape, narrower than 5:6 is portrait.
    let (wide, tall) =
        (u64::from(width) * 5 > u64::from(height) * 6, u64::from(height) * 5 > u64::from(width) * 6);
    let pick = |landscape: &str, square: &str, portrait: &str| {
        (if wide {
            landscape
        } else if tall {
            portrait
        } else {
            square
        })
        .to_owned()
    };
    if model.starts_with("gpt-image") {
        pick("1536x1024", "1024x1024", "1024x1536")
    } else if model.starts_with("dall-e-3") {
        pick("1792x1024", "1024x1024", "1024x1792")
    } else if model.starts_with("dall-e-2") {
        match width.max(height) {
            ..=256 => "256x256".into(),
            257..=512 => "512x512".into(),
            _ => "1024x1024".into(),
        }
    } else {
        format!("{width}x{height}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_has_only_what_was_asked_for() {
        let request = TextRequest::prompt("hi").system("be brief");
        assert_eq!(
            json!(chat(&request, "m", false).unwrap()),
            json!({"model": "m", "messages": [
                {"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]})
        );
        let request = TextRequest { json: true, max_tokens: Some(5), temperature: Some(0.5), ..request };
        let body = json!(chat(&request, "m", true).unwrap());
        assert_eq!(body["messages"].as_array().unwrap().len(), 3);
        assert_eq!(body["response_format"], json!({"type": "json_object"}));
        assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(5), &json!(0.5)));
        assert_eq!(
            (&body["stream"], &body["stream_options"]),
            (&json!(true), &json!({"include_usage": true}))
        );
    }

    #[test]
    fn reasoning_models_get_their_own_fields() {
        let request =
            TextRequest { max_tokens: Some(5), temperature: Some(0.5), ..TextRequest::prompt("hi") };
        let body = json!(chat(&request, "o3-mini", false).unwrap());
        assert_eq!(
            (&body["max_completion_tokens"], body.get("max_tokens"), body.get("temperature")),
            (&json!(5), None, None)
        );
        assert!(
            is_reasoning("gpt-5")
                && is_reasoning("gpt-5.1")
                && !is_reasoning("gpt-4o")
                && !is_reasoning("o1mni")
        );
    }

    #[test]
    fn what_is_not_passed_on_is_told() {
        for model in ["m", "o3-mini"] {
            let sent = |request: &TextRequest| json!(chat(request, model, false).unwrap());
            crate::wire::try_each(sent, |request| unsaid(request, model));
        }
    }

    #[test]
    fn images_have_the_nearest_size_the_model_makes() {
        assert_eq!(size("gpt-image-1", 1024, 1024), "1024x1024");
        assert_eq!(size("gpt-image-1", 1200, 628), "1536x1024");
        assert_eq!(size("gpt-image-1", 64, 2048), "1024x1536");
        assert_eq!(size("dall-e-3", 640, 320), "1792x1024");
        assert_eq!(size("dall-e-2", 300, 200), "512x512");
        assert_eq!(size("sdxl", 300, 200), "300x200");
    }
}
