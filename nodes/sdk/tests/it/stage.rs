//! A context for a handler that calls no model.

use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::{ArtifactDigest, Progress, TaskId};
use callboard_sdk::llm::{Error, ErrorKind, ImageRequest, ImageResponse, TextRequest, TextResponse};
use callboard_sdk::{ArtifactSink, Failure, Llm, Parts, ProgressSink, TaskContext};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const TASK: &str = "01939e2c-7e10-7cc3-98c4-dc0c0c07398f";

/// Has nobody to ask and nowhere to store.
struct Nothing;

#[async_trait]
impl Llm for Nothing {
    async fn text(&self, _: TextRequest) -> Result<TextResponse, Error> {
        Err(Error::new(ErrorKind::Connection, "there is no model"))
    }

    async fn image(&self, _: ImageRequest) -> Result<ImageResponse, Error> {
        Err(Error::new(ErrorKind::Connection, "there is no model"))
    }
}

#[async_trait]
impl ArtifactSink for Nothing {
    async fn put(&self, _: Bytes, _: &str) -> Result<ArtifactDigest, Failure> {
        Err(Failure::retryable("there is no shelf"))
    }
}

/// What was reported.
#[derive(Default)]
pub(crate) struct Record(pub(crate) Mutex<Vec<Progress>>);

impl ProgressSink for Record {
    fn report(&self, progress: Progress) {
        self.0.lock().unwrap().push(progress);
    }
}

/// The context of an attempt with 60 s to go.
pub(crate) fn context(attempt: u32, record: Arc<Record>) -> TaskContext {
    context_until(Instant::now() + Duration::from_secs(60), attempt, record)
}

/// The context of an attempt with that deadline.
pub(crate) fn context_until(deadline: Instant, attempt: u32, record: Arc<Record>) -> TaskContext {
    TaskContext::new(Parts {
        task_id: TASK.parse::<TaskId>().unwrap(),
        kind: "test".into(),
        attempt,
        failures: attempt - 1,
        deadline,
        cancelled: CancellationToken::new(),
        llm: Arc::new(Nothing),
        artifacts: Arc::new(Nothing),
        progress: record,
    })
}
