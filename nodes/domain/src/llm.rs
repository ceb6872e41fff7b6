//! Calls to language and image models, as every provider's adapter sees them.

mod cached;
mod content;
mod embedding;
mod tools;

pub use cached::{CacheMode, CacheSource};
pub use content::{Content, Image, ImageSource, Part};
pub use embedding::{EmbeddingRequest, EmbeddingResponse};
pub use tools::{OutputSchema, Tool, ToolCall, ToolCallDelta, ToolChoice, ToolResult};

use crate::money::Money;
use bytes::Bytes;
use std::time::Duration;

/// Who said a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The instructions the model works under.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// Tools that the model asked for: each part of the content is a [`ToolResult`].
    Tool,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: Content,
}

/// A text to generate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextRequest {
    /// The conversation so far, oldest first.
    pub messages: Vec<Message>,
    /// The model; each provider's own if `None`.
    pub model: Option<String>,
    /// The most tokens to generate.
    pub max_tokens: Option<u32>,
    /// The sampling temperature, 0 to 2.
    pub temperature: Option<f32>,
    /// Of the likeliest tokens, those are drawn from that make up this share, 0 to 1.
    pub top_p: Option<f32>,
    /// The same number asks for the same answer, as far as a provider can.
    pub seed: Option<i64>,
    /// How much less likely a token is that has come before, -2 to 2.
    pub presence_penalty: Option<f32>,
    /// How much less likely a token is each time it has come before, -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// Texts at which the answer ends; they are not part of it.
    pub stop: Vec<String>,
    /// Ask for one JSON object as the answer.
    pub json: bool,
    /// Ask for an answer of this form.
    pub schema: Option<OutputSchema>,
    /// The tools that the model may ask for.
    pub tools: Vec<Tool>,
    /// Whether it shall.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may ask for several at once; as the provider has it if `None`.
    pub parallel_tool_calls: Option<bool>,
    /// The provider to use, and no other.
    pub provider: Option<String>,
    /// The time over all attempts; the configuration's if `None`.
    pub timeout: Option<Duration>,
    /// The stable key of this call: `task/step`.
    pub idempotency_key: Option<String>,
    /// Whether it may be answered with what the same call was answered before.
    pub cache: CacheMode,
    /// Whom or what it is about: calls with the same go to the same provider, where the route is sticky.
    pub subject: Option<String>,
    /// The arm of an experiment that it was put into by the broker.
    pub trial: Option<Trial>,
}

impl TextRequest {
    /// A request with one user message.
    #[must_use]
    pub fn prompt(text: impl Into<String>) -> Self {
        Self {
            messages: vec![Message { role: Role::User, content: Content::Text(text.into()) }],
            ..Self::default()
        }
    }

    /// Puts instructions before the conversation.
    #[must_use]
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.messages.insert(0, Message { role: Role::System, content: Content::Text(text.into()) });
        self
    }

    /// The bytes of text that a model reads: messages, tools and schema.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let messages: usize = self.messages.iter().map(|message| message.content.text_bytes()).sum();
        let tool = |tool: &Tool| tool.name.len() + optional(&tool.description) + optional(&tool.parameters);
        let tools: usize = self.tools.iter().map(tool).sum();
        messages + tools + self.schema.as_ref().map_or(0, |schema| schema.schema.len())
    }

    /// The bytes of the images in its messages.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.messages.iter().flat_map(|message| message.content.images()).map(Image::bytes).sum()
    }
}

/// An image to generate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// What it shows.
    pub prompt: String,
    /// Its width in pixels, 64 to 2048.
    pub width: u32,
    /// Its height in pixels, 64 to 2048.
    pub height: u32,
    /// The provider to use, and no other.
    pub provider: Option<String>,
    /// The stable key of this call: `task/step`.
    pub idempotency_key: Option<String>,
}

/// The tokens a call took, as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, all of it: what the provider had in its cache, and what it put there, is counted in it, whatever the
    /// provider's own count of that name means.
    pub input_tokens: u32,
    /// Of the answer, what the model thought included.
    pub output_tokens: u32,
    /// How many of the prompt's the provider read from its own cache.
    pub cached_input_tokens: u32,
    /// How many of the prompt's the provider wrote to its own cache, where it says that.
    pub cache_write_tokens: u32,
}

impl Usage {
    /// Of a prompt of which nothing was in the provider's cache, and an answer.
    #[must_use]
    pub const fn of(input_tokens: u32, output_tokens: u32) -> Self {
        Self { input_tokens, output_tokens, cached_input_tokens: 0, cache_write_tokens: 0 }
    }
}

/// What a call cost, by the configured prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How much.
    pub amount: Money,
    /// The version of the price table; empty if it has none.
    pub prices_version: String,
}

/// One attempt at one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderAttempt {
    /// The provider.
    pub provider: String,
    /// The id of its key that was used; empty without one.
    pub key: String,
    /// The model.
    pub model: String,
    /// How long it took.
    pub duration: Duration,
    /// Its error, if it did not answer.
    pub error: Option<(ErrorKind, String)>,
}

/// An arm of an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The experiment.
    pub experiment: String,
    /// The arm.
    pub arm: String,
}

/// How an answer came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The provider that answered.
    pub provider: String,
    /// The id of its key that was used; empty without one.
    pub key: String,
    /// The model that answered.
    pub model: String,
    /// Why the model stopped: `stop`, `length`, `tool_calls`.
    pub finish_reason: String,
    /// The tokens it took; those of the earlier call if it came from a cache.
    pub usage: Usage,
    /// Every attempt, the last one being the answer.
    pub attempts: Vec<ProviderAttempt>,
    /// Where it came from, if no provider was called for it.
    pub from_cache: Option<CacheSource>,
    /// Why the answer is not what the first provider would have given, if it is not.
    pub degraded: Option<String>,
    /// What the answer cost; `None` if its model has no price.
    pub cost: Option<Cost>,
    /// Whether the tokens are an estimate, as the provider counted none.
    pub usage_estimated: bool,
    /// The arm of the experiment that the call named as its model, if it named one.
    pub trial: Option<Trial>,
    /// What the call hinted at and the provider was not told, as there is no word for it: `seed`, `top_p`. By the names
    /// of OpenAI's API, each once.
    pub dropped: Vec<String>,
}

/// A generated text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextResponse {
    /// The text; empty where the model only asks for tools.
    pub text: String,
    /// What the model would have tools do.
    pub tool_calls: Vec<ToolCall>,
    /// How it came about.
    pub summary: Summary,
}

/// A generated image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageResponse {
    /// The image.
    pub data: Bytes,
    /// Its media type, for example `image/png`.
    pub media_type: String,
    /// How it came about.
    pub summary: Summary,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $reason:literal, $retryable:literal;)*) => {
        /// Why a provider did not answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $($(#[$doc])* $name,)* }

        impl ErrorKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable reason in UPPER_SNAKE form.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// Whether the same call could succeed later at the same provider.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }

            /// The kind of that reason.
            #[must_use]
            pub fn from_reason(reason: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|k| k.reason() == reason)
            }
        }
    };
}

kinds! {
    /// The account's quota or budget is spent.
    QuotaExceeded = "PROVIDER_QUOTA_EXCEEDED", false;
    /// Too many requests or tokens for now.
    RateLimited = "PROVIDER_RATE_LIMITED", true;
    /// The provider is overloaded.
    Overloaded = "PROVIDER_OVERLOADED", true;
    /// The provider failed.
    ServerFault = "PROVIDER_SERVER_FAULT", true;
    /// The provider did not answer in time.
    Timeout = "PROVIDER_TIMEOUT", true;
    /// The provider could not be reached, or the connection broke.
    Connection = "PROVIDER_CONNECTION", true;
    /// The key is wrong or not allowed.
    Authentication = "PROVIDER_AUTHENTICATION", false;
    /// The request itself is wrong: no provider of the same kind would take it.
    InvalidRequest = "PROVIDER_INVALID_REQUEST", false;
    /// The prompt is longer than the model takes, alone or with the answer that was asked for.
    ContextTooLong = "PROVIDER_CONTEXT_TOO_LONG", false;
    /// The request is right, but this provider has no word for it: another may.
    Unsupported = "PROVIDER_UNSUPPORTED", false;
    /// The provider does not have the model that was asked for.
    ModelNotFound = "PROVIDER_MODEL_NOT_FOUND", false;
    /// The provider's policy refused the content.
    ContentFiltered = "PROVIDER_CONTENT_FILTERED", false;
    /// The provider's answer could not be understood.
    MalformedAnswer = "PROVIDER_MALFORMED_ANSWER", true;
    /// An admin has switched off every provider that the call may go to. It was not called.
    Disabled = "PROVIDER_DISABLED", true;
}

impl ErrorKind {
    /// Whether another provider could answer the same call. A model that one of them does not have stops it too: the
    /// next would answer with another model than was asked for.
    #[must_use]
    pub const fn allows_fallback(self) -> bool {
        !matches!(self, Self::InvalidRequest | Self::ModelNotFound | Self::ContextTooLong)
    }

    /// Whether it says nothing of the provider's health: the call alone is to blame.
    #[must_use]
    pub const fn is_of_the_call(self) -> bool {
        matches!(
            self,
            Self::InvalidRequest
                | Self::ContextTooLong
                | Self::Unsupported
                | Self::ModelNotFound
                | Self::ContentFiltered
        )
    }
}

/// A call that no provider answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind of the last attempt's error.
    pub kind: ErrorKind,
    /// What happened, without secrets.
    pub message: String,
    /// The wait the provider named.
    pub retry_after: Option<Duration>,
    /// Every attempt.
    pub attempts: Vec<ProviderAttempt>,
}

impl Error {
    /// An error without attempts.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, attempts: Vec::new() }
    }
}
