//! Streams through the stages: an answer that is known is streamed in one piece, one that comes is kept at its end.
//!
//! Streams do not share calls: each is read at its own pace.

use super::asked::Asked;
use super::{Route, Stages, is_outage};
use crate::route::{Piece, PieceStream};
use callboard_domain::limits;
use callboard_domain::llm::{Error, Summary, TextRequest, TextResponse, ToolCall, ToolCallDelta};
use futures::StreamExt as _;
use futures::stream;
use std::sync::Arc;

impl<R: Route> Stages<R> {
    /// Answers a call for a text as a stream.
    pub(crate) async fn text_stream(self: &Arc<Self>, request: &TextRequest) -> Result<PieceStream, Error> {
        let asked = self.read(request);
        if let Some(answer) = self.answered(&asked).await? {
            return Ok(told(answer));
        }
        let pieces = match self.route.text_stream(&asked.request).await {
            Ok(pieces) => pieces,
            Err(error) if is_outage(error.kind) => {
                return self.instead(&asked, &error.message, &error.attempts).map(told).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        if asked.key.is_none() && asked.keep.is_none() && self.similar.is_none() {
            return Ok(pieces);
        }
        let listener = Listener { stages: Arc::clone(self), asked, heard: Some(Heard::default()) };
        let heard = stream::unfold((pieces, listener), |(mut pieces, mut listener)| async move {
            let piece = pieces.next().await?;
            listener.hear(&piece).await;
            Some((piece, (pieces, listener)))
        });
        Ok(heard.boxed())
    }

    /// What there is of an answer already.
    async fn answered(&self, asked: &Asked) -> Result<Option<TextResponse>, Error> {
        if let Some(key) = asked.key {
            let replayed = match self.replay(key, asked)? {
                None => self.replay_of_others(key, asked).await?,
                here => here,
            };
            if replayed.is_some() {
                return Ok(replayed);
            }
        }
        Ok(self.known_anywhere(asked).await)
    }
}

/// A stream of an answer that is there.
fn told(answer: TextResponse) -> PieceStream {
    let TextResponse { text, tool_calls, summary } = answer;
    let beginning = Summary { finish_reason: String::new(), usage: Default::default(), ..summary.clone() };
    let mut pieces = vec![Piece::Begin(Box::new(beginning))];
    if !text.is_empty() {
        pieces.push(Piece::Delta(text));
    }
    pieces.extend((0..).zip(tool_calls).map(|(index, call)| {
        let ToolCall { id, name, arguments, signature } = call;
        Piece::ToolCall(ToolCallDelta { index, id, name, arguments, signature })
    }));
    pieces.push(Piece::End(Box::new(summary)));
    stream::iter(pieces.into_iter().map(Ok)).boxed()
}

/// Listens to a stream, and keeps what it has heard when it comes to its end. A stream that is cut, or dropped, is not
/// kept.
struct Listener<R> {
    stages: Arc<Stages<R>>,
    asked: Asked,
    /// The answer so far; none once it is longer than what a result may be.
    heard: Option<Heard>,
}

/// A part of an answer.
#[derive(Default)]
struct Heard {
    text: String,
    tool_calls: Vec<ToolCall>,
}

impl Heard {
    fn tool_call(&mut self, delta: &ToolCallDelta) {
        let index = usize::try_from(delta.index).unwrap_or(usize::MAX);
        // Calls come one after the other.
        if index == self.tool_calls.len() {
            self.tool_calls.push(ToolCall::default());
        }
        if let Some(call) = self.tool_calls.get_mut(index) {
            call.id.push_str(&delta.id);
            call.name.push_str(&delta.name);
            call.arguments.push_str(&delta.arguments);
            call.signature = delta.signature.clone().or(call.signature.take());
        }
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.tool_calls.iter().map(|call| call.arguments.len()).sum::<usize>()
    }
}

impl<R: Route> Listener<R> {
    async fn hear(&mut self, piece: &Result<Piece, Error>) {
        match piece {
            Ok(Piece::Delta(delta)) => {
                if let Some(heard) = &mut self.heard {
                    heard.text.push_str(delta);
                }
                self.heard.take_if(|heard| heard.bytes() > limits::RESULT_BYTES);
            }
            Ok(Piece::ToolCall(delta)) => {
                if let Some(heard) = &mut self.heard {
                    heard.tool_call(delta);
                }
                self.heard.take_if(|heard| heard.bytes() > limits::RESULT_BYTES);
            }
            Ok(Piece::End(summary)) => {
                let Some(Heard { text, tool_calls }) = self.heard.take() else { return };
                let answer = TextResponse { text, tool_calls, summary: Summary::clone(summary) };
                self.stages.keep(&self.asked, &answer).await;
                if let Some(key) = self.asked.key {
                    self.stages.remember(key, &self.asked, answer).await;
                }
            }
            Ok(Piece::Begin(_)) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of a stream is what is streamed again.
    #[tokio::test]
    async fn an_answer_with_tool_calls_is_streamed_and_heard_the_same() {
        let call = |id: &str, signature: Option<&str>| ToolCall {
            id: id.into(),
            name: "look".into(),
            arguments: format!("{{\"at\":\"{id}\"}}"),
            signature: signature.map(Into::into),
        };
        let tool_calls = vec![call("a", None), call("b", Some("s"))];
        let answer = TextResponse { text: "let me see".into(), tool_calls, ..TextResponse::default() };
        let mut heard = Heard::default();
        let mut pieces = told(answer.clone());
        while let Some(piece) = pieces.next().await {
            match piece.unwrap() {
                Piece::Delta(delta) => heard.text.push_str(&delta),
                // In two halves, as they may come.
                Piece::ToolCall(mut delta) => {
                    let rest = delta.arguments.split_off(3);
                    heard.tool_call(&delta);
                    let index = delta.index;
                    heard.tool_call(&ToolCallDelta { index, arguments: rest, ..ToolCallDelta::default() });
                }
                Piece::Begin(_) | Piece::End(_) => {}
            }
        }
        assert_eq!((heard.text, heard.tool_calls), (answer.text, answer.tool_calls));
    }
}
