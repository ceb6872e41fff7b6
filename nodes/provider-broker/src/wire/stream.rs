//! What comes back as a stream.
//!
//! A stream is a success only if it said why the model stopped. The mark of its end alone proves nothing:
//! gateways send it after a stream that died.

use super::error::of_transport;
use super::tools::{NO_ARGUMENTS, check_count, stopped};
use super::{Framing, TEXT_BYTES};
use crate::provider::{Chunk, ChunkStream, ProviderText};
use crate::secret::{self, Secret};
use callboard_domain::llm::{Error, ErrorKind, ToolCall, ToolCallDelta, Usage};
use futures::{StreamExt, stream};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::timeout;

/// How long the end of the body is waited for after the end of the answer, so that the connection can be
/// used again.
const LINGER: Duration = Duration::from_millis(20);

/// What the events of a provider's streams mean.
pub(crate) trait Dialect: Default + Send + 'static {
    /// How events are told apart.
    type Framing: Framing;

    /// Takes an event, which is not empty.
    ///
    /// # Errors
    /// If it is an error, or no event that this provider sends.
    fn event(&mut self, data: &[u8], answer: &mut Answer) -> Result<(), Error>;
}

/// The answer so far.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The model that writes it.
    pub(crate) model: String,
    /// Why the model stopped, once it did.
    pub(crate) finish_reason: Option<String>,
    /// The tokens it took, as far as they are known.
    pub(crate) usage: Usage,
    /// The bytes of its text, and of what tools are asked.
    bytes: usize,
    /// The tools that are asked for: whether each has arguments yet.
    calls: Vec<bool>,
    /// Whether nothing more is expected.
    done: bool,
    ready: VecDeque<Chunk>,
}

impl Answer {
    /// More text.
    ///
    /// # Errors
    /// If it is too much.
    pub(crate) fn text(&mut self, text: String) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        self.grow(text.len())?;
        self.ready.push_back(Chunk::Delta(text));
        Ok(())
    }

    /// A tool is asked for; more of its arguments may follow. Gives its place among the calls.
    ///
    /// # Errors
    /// If it is too much, or one too many.
    pub(crate) fn call(&mut self, call: ToolCall) -> Result<u32, Error> {
        check_count(self.calls.len() + 1)?;
        self.grow(call.name.len() + call.arguments.len() + 1)?;
        let index = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        self.calls.push(!call.arguments.is_empty());
        let ToolCall { id, name, arguments, signature } = call;
        self.ready.push_back(Chunk::ToolCall(ToolCallDelta { index, id, name, arguments, signature }));
        Ok(index)
    }

    /// More of the arguments of a call.
    ///
    /// # Errors
    /// If it is too much.
    pub(crate) fn arguments(&mut self, index: u32, arguments: String) -> Result<(), Error> {
        if arguments.is_empty() {
            return Ok(());
        }
        self.grow(arguments.len())?;
        if let Some(begun) = self.calls.get_mut(index as usize) {
            *begun = true;
        }
        self.ready.push_back(Chunk::ToolCall(ToolCallDelta { index, arguments, ..ToolCallDelta::default() }));
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        if self.bytes > TEXT_BYTES {
            let message = format!("the answer is over {TEXT_BYTES} bytes");
            return Err(Error::new(ErrorKind::MalformedAnswer, message));
        }
        Ok(())
    }

    /// Whether it says nothing: neither a text, nor that tools shall be called.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The provider marked the end.
    ///
    /// # Errors
    /// If the model has not stopped.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        if self.finish_reason.is_none() {
            return Err(unfinished("the stream was closed without a finish reason"));
        }
        if !std::mem::replace(&mut self.done, true) {
            for (index, _) in (0..).zip(&self.calls).filter(|(_, begun)| !**begun) {
                let arguments = NO_ARGUMENTS.to_owned();
                let delta = ToolCallDelta { index, arguments, ..ToolCallDelta::default() };
                self.ready.push_back(Chunk::ToolCall(delta));
            }
            self.ready.push_back(Chunk::End {
                usage: self.usage,
                finish_reason: stopped(self.finish_reason.take().unwrap_or_default(), !self.calls.is_empty()),
                model: self.model.clone(),
            });
        }
        Ok(())
    }
}

/// The answer as it comes together: pure, so that any bytes can be tried on it.
struct Assembly<D: Dialect> {
    framing: D::Framing,
    dialect: D,
    answer: Answer,
    /// Whether any event came.
    spoke: bool,
}

impl<D: Dialect> Assembly<D> {
    fn new(model: String) -> Self {
        let answer = Answer { model, ..Answer::default() };
        Self { framing: D::Framing::default(), dialect: D::default(), answer, spoke: false }
    }

    /// Takes the next bytes.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut events = Vec::new();
        let decoded = self.framing.push(bytes, &mut events);
        for event in events {
            self.event(&event)?;
        }
        if self.answer.done {
            return Ok(());
        }
        decoded.map_err(|_| Error::new(ErrorKind::MalformedAnswer, "a line of the stream is too long"))
    }

    /// The body ended, by itself or with its connection.
    fn close(&mut self, broken: Option<Error>) -> Result<(), Error> {
        if let Some(event) = self.framing.close() {
            self.event(&event)?;
        }
        match (&self.answer.finish_reason, broken) {
            _ if self.answer.done => Ok(()),
            // The answer is whole, only its usage may be missing.
            (Some(_), _) => self.answer.end(),
            (None, Some(error)) => Err(error),
            (None, None) if self.spoke => Err(unfinished("the stream ended before the answer did")),
            (None, None) => Err(Error::new(ErrorKind::MalformedAnswer, "the answer is no stream of events")),
        }
    }

    /// Takes an event. What comes after the end is not looked at.
    fn event(&mut self, data: &[u8]) -> Result<(), Error> {
        self.spoke = true;
        let data = data.trim_ascii();
        if data.is_empty() || self.answer.done {
            return Ok(());
        }
        self.dialect.event(data, &mut self.answer)
    }
}

/// The error of a stream that ended before its answer.
fn unfinished(message: &str) -> Error {
    Error::new(ErrorKind::Connection, message)
}

struct Reader<D: Dialect> {
    response: reqwest::Response,
    assembly: Assembly<D>,
    /// Why the stream failed, once what came before is given out.
    failed: Option<Error>,
    key: Option<Secret>,
}

impl<D: Dialect> Reader<D> {
    async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        loop {
            if let Some(chunk) = self.assembly.answer.ready.pop_front() {
                return Some(Ok(chunk));
            }
            if let Some(error) = self.failed.take() {
                self.assembly.answer.done = true;
                return Some(Err(secret::clean(self.key.as_ref(), error)));
            }
            if self.assembly.answer.done {
                return None;
            }
            let taken = match self.response.chunk().await {
                Ok(Some(bytes)) => self.assembly.push(&bytes),
                Ok(None) => self.assembly.close(None),
                Err(error) => self.assembly.close(Some(of_transport(error))),
            };
            self.failed = taken.err();
            if self.assembly.answer.done && self.failed.is_none() {
                let _ =
                    timeout(LINGER, async { while let Ok(Some(_)) = self.response.chunk().await {} }).await;
            }
        }
    }
}

/// The chunks of a streamed answer.
pub(super) fn decode<D: Dialect>(
    response: reqwest::Response,
    model: String,
    key: Option<Secret>,
) -> ChunkStream {
    let reader = Reader::<D> { response, assembly: Assembly::new(model), failed: None, key };
    stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) }).boxed()
}

/// The chunks of an answer that came in one piece.
pub(super) fn of_whole(answer: ProviderText) -> ChunkStream {
    let text = (!answer.text.is_empty()).then_some(Chunk::Delta(answer.text));
    let calls = (0..).zip(answer.tool_calls).map(|(index, call)| {
        let ToolCall { id, name, arguments, signature } = call;
        Chunk::ToolCall(ToolCallDelta { index, id, name, arguments, signature })
    });
    let end = Chunk::End { usage: answer.usage, finish_reason: answer.finish_reason, model: answer.model };
    let chunks: Vec<_> = text.into_iter().chain(calls).chain([end]).map(Ok).collect();
    stream::iter(chunks).boxed()
}

/// What comes of a body, and why it failed if it did.
#[cfg(test)]
pub(crate) fn read_all<D: Dialect>(body: &[u8]) -> (Vec<Chunk>, Option<Error>) {
    read_parts::<D>(&mut std::iter::once(body))
}

/// What comes of a body that comes in parts, and why it failed if it did. As of a connection, nothing is read after the end of the answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_parts<D: Dialect>(parts: &mut dyn Iterator<Item = &[u8]>) -> (Vec<Chunk>, Option<Error>) {
    let mut assembly = Assembly::<D>::new("m".into());
    let mut failed = None;
    for part in parts {
        failed = assembly.push(part).err();
        if failed.is_some() || assembly.answer.done {
            break;
        }
    }
    if failed.is_none() && !assembly.answer.done {
        failed = assembly.close(None).err();
    }
    (assembly.answer.ready.into(), failed)
}
