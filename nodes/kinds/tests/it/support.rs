//! A stage to run a kind on: models that answer by a script, artifacts in memory, progress on record.

use async_trait::async_trait;
use bytes::Bytes;
use callboard_domain::{ArtifactDigest, Progress, TaskId};
use callboard_sdk::llm::{Error, ImageRequest, ImageResponse, Summary, TextRequest, TextResponse, Usage};
use callboard_sdk::schema::Validator;
use callboard_sdk::{ArtifactSink, Failure, Llm, Parts, ProgressSink, TaskContext};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The task on stage.
pub(crate) const TASK: &str = "01939e2c-7e10-7cc3-98c4-dc0c0c07398f";

/// Models that answer by a script, in order, and keep what they were asked. A call past the end of the
/// script never answers.
#[derive(Default)]
pub(crate) struct Script {
    texts: Mutex<VecDeque<Result<TextResponse, Error>>>,
    images: Mutex<VecDeque<Result<ImageResponse, Error>>>,
    asked_texts: Mutex<Vec<TextRequest>>,
    asked_images: Mutex<Vec<ImageRequest>>,
    /// Told of every call.
    called: Notify,
    /// Set when a call that never answers is dropped.
    dropped: CancellationToken,
}

impl Script {
    async fn answer<T>(&self, next: Option<Result<T, Error>>) -> Result<T, Error> {
        self.called.notify_one();
        if let Some(answer) = next {
            return answer;
        }
        let _dropped = self.dropped.clone().drop_guard();
        std::future::pending().await
    }
}

#[async_trait]
impl Llm for Script {
    async fn text(&self, request: TextRequest) -> Result<TextResponse, Error> {
        self.asked_texts.lock().unwrap().push(request);
        let next = self.texts.lock().unwrap().pop_front();
        self.answer(next).await
    }

    async fn image(&self, request: ImageRequest) -> Result<ImageResponse, Error> {
        self.asked_images.lock().unwrap().push(request);
        let next = self.images.lock().unwrap().pop_front();
        self.answer(next).await
    }
}

#[derive(Default)]
struct Shelf(Mutex<Vec<(Bytes, String)>>);

#[async_trait]
impl ArtifactSink for Shelf {
    async fn put(&self, data: Bytes, media_type: &str) -> Result<ArtifactDigest, Failure> {
        let mut shelf = self.0.lock().unwrap();
        shelf.push((data, media_type.to_owned()));
        Ok(digest(shelf.len() - 1))
    }
}

/// The name of the nth artifact.
pub(crate) fn digest(nth: usize) -> ArtifactDigest {
    ArtifactDigest::new([u8::try_from(nth).unwrap(); 32])
}

#[derive(Default)]
struct Record(Mutex<Vec<(u8, String)>>);

impl ProgressSink for Record {
    fn report(&self, progress: Progress) {
        self.0.lock().unwrap().push((progress.percent, progress.message));
    }
}

/// Where one kind runs.
pub(crate) struct Stage {
    kind: &'static str,
    failures: u32,
    timeout: Duration,
    cancelled: CancellationToken,
    script: Arc<Script>,
    shelf: Arc<Shelf>,
    record: Arc<Record>,
}

impl Stage {
    pub(crate) fn of(kind: &'static str) -> Self {
        Self {
            kind,
            failures: 0,
            timeout: Duration::from_secs(300),
            cancelled: CancellationToken::new(),
            script: Arc::default(),
            shelf: Arc::default(),
            record: Arc::default(),
        }
    }

    pub(crate) fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn text(self, answer: Result<TextResponse, Error>) -> Self {
        self.script.texts.lock().unwrap().push_back(answer);
        self
    }

    pub(crate) fn image(self, answer: Result<ImageResponse, Error>) -> Self {
        self.script.images.lock().unwrap().push_back(answer);
        self
    }

    /// Runs the kind. The input must fit its schema; a result must fit its own.
    pub(crate) async fn run(&self, input: &Value) -> Result<Value, Failure> {
        let input = Bytes::from(input.to_string());
        let output = self.run_bytes(input).await?;
        Ok(serde_json::from_slice(&output).unwrap())
    }

    pub(crate) async fn run_bytes(&self, input: Bytes) -> Result<Bytes, Failure> {
        let registry = callboard_kinds::all().unwrap();
        let entry = registry.get(self.kind).unwrap();
        Validator::new(&entry.spec.input_schema).unwrap().check(&input).unwrap();
        let ctx = TaskContext::new(Parts {
            task_id: TASK.parse::<TaskId>().unwrap(),
            kind: self.kind.into(),
            attempt: self.failures + 1,
            failures: self.failures,
            deadline: Instant::now() + self.timeout,
            cancelled: self.cancelled.clone(),
            llm: self.script.clone(),
            artifacts: self.shelf.clone(),
            progress: self.record.clone(),
        });
        let output = entry.handler.run(&ctx, input).await?;
        Validator::new(&entry.spec.result_schema).unwrap().check(&output).unwrap();
        Ok(output)
    }

    /// Runs the kind, cancels it when it waits for a model, and tells whether the model's call was dropped.
    pub(crate) async fn cancel_in_call(&self, input: &Value) -> (Failure, bool) {
        let cancel = async {
            self.script.called.notified().await;
            self.cancelled.cancel();
        };
        let (result, ()) = tokio::join!(self.run(input), cancel);
        (result.unwrap_err(), self.script.dropped.is_cancelled())
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.cancel();
    }

    pub(crate) fn asked_texts(&self) -> Vec<TextRequest> {
        self.script.asked_texts.lock().unwrap().clone()
    }

    pub(crate) fn asked_images(&self) -> Vec<ImageRequest> {
        self.script.asked_images.lock().unwrap().clone()
    }

    pub(crate) fn artifacts(&self) -> Vec<(Bytes, String)> {
        self.shelf.0.lock().unwrap().clone()
    }

    pub(crate) fn progress(&self) -> Vec<(u8, String)> {
        self.record.0.lock().unwrap().clone()
    }
}

/// A provider's text.
pub(crate) fn answer(text: &str) -> TextResponse {
    TextResponse { text: text.to_owned(), summary: summary("openai", "gpt-test"), ..TextResponse::default() }
}

/// A provider's image.
pub(crate) fn picture(data: impl Into<Bytes>, media_type: &str) -> ImageResponse {
    ImageResponse {
        data: data.into(),
        media_type: media_type.to_owned(),
        summary: summary("painter", "image-test"),
    }
}

/// How an answer came about.
pub(crate) fn summary(provider: &str, model: &str) -> Summary {
    Summary {
        provider: provider.to_owned(),
        model: model.to_owned(),
        finish_reason: "stop".to_owned(),
        usage: Usage::of(12, 34),
        ..Summary::default()
    }
}

/// A small PNG of that size.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0x7f; (width * height) as usize]).unwrap();
    writer.finish().unwrap();
    file
}
