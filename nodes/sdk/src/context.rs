use crate::failure::Failure;
use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::llm::{
    EmbeddingRequest, EmbeddingResponse, Error, ErrorKind, ImageRequest, ImageResponse, TextRequest,
    TextResponse,
};
use callboard_domain::{ArtifactDigest, Progress, TaskId, limits};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Calls to language and image models, through the provider broker.
#[async_trait]
pub trait Llm: Send + Sync + 'static {
    /// Generates a text.
    async fn text(&self, request: TextRequest) -> Result<TextResponse, Error>;
    /// Generates an image.
    async fn image(&self, request: ImageRequest) -> Result<ImageResponse, Error>;
    /// Turns texts into vectors, one for each and all with one model. Whoever makes none says so, as it does here.
    async fn embed(&self, _request: EmbeddingRequest) -> Result<EmbeddingResponse, Error> {
        Err(Error::new(ErrorKind::Unsupported, "no embeddings are made here"))
    }
}

/// Where a handler puts images and large results.
#[async_trait]
pub trait ArtifactSink: Send + Sync + 'static {
    /// Stores bytes (at most 64 MiB) and returns their name. The same bytes have the same name.
    async fn put(&self, data: Bytes, media_type: &str) -> Result<ArtifactDigest, Failure>;
}

/// Where a handler's progress goes.
pub trait ProgressSink: Send + Sync + 'static {
    /// Passes progress on. Never blocks: under load, an older report gives way to a newer one.
    fn report(&self, progress: Progress);
}

/// What a [`TaskContext`] is made of.
pub struct Parts {
    /// The task.
    pub task_id: TaskId,
    /// Its kind.
    pub kind: Arc<str>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// How many attempts failed before.
    pub failures: u32,
    /// When the attempt's time is up.
    pub deadline: Instant,
    /// Set when a cancel was asked for, or the node no longer holds the task.
    pub cancelled: CancellationToken,
    /// Calls to models.
    pub llm: Arc<dyn Llm>,
    /// Storage of artifacts.
    pub artifacts: Arc<dyn ArtifactSink>,
    /// Reports of progress.
    pub progress: Arc<dyn ProgressSink>,
}

/// What a handler knows of its attempt, and what it may use.
pub struct TaskContext {
    parts: Parts,
}

impl TaskContext {
    /// A context.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// The task.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.parts.task_id
    }

    /// The attempt, from 1. It counts every claim: also those that were lost or given back.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parts.attempt
    }

    /// How many attempts failed by themselves before this one.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.parts.failures
    }

    /// The key of a step, the same on every attempt: hand it to whatever must not happen twice.
    #[must_use]
    pub fn idempotency_key(&self, step: &str) -> String {
        format!("{}/{step}", self.parts.task_id)
    }

    /// Done when the handler should stop. It is dropped a grace later.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.parts.cancelled
    }

    /// The time that is left for this attempt.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.parts.deadline.saturating_duration_since(Instant::now())
    }

    /// Reports progress: a percentage (over 100 counts as 100) and what is being done.
    pub fn progress(&self, percent: u8, message: impl Into<String>) {
        let message = limits::cut_message(message.into());
        self.parts.progress.report(Progress { percent: percent.min(100), message });
    }

    /// Calls to models.
    #[must_use]
    pub fn llm(&self) -> &dyn Llm {
        &*self.parts.llm
    }

    /// Storage of images and large results.
    #[must_use]
    pub fn artifacts(&self) -> &dyn ArtifactSink {
        &*self.parts.artifacts
    }
}
