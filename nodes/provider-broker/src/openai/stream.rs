//! What comes back as a stream.
//!
//! A stream is a success only if it said why the model stopped. `[DONE]` alone proves nothing: gateways
//! send it after a stream that died.

use super::TEXT_BYTES;
use super::error::{self, Fault, malformed};
use super::response::{Tokens, check_refusal};
use super::sse::Decoder;
use crate::provider::{Chunk, ChunkStream, ProviderText};
use crate::secret::{self, Secret};
use callboard_domain::llm::{Error, ErrorKind, Usage};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::timeout;

/// How long the end of the body is waited for after the end of the answer, so that the connection can be
/// used again.
const LINGER: Duration = Duration::from_millis(20);

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Tokens>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

/// The answer as it comes together: pure, so that any bytes can be tried on it.
#[derive(Debug)]
struct Assembly {
    decoder: Decoder,
    model: String,
    finish_reason: Option<String>,
    usage: Usage,
    bytes: usize,
    /// Whether any event came.
    spoke: bool,
    /// Whether nothing more is expected.
    done: bool,
    ready: VecDeque<Chunk>,
}

impl Assembly {
    fn new(model: String) -> Self {
        Self {
            decoder: Decoder::default(),
            model,
            finish_reason: None,
            usage: Usage::default(),
            bytes: 0,
            spoke: false,
            done: false,
            ready: VecDeque::new(),
        }
    }

    /// Takes the next bytes.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut events = Vec::new();
        let decoded = self.decoder.push(bytes, &mut events);
        for event in events {
            if !self.done {
                self.event(&event)?;
            }
        }
        decoded.map_err(|_| Error::new(ErrorKind::MalformedAnswer, "a line of the stream is too long"))
    }

    /// The body ended, by itself or with its connection.
    fn close(&mut self, broken: Option<Error>) -> Result<(), Error> {
        if self.done {
            return Ok(());
        }
        if let Some(event) = self.decoder.close() {
            self.event(&event)?;
        }
        if self.done {
            return Ok(());
        }
        match (&self.finish_reason, broken) {
            // The answer is whole, only its usage may be missing.
            (Some(_), _) => {}
            (None, Some(error)) => return Err(error),
            (None, None) if self.spoke => return Err(unfinished("the stream ended before the answer did")),
            (None, None) => {
                return Err(Error::new(ErrorKind::MalformedAnswer, "the answer is no stream of events"));
            }
        }
        self.end();
        Ok(())
    }

    fn event(&mut self, data: &[u8]) -> Result<(), Error> {
        self.spoke = true;
        let data = data.trim_ascii();
        if data.is_empty() {
            return Ok(());
        }
        if data == b"[DONE]" {
            if self.finish_reason.is_none() {
                return Err(unfinished("the stream was closed without a finish reason"));
            }
            self.end();
            return Ok(());
        }
        let wrong =
            |e: serde_json::Error| malformed(&format!("an event is no chunk of a completion ({e})"), data);
        let document: Value = serde_json::from_slice(data).map_err(wrong)?;
        if let Some(fault) = Fault::find(&document) {
            return Err(fault.into_error());
        }
        let event = Event::deserialize(document).map_err(wrong)?;
        if let Some(model) = event.model.filter(|m| !m.is_empty()) {
            self.model = model;
        }
        if let Some(tokens) = event.usage {
            self.usage = tokens.into();
        }
        let Some(choice) = event.choices.and_then(|choices| choices.into_iter().next()) else {
            return Ok(());
        };
        let delta = choice.delta.unwrap_or_default();
        if let Some(text) = delta.content.filter(|text| !text.is_empty()) {
            self.bytes += text.len();
            if self.bytes > TEXT_BYTES {
                return Err(Error::new(
                    ErrorKind::MalformedAnswer,
                    format!("the answer is over {TEXT_BYTES} bytes"),
                ));
            }
            self.ready.push_back(Chunk::Delta(text));
        }
        check_refusal(delta.refusal.as_deref(), choice.finish_reason.as_deref())?;
        self.finish_reason = choice.finish_reason.or_else(|| self.finish_reason.take());
        Ok(())
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            self.ready.push_back(Chunk::End {
                usage: self.usage,
                finish_reason: self.finish_reason.take().unwrap_or_default(),
                model: self.model.clone(),
            });
        }
    }
}

fn unfinished(message: &str) -> Error {
    Error::new(ErrorKind::Connection, message)
}

struct Reader {
    answer: reqwest::Response,
    assembly: Assembly,
    /// Why the stream failed, once what came before is given out.
    failed: Option<Error>,
    key: Option<Secret>,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        loop {
            if let Some(chunk) = self.assembly.ready.pop_front() {
                return Some(Ok(chunk));
            }
            if let Some(error) = self.failed.take() {
                self.assembly.done = true;
                return Some(Err(secret::clean(self.key.as_ref(), error)));
            }
            if self.assembly.done {
                return None;
            }
            let taken = match self.answer.chunk().await {
                Ok(Some(bytes)) => self.assembly.push(&bytes),
                Ok(None) => self.assembly.close(None),
                Err(error) => self.assembly.close(Some(error::of_transport(error))),
            };
            self.failed = taken.err();
            if self.assembly.done && self.failed.is_none() {
                let _ = timeout(LINGER, async { while let Ok(Some(_)) = self.answer.chunk().await {} }).await;
            }
        }
    }
}

/// The chunks of a streamed answer.
pub(super) fn decode(answer: reqwest::Response, model: String, key: Option<Secret>) -> ChunkStream {
    let reader = Reader { answer, assembly: Assembly::new(model), failed: None, key };
    stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) }).boxed()
}

/// The chunks of an answer that came in one piece.
pub(super) fn of_whole(answer: ProviderText) -> ChunkStream {
    let end = Chunk::End { usage: answer.usage, finish_reason: answer.finish_reason, model: answer.model };
    stream::iter([Ok(Chunk::Delta(answer.text)), Ok(end)]).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes of these bytes, and why it failed if it did.
    fn read(bytes: &[u8]) -> (Vec<Chunk>, Option<ErrorKind>) {
        let mut assembly = Assembly::new("m".into());
        let failed = assembly.push(bytes).and_then(|()| assembly.close(None)).err();
        (assembly.ready.into(), failed.map(|e| e.kind))
    }

    const HELLO: &str = "data: {\"model\":\"m-2\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    const FINISH: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";

    fn end(usage: Usage, model: &str) -> Chunk {
        Chunk::End { usage, finish_reason: "stop".into(), model: model.into() }
    }

    #[test]
    fn a_whole_stream_is_an_answer() {
        let hi = Chunk::Delta("hi".into());
        let usage = Usage { input_tokens: 1, output_tokens: 2 };
        let whole = format!("{HELLO}{FINISH}{USAGE}data: [DONE]\n\n");
        assert_eq!(read(whole.as_bytes()), (vec![hi.clone(), end(usage, "m-2")], None));
        // What comes after the end is not looked at.
        assert_eq!(
            read(format!("{whole}data: nonsense\n\n").as_bytes()),
            (vec![hi.clone(), end(usage, "m-2")], None)
        );
        // Without `[DONE]` and usage, but finished.
        assert_eq!(
            read(format!("{HELLO}{FINISH}").as_bytes()),
            (vec![hi, end(Usage::default(), "m-2")], None)
        );
    }

    #[test]
    fn a_stream_that_is_not_whole_is_an_error() {
        let error = r#"data: {"error":{"message":"m","type":"server_error"}}"#;
        for (rest, kind) in [
            (String::new(), ErrorKind::Connection),
            ("data: [DONE]\n\n".into(), ErrorKind::Connection),
            ("data: [DONE]".into(), ErrorKind::Connection),
            ("data: {\"choi".into(), ErrorKind::Connection),
            ("data: {\"choi\n\n".into(), ErrorKind::MalformedAnswer),
            (format!("{error}\n\n"), ErrorKind::ServerFault),
            (FINISH.replace("stop", "content_filter"), ErrorKind::ContentFiltered),
        ] {
            assert_eq!(
                read(format!("{HELLO}{rest}").as_bytes()),
                (vec![Chunk::Delta("hi".into())], Some(kind)),
                "{rest}"
            );
        }
        assert_eq!(read(b"<html>").1, Some(ErrorKind::MalformedAnswer));
        assert_eq!(read(b"").1, Some(ErrorKind::MalformedAnswer));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(
            parts in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                Just(HELLO.as_bytes().to_vec()), Just(FINISH.as_bytes().to_vec()), Just(USAGE.as_bytes().to_vec()),
                Just(b"data: ".to_vec()), Just(b"data: {\"choices\":[{\"delta\":{\"content\":".to_vec()), Just(b"\n\n".to_vec()),
            ], 0..8),
        ) {
            let (chunks, failed) = read(&parts.concat());
            let ends = chunks.iter().filter(|c| matches!(c, Chunk::End { .. })).count();
            prop_assert_eq!(ends, usize::from(failed.is_none()));
            let ended = matches!(chunks.last(), Some(Chunk::End { .. }));
            prop_assert!(failed.is_some() || ended);
        }
    }
}
