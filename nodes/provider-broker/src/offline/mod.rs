//! The offline generator: texts and images from templates, so that everything runs without a provider.
//!
//! Deterministic: the same conversation gives the same text, the same prompt and size the same bytes. It
//! is never mistaken for a model: provider, model and texts say what it is, and the router marks every
//! answer of it as degraded.
//!
//! A request for JSON is answered with the skeleton filled in that the last message may hold: a line that
//! begins with [`SKELETON_PREFIX`] and goes on with a JSON object; one for a JSON schema, with what that describes.
//!
//! It calls no tools: a call that must call one is refused, any other gets a text. It does not look at images.

mod embedding;
mod image;
mod prompt;
mod schema;
mod skeleton;
mod text;

use crate::config::Adapter;
use crate::provider::{
    Chunk, ChunkStream, Description, Provider, ProviderEmbeddings, ProviderImage, ProviderText,
};
use crate::wire::{Hint, dropped};
use async_trait::async_trait;
use callboard_domain::llm::{
    EmbeddingRequest, Error, ErrorKind, ImageRequest, TextRequest, ToolChoice, Usage,
};
use futures::{StreamExt, stream};
use prompt::Prompt;
use std::time::Duration;

/// What a line begins with that holds the skeleton of the JSON answer.
pub const SKELETON_PREFIX: &str = "JSON skeleton: ";

const TEXT_MODEL: &str = "offline-template-1";
const IMAGE_MODEL: &str = "offline-placeholder-1";

/// The offline generator as a provider. It fails only for an image it cannot draw, for a schema it cannot follow, and
/// where it must call a tool.
#[derive(Debug)]
pub struct Offline {
    name: String,
    latency: Duration,
}

impl Offline {
    /// A generator of that name, which answers at once.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), latency: Duration::ZERO }
    }

    /// Takes so long for each answer, as a real provider would.
    #[must_use]
    pub fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    async fn think(&self) {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
    }
}

fn words(text: &str) -> u32 {
    u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX)
}

/// The first so many words of a text, whole if it has no more.
fn cut(text: &str, most: u32) -> (&str, bool) {
    let mut end = 0;
    let mut pieces = text.split_inclusive(char::is_whitespace);
    let mut left = most;
    while left > 0 {
        let Some(piece) = pieces.next() else { return (text, false) };
        end += piece.len();
        left -= u32::from(!piece.trim().is_empty());
    }
    let cut = text[..end].trim_end();
    (cut, cut.len() < text.trim_end().len())
}

fn generate(request: &TextRequest) -> Result<ProviderText, Error> {
    let unsupported = |what: &str| Err(Error::new(ErrorKind::Unsupported, what));
    if request.tool_choice.as_ref().is_some_and(ToolChoice::is_forced) {
        return unsupported("the offline generator calls no tools, and this call must (tool_choice)");
    }
    let prompt = Prompt::of(&request.messages);
    let mut finish_reason = "stop";
    let text = if let Some(schema) = &request.schema {
        let Some(skeleton) = schema::skeleton(&schema.schema) else {
            return unsupported(
                "the offline generator cannot follow this schema: it describes no plain object",
            );
        };
        skeleton::fill(&skeleton, &prompt)
    } else if request.json {
        // Half a JSON object is of no use, so `max_tokens` does not hold here.
        skeleton::answer(&request.messages, &prompt)
    } else {
        let mut whole = text::answer(&prompt);
        if let Some(at) = request.stop.iter().filter_map(|stop| whole.find(stop.as_str())).min() {
            whole.truncate(at);
        }
        let (text, was_cut) = request.max_tokens.map_or((whole.as_str(), false), |most| cut(&whole, most));
        if was_cut {
            finish_reason = "length";
        }
        text.to_owned()
    };
    let input_tokens = request.messages.iter().map(|m| words(&m.content.text())).sum();
    let usage = Usage::of(input_tokens, words(&text));
    let finish_reason = finish_reason.into();
    Ok(ProviderText { text, finish_reason, model: TEXT_MODEL.into(), usage, ..ProviderText::default() })
}

/// What a request hints at and makes no difference here.
fn unsaid(request: &TextRequest) -> Vec<&'static str> {
    let never = [
        Hint::Temperature,
        Hint::TopP,
        Hint::Seed,
        Hint::PresencePenalty,
        Hint::FrequencyPenalty,
        Hint::ParallelToolCalls,
        Hint::Strict,
        Hint::Detail,
        Hint::Tools,
        Hint::Images,
    ];
    let in_json = request.json || request.schema.is_some();
    let of_texts = [Hint::MaxTokens, Hint::Stop].into_iter().filter(|_| in_json);
    dropped(request, never.into_iter().chain(of_texts))
}

#[async_trait]
impl Provider for Offline {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> Description<&str> {
        Description {
            adapter: Adapter::Offline,
            base_url: "",
            text_model: TEXT_MODEL,
            image_model: IMAGE_MODEL,
            embedding_model: embedding::MODEL,
            has_key: false,
        }
    }

    async fn text(&self, request: &TextRequest) -> Result<ProviderText, Error> {
        self.think().await;
        generate(request)
    }

    async fn text_stream(&self, request: &TextRequest) -> Result<ChunkStream, Error> {
        self.think().await;
        let answer = generate(request)?;
        let pieces: Vec<_> =
            answer.text.split_inclusive(' ').map(|p| Ok(Chunk::Delta(p.to_owned()))).collect();
        let end =
            Chunk::End { usage: answer.usage, finish_reason: answer.finish_reason, model: answer.model };
        Ok(stream::iter(pieces).chain(stream::once(async { Ok(end) })).boxed())
    }

    fn dropped(&self, request: &TextRequest, _model: &str) -> Vec<&'static str> {
        unsaid(request)
    }

    async fn embed(&self, request: &EmbeddingRequest, _model: &str) -> Result<ProviderEmbeddings, Error> {
        self.think().await;
        Ok(embedding::embed(request))
    }

    async fn image(&self, request: &ImageRequest) -> Result<ProviderImage, Error> {
        self.think().await;
        let (prompt, width, height) = (request.prompt.clone(), request.width, request.height);
        // Encoding takes milliseconds of a core.
        let drawn = tokio::task::spawn_blocking(move || image::draw(&prompt, width, height)).await;
        let fault = |e: &dyn std::fmt::Display| {
            Error::new(ErrorKind::ServerFault, format!("the placeholder could not be drawn: {e}"))
        };
        let data = drawn.map_err(|e| fault(&e))?.map_err(|e| fault(&e))?;
        Ok(ProviderImage {
            data: data.into(),
            media_type: "image/png".into(),
            model: IMAGE_MODEL.into(),
            usage: Usage::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_difference_is_told() {
        for json in [false, true] {
            let of = |request: &TextRequest| TextRequest { json, ..request.clone() };
            let made = |request: &TextRequest| serde_json::json!(generate(&of(request)).unwrap().text);
            crate::wire::try_each(made, |request| unsaid(&of(request)));
        }
    }

    #[test]
    fn a_text_is_cut_at_a_word() {
        assert_eq!(cut("one two  three", 2), ("one two", true));
        assert_eq!(cut("one two ", 2), ("one two", false));
        assert_eq!(cut(" one", 5), (" one", false));
        assert_eq!(cut("one", 0), ("", true));
    }
}
