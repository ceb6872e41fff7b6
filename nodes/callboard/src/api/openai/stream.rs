//! A chat completion as a stream of events: a chunk for the role, one for each piece, one for the finish reason, one for
//! the tokens if they are asked for, and `[DONE]`.
//!
//! What is ready at the same time is written at once. A stream that fails says so in an event and then breaks: it has no
//! `[DONE]`, and its body does not come to an end.

use super::Endpoint;
use super::answer::{self, Usage, finish_reason};
use super::error::Error;
use super::request::StreamOptions;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use callboard_contracts::v1;
use callboard_runtime::mesh::GenerateStream;
use futures::stream::{self, Stream, StreamExt as _};
use serde_json::{Value, json};
use std::io;

const DONE: &str = "data: [DONE]\n\n";

/// Begins a stream: once a provider has begun to answer.
pub(super) async fn open(
    endpoint: &Endpoint,
    request: v1::GenerateRequest,
    options: StreamOptions,
) -> Result<Response, Error> {
    let asked = request.model.clone();
    let mut pieces = endpoint.0.broker.text_stream(request).await?;
    let mut first = next(&mut pieces).await?;
    // A broker of a version before does not say who answers before the end.
    let beginning = first.beginning.take();
    let model = beginning.as_ref().map_or("", |beginning| &beginning.model);
    let model = if model.is_empty() { &asked } else { model };
    let chunks = Chunks::new(&endpoint.id("chatcmpl-"), endpoint.now(), model, options.include_usage);
    let mut response = Response::new(Body::from_stream(events(chunks, first, pieces)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Of proxies, nginx: events are worth nothing if they are gathered.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Some(beginning) = &beginning {
        let answers = usize::from(beginning.from_cache() == v1::CacheSource::Unspecified);
        answer::tell(headers, beginning, beginning.attempts.len() + answers);
    }
    Ok(response)
}

/// The next piece; a stream that just stops has failed.
async fn next(pieces: &mut GenerateStream) -> Result<v1::GenerateStreamResponse, Error> {
    match pieces.next().await {
        Some(Ok(piece)) => Ok(piece.response.unwrap_or_default()),
        Some(Err(status)) => Err(Error::of_status(&status)),
        None => Err(Error::internal("the stream ended before the answer did")),
    }
}

/// Where a stream is.
enum Step {
    /// Between two pieces.
    Text(GenerateStream),
    /// It has failed, and has said so.
    Failed(String),
    /// Nothing follows.
    Over,
}

/// The events of a stream, as bytes.
fn events(
    chunks: Chunks,
    first: v1::GenerateStreamResponse,
    pieces: GenerateStream,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let mut begin = chunks.role();
    let step = chunks.piece(first, &mut begin, pieces);
    let rest = stream::unfold((chunks, step), |(chunks, step)| async move {
        let (written, step) = match step {
            Step::Text(mut pieces) => match next(&mut pieces).await {
                Ok(piece) => {
                    let mut text = String::new();
                    let step = chunks.piece(piece, &mut text, pieces);
                    (Ok(text.into()), step)
                }
                Err(error) => {
                    let event = format!("data: {}\n\n", error.document());
                    (Ok(event.into()), Step::Failed(error.message().to_owned()))
                }
            },
            Step::Failed(why) => {
                // The event goes out before the connection breaks: what is not written yet goes with it.
                tokio::task::yield_now().await;
                (Err(io::Error::other(why)), Step::Over)
            }
            Step::Over => return None,
        };
        Some((written, (chunks, step)))
    });
    stream::iter([Ok(begin.into())]).chain(rest)
}

/// The delta of a piece of a call: the first has its id, its name and its type.
fn tool_call(piece: &v1::ToolCallDelta) -> Value {
    let mut call = json!({"index": piece.index, "function": {"arguments": piece.arguments}});
    if !piece.name.is_empty() {
        call["id"] = json!(piece.id);
        call["type"] = json!("function");
        call["function"]["name"] = json!(piece.name);
    }
    if let Some(extra) = answer::signed(&piece.signature) {
        call["extra_content"] = extra;
    }
    json!({"tool_calls": [call]})
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    // No text is none.
    serde_json::to_string(text).unwrap_or_default()
}

/// Writes chunks. What all of them begin with is written once.
struct Chunks {
    head: String,
    with_usage: bool,
}

impl Chunks {
    fn new(id: &str, created: i64, model: &str, with_usage: bool) -> Self {
        let (id, model) = (quoted(id), quoted(model));
        let head = format!(
            "data: {{\"id\":{id},\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":{model},"
        );
        Self { head, with_usage }
    }

    /// A chunk with a choice: a delta, and why the model stopped.
    fn choice(&self, text: &mut String, delta: &str, finish: &str) {
        text.push_str(&self.head);
        if self.with_usage {
            text.push_str("\"usage\":null,");
        }
        text.push_str("\"choices\":[{\"index\":0,\"delta\":");
        text.push_str(delta);
        text.push_str(",\"logprobs\":null,\"finish_reason\":");
        text.push_str(finish);
        text.push_str("}]}\n\n");
    }

    fn role(&self) -> String {
        let mut text = String::new();
        self.choice(&mut text, r#"{"role":"assistant","content":"","refusal":null}"#, "null");
        text
    }

    /// Writes what a piece says, and says where the stream is then.
    fn piece(&self, piece: v1::GenerateStreamResponse, text: &mut String, pieces: GenerateStream) -> Step {
        if !piece.delta.is_empty() {
            self.choice(text, &format!("{{\"content\":{}}}", quoted(&piece.delta)), "null");
        }
        if let Some(call) = piece.tool_call {
            self.choice(text, &tool_call(&call).to_string(), "null");
        }
        let Some(summary) = piece.summary else { return Step::Text(pieces) };
        self.choice(text, "{}", &quoted(finish_reason(&summary)));
        if self.with_usage {
            let usage = json!(Usage::from(&summary));
            text.push_str(&self.head);
            text.push_str(&format!("\"choices\":[],\"usage\":{usage}}}\n\n"));
        }
        text.push_str(DONE);
        Step::Over
    }
}
