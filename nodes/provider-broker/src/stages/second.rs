//! The second level: answers that all nodes of a cluster share, so that a task that runs again on another node is not
//! answered, and paid for, twice.
//!
//! It is asked only when this node's memory has nothing, for calls that have a key or use the cache. If it is away it costs
//! one call [`PATIENCE`], and is then left alone for [`REST`]: calls are never held up by it one after the other.

use super::Fingerprint;
use bytes::Bytes;
use callboard_domain::llm::{Summary, TextResponse, ToolCall, Usage};
use callboard_ports::answers::{Answers, Error};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long it may take.
const PATIENCE: Duration = Duration::from_millis(100);
/// For how long it is not asked after it did not answer.
const REST: Duration = Duration::from_secs(5);
/// How long what it had is kept in this node's memory: it may be replaced there.
pub(super) const COPIED: Duration = Duration::from_secs(60);

/// The answers that nodes share, if they do.
#[derive(Default)]
pub(super) struct Second {
    answers: Option<Arc<dyn Answers>>,
    rests_until: Mutex<Option<Instant>>,
}

/// An answer as it is kept. Versions of this program share them: a field that is added has a default.
#[derive(Serialize, Deserialize)]
struct Record {
    /// What was asked.
    of: String,
    text: String,
    provider: String,
    model: String,
    finish_reason: String,
    input_tokens: u32,
    output_tokens: u32,
    #[serde(default)]
    cached_input_tokens: u32,
    #[serde(default)]
    cache_write_tokens: u32,
    #[serde(default)]
    degraded: Option<String>,
    #[serde(default)]
    tool_calls: Vec<Call>,
    #[serde(default)]
    dropped: Vec<String>,
}

/// What a model would have a tool do.
#[derive(Serialize, Deserialize)]
struct Call {
    id: String,
    name: String,
    arguments: String,
    signature: Option<String>,
}

impl From<Call> for ToolCall {
    fn from(Call { id, name, arguments, signature }: Call) -> Self {
        Self { id, name, arguments, signature }
    }
}

impl From<ToolCall> for Call {
    fn from(ToolCall { id, name, arguments, signature }: ToolCall) -> Self {
        Self { id, name, arguments, signature }
    }
}

impl Second {
    pub(super) fn new(answers: Option<Arc<dyn Answers>>) -> Self {
        Self { answers, ..Self::default() }
    }

    /// What is kept there, and whether it answers this.
    pub(super) async fn get(&self, at: Fingerprint, of: Fingerprint) -> Option<(TextResponse, bool)> {
        let answers = self.answers.as_ref().filter(|_| !self.rests())?;
        read(&self.in_time(answers.get(&at.to_string())).await??, of)
    }

    /// Keeps an answer there.
    pub(super) async fn put(&self, at: Fingerprint, of: Fingerprint, answer: &TextResponse, ttl: Duration) {
        let Some(answers) = self.answers.as_ref().filter(|_| !self.rests()) else { return };
        let Some(bytes) = write(of, answer) else { return };
        self.in_time(answers.put(&at.to_string(), bytes, ttl)).await;
    }

    /// Keeps an answer there unless there is one, which is given then, with whether it answers this.
    pub(super) async fn put_first(
        &self,
        at: Fingerprint,
        of: Fingerprint,
        answer: &TextResponse,
        ttl: Duration,
    ) -> Option<(TextResponse, bool)> {
        let answers = self.answers.as_ref().filter(|_| !self.rests())?;
        let at = at.to_string();
        let kept = answers.put_first(&at, write(of, answer)?, ttl);
        read(&self.in_time(kept).await??, of)
    }

    fn rests(&self) -> bool {
        let until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Option<T> {
        let error = match timeout(PATIENCE, call).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        tracing::warn!(error, "answers are not shared with other nodes for {} s", REST.as_secs());
        let mut until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + REST);
        None
    }
}

/// What is kept, and whether it answers this. What cannot be read is of another version, and as good as nothing.
fn read(bytes: &[u8], of: Fingerprint) -> Option<(TextResponse, bool)> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let answers_this = record.of == of.to_string();
    let summary = Summary {
        provider: record.provider,
        model: record.model,
        finish_reason: record.finish_reason,
        usage: Usage {
            input_tokens: record.input_tokens,
            output_tokens: record.output_tokens,
            cached_input_tokens: record.cached_input_tokens,
            cache_write_tokens: record.cache_write_tokens,
        },
        degraded: record.degraded,
        dropped: record.dropped,
        ..Summary::default()
    };
    let tool_calls = record.tool_calls.into_iter().map(Into::into).collect();
    Some((TextResponse { text: record.text, tool_calls, summary }, answers_this))
}

/// An answer as it is kept.
fn write(of: Fingerprint, answer: &TextResponse) -> Option<Bytes> {
    let summary = &answer.summary;
    let record = Record {
        of: of.to_string(),
        text: answer.text.clone(),
        provider: summary.provider.clone(),
        model: summary.model.clone(),
        finish_reason: summary.finish_reason.clone(),
        input_tokens: summary.usage.input_tokens,
        output_tokens: summary.usage.output_tokens,
        cached_input_tokens: summary.usage.cached_input_tokens,
        cache_write_tokens: summary.usage.cache_write_tokens,
        degraded: summary.degraded.clone(),
        dropped: summary.dropped.clone(),
        tool_calls: answer.tool_calls.iter().cloned().map(Into::into).collect(),
    };
    // Texts and numbers can always be written.
    serde_json::to_vec(&record).ok().map(Into::into)
}
