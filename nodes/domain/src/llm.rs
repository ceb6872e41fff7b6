//! Calls to language and image models, as every provider's adapter sees them.

mod cached;

pub use cached::{CacheMode, CacheSource};

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
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
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
    /// Ask for one JSON object as the answer.
    pub json: bool,
    /// The provider to use, and no other.
    pub provider: Option<String>,
    /// The time over all attempts; the configuration's if `None`.
    pub timeout: Option<Duration>,
    /// The stable key of this call: `task/step`.
    pub idempotency_key: Option<String>,
    /// Whether it may be answered with what the same call was answered before.
    pub cache: CacheMode,
}

impl TextRequest {
    /// A request with one user message.
    #[must_use]
    pub fn prompt(text: impl Into<String>) -> Self {
        Self { messages: vec![Message { role: Role::User, content: text.into() }], ..Self::default() }
    }

    /// Puts instructions before the conversation.
    #[must_use]
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.messages.insert(0, Message { role: Role::System, content: text.into() });
        self
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
    /// Of the prompt.
    pub input_tokens: u32,
    /// Of the answer.
    pub output_tokens: u32,
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

/// How an answer came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The provider that answered.
    pub provider: String,
    /// The id of its key that was used; empty without one.
    pub key: String,
    /// The model that answered.
    pub model: String,
    /// Why the model stopped: `stop`, `length`.
    pub finish_reason: String,
    /// The tokens it took; those of the earlier call if it came from a cache.
    pub usage: Usage,
    /// Every attempt, the last one being the answer.
    pub attempts: Vec<ProviderAttempt>,
    /// Where it came from, if no provider was called for it.
    pub from_cache: Option<CacheSource>,
    /// Why the answer is not what the first provider would have given, if it is not.
    pub degraded: Option<String>,
}

/// A generated text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextResponse {
    /// The text.
    pub text: String,
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
        !matches!(self, Self::InvalidRequest | Self::ModelNotFound)
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
