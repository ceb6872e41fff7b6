//! What is answered to a chat completion in one piece, and the headers of every answer.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use callboard_contracts::v1::{CacheSource, GenerateResponse, GenerateSummary, ToolCall};
use callboard_domain::limits;
use serde::Serialize;
use serde_json::json;

const PROVIDER: HeaderName = HeaderName::from_static("x-callboard-provider");
const MODEL: HeaderName = HeaderName::from_static("x-callboard-model");
const KEY: HeaderName = HeaderName::from_static("x-callboard-key");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-callboard-attempts");
const DEGRADED: HeaderName = HeaderName::from_static("x-callboard-degraded");
const EXPERIMENT: HeaderName = HeaderName::from_static("x-callboard-experiment");
const DROPPED: HeaderName = HeaderName::from_static("x-callboard-dropped");
const CACHE: HeaderName = HeaderName::from_static("x-callboard-cache");
/// The most bytes of a header's value.
const HEADER_BYTES: usize = 256;

/// The tokens a call took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    /// Left out where nothing is to be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
}

/// What is known of the prompt's tokens.
#[derive(Clone, Copy, Debug, Serialize)]
struct PromptDetails {
    cached_tokens: u32,
}

impl From<&GenerateSummary> for Usage {
    fn from(summary: &GenerateSummary) -> Self {
        let (prompt, completion) = (summary.input_tokens.into(), summary.output_tokens.into());
        let cached_tokens = summary.cached_input_tokens;
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            prompt_tokens_details: (cached_tokens > 0).then_some(PromptDetails { cached_tokens }),
        }
    }
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    /// Null where a model only asks for tools.
    content: Option<&'a str>,
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

/// What a model would have a tool do.
#[derive(Debug, Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCall> for Call<'a> {
    fn from(call: &'a ToolCall) -> Self {
        let function = Function { name: &call.name, arguments: &call.arguments };
        Self { id: &call.id, kind: "function", function, extra_content: signed(&call.signature) }
    }
}

/// What Google's models want to see again, where their own OpenAI-compatible API has it.
pub(super) fn signed(signature: &str) -> Option<serde_json::Value> {
    (!signature.is_empty()).then(|| json!({"google": {"thought_signature": signature}}))
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'a str,
}

/// A `chat.completion`.
#[derive(Debug, Serialize)]
pub(super) struct Completion<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: Usage,
}

impl<'a> Completion<'a> {
    pub(super) fn new(
        id: String,
        created: i64,
        answer: &'a GenerateResponse,
        summary: &'a GenerateSummary,
    ) -> Self {
        let tool_calls: Vec<_> = answer.tool_calls.iter().map(Call::from).collect();
        let silent = answer.text.is_empty() && !tool_calls.is_empty();
        let content = (!silent).then_some(answer.text.as_str());
        let message = Message { role: "assistant", content, refusal: None, tool_calls };
        let finish_reason = finish_reason(summary);
        let choice = Choice { index: 0, message, logprobs: None, finish_reason };
        let (model, usage) = (summary.model.as_str(), summary.into());
        Self { id, object: "chat.completion", created, model, choices: [choice], usage }
    }
}

/// Why the model stopped, in a word that clients know.
pub(super) fn finish_reason(summary: &GenerateSummary) -> &str {
    match summary.finish_reason.as_str() {
        known @ ("stop" | "length" | "content_filter" | "tool_calls") => known,
        _ => "stop",
    }
}

/// Says in headers how an answer came about. `attempts` counts the one that answered, too.
pub(super) fn tell(headers: &mut HeaderMap, summary: &GenerateSummary, attempts: usize) {
    let mut tell = |name, text: &str| {
        // What a header cannot hold is left out.
        if let Ok(value) = HeaderValue::from_str(&limits::cut(text.to_owned(), HEADER_BYTES)) {
            headers.insert(name, value);
        }
    };
    tell(PROVIDER, &summary.provider);
    tell(MODEL, &summary.model);
    if !summary.key.is_empty() {
        tell(KEY, &summary.key);
    }
    tell(ATTEMPTS, &attempts.to_string());
    if summary.degraded {
        tell(DEGRADED, &summary.degraded_reason);
    }
    if !summary.experiment.is_empty() {
        tell(EXPERIMENT, &format!("{}; {}", summary.experiment, summary.arm));
    }
    if !summary.dropped_parameters.is_empty() {
        tell(DROPPED, &summary.dropped_parameters.join(", "));
    }
    match summary.from_cache() {
        CacheSource::Unspecified => {}
        CacheSource::Exact => tell(CACHE, "exact"),
        CacheSource::Shared => tell(CACHE, "shared"),
        CacheSource::Replayed => tell(CACHE, "replayed"),
        CacheSource::Similar => tell(CACHE, &format!("similar; {} per cent", summary.similarity_percent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_is_known_and_no_more() {
        let told = |summary: &GenerateSummary| {
            let mut headers = HeaderMap::new();
            tell(&mut headers, summary, 2);
            let text =
                |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
            let mut list: Vec<_> = headers.iter().map(text).collect();
            list.sort();
            list
        };
        let plain = GenerateSummary { provider: "p".into(), model: "m".into(), ..Default::default() };
        let always = ["x-callboard-attempts: 2", "x-callboard-model: m", "x-callboard-provider: p"];
        assert_eq!(told(&plain), always);
        let full = GenerateSummary {
            key: "team-a".into(),
            degraded: true,
            degraded_reason: "why".into(),
            experiment: "e".into(),
            arm: "a".into(),
            dropped_parameters: vec!["seed".into(), "top_p".into()],
            from_cache: CacheSource::Similar.into(),
            similarity_percent: 97,
            ..plain
        };
        let expected = [
            "x-callboard-attempts: 2",
            "x-callboard-cache: similar; 97 per cent",
            "x-callboard-degraded: why",
            "x-callboard-dropped: seed, top_p",
            "x-callboard-experiment: e; a",
            "x-callboard-key: team-a",
            "x-callboard-model: m",
            "x-callboard-provider: p",
        ];
        assert_eq!(told(&full), expected);
    }
}
