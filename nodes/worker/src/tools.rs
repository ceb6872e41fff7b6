//! What handlers are given to work with: models through the ProviderBroker, artifacts through their port.

use async_trait::async_trait;
use bytes::Bytes;
use callboard_contracts::mesh::v1;
use callboard_domain::llm::{
    EmbeddingRequest, EmbeddingResponse, Error, ErrorKind, ImageRequest, ImageResponse, TextRequest,
    TextResponse,
};
use callboard_domain::{ArtifactDigest, convert, limits};
use callboard_ports::trace::{Kind, Tracer};
use callboard_ports::{Artifacts, artifacts};
use callboard_runtime::mesh::{self, BrokerClient};
use callboard_sdk::{ArtifactSink, Failure, Llm};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Calls to models, through a ProviderBroker on this node or another. Its configuration bounds each call,
/// and the attempt's timeout bounds the handler. Called by a handler, each names its attempt: the worker runs
/// handlers in a [`mesh::Context`] that says so.
pub struct BrokerLlm {
    broker: BrokerClient,
    tracer: Tracer,
}

impl BrokerLlm {
    /// Calls through a client.
    #[must_use]
    pub fn new(broker: BrokerClient, tracer: Tracer) -> Self {
        Self { broker, tracer }
    }

    /// Makes a call, with a span around it that is its cause.
    ///
    /// Where it ran nowhere, it is made again for a while: a node that has just started reaches no other yet, and one
    /// whose broker restarts has none for a moment. That is our fault, and no reason to use up an attempt.
    async fn call<T, F>(&self, method: &'static str, call: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, mesh::Error>>,
    {
        let current = mesh::current();
        let name = || format!("{SERVICE}/{method}");
        let mut span = self.tracer.start(name, Kind::Client, current.trace());
        span.set("rpc.system", "grpc");
        span.set("rpc.service", SERVICE);
        span.set("rpc.method", method);
        let context = if span.is_recorded() { current.at(span.context()) } else { current };
        let (began, mut pause) = (Instant::now(), AGAIN);
        let answer = loop {
            match context.clone().scope(call()).await {
                Err(mesh::Error::DidNotRun(_)) if began.elapsed() + pause < NOWHERE => {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(AGAIN_CAP);
                }
                answer => break answer,
            }
        };
        answer.map_err(|error| {
            span.fail(|| error.to_string());
            convert::error_from_status(&error.into_status())
        })
    }
}

/// Whom it calls.
const SERVICE: &str = "callboard.mesh.v1.ProviderBrokerService";
/// A backstop: the longest an attempt may take.
const DEADLINE: Duration = limits::TIMEOUT;

/// For how long a call is made again that ran nowhere.
const NOWHERE: Duration = Duration::from_secs(10);
/// The first wait between two tries; it doubles. And the longest.
const AGAIN: Duration = Duration::from_millis(50);
const AGAIN_CAP: Duration = Duration::from_secs(1);

fn empty() -> Error {
    Error::new(ErrorKind::MalformedAnswer, "the broker gave an empty answer")
}

#[async_trait]
impl Llm for BrokerLlm {
    async fn text(&self, request: TextRequest) -> Result<TextResponse, Error> {
        let request = Some(convert::text_request_to_proto(&request));
        let request = v1::GenerateRequest { context: None, fence: None, request };
        let call = || self.broker.generate(request.clone(), DEADLINE);
        let answer = self.call("Generate", call).await?;
        answer.response.and_then(convert::text_response_from_proto).ok_or_else(empty)
    }

    async fn image(&self, request: ImageRequest) -> Result<ImageResponse, Error> {
        let request = convert::image_request_to_proto(&request);
        let call = || self.broker.generate_image(request.clone(), DEADLINE);
        let answer = self.call("GenerateImage", call).await?;
        let summary = convert::summary_from_proto(answer.summary.ok_or_else(empty)?);
        Ok(ImageResponse { data: answer.data, media_type: answer.media_type, summary })
    }

    async fn embed(&self, request: EmbeddingRequest) -> Result<EmbeddingResponse, Error> {
        let texts = request.inputs.len();
        let request = convert::embedding_request_to_proto(&request);
        let call = || self.broker.embed(request.clone(), DEADLINE);
        let answer = self.call("Embed", call).await?;
        match answer.summary.is_some() && answer.embeddings.len() == texts {
            true => Ok(convert::embeddings_from_proto(answer)),
            false => Err(empty()),
        }
    }
}

/// Artifacts, through their port.
pub struct PortArtifacts {
    artifacts: Arc<dyn Artifacts>,
}

impl PortArtifacts {
    /// Stores through a port.
    #[must_use]
    pub fn new(artifacts: Arc<dyn Artifacts>) -> Self {
        Self { artifacts }
    }
}

#[async_trait]
impl ArtifactSink for PortArtifacts {
    async fn put(&self, data: Bytes, media_type: &str) -> Result<ArtifactDigest, Failure> {
        self.artifacts.put(data, media_type).await.map_err(|error| match error {
            artifacts::Error::Unavailable(_) => {
                Failure::retryable(error.to_string()).reason("ARTIFACTS_UNAVAILABLE")
            }
            other => Failure::permanent(other.to_string()).reason("ARTIFACT_REFUSED"),
        })
    }
}
