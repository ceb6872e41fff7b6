//! Streams through the stages: an answer that is known is streamed in one piece, one that comes is kept at its end.
//!
//! Streams do not share calls: each is read at its own pace.

use super::asked::Asked;
use super::{Route, Stages, is_outage};
use crate::route::{Piece, PieceStream};
use callboard_domain::limits;
use callboard_domain::llm::{Error, Summary, TextRequest, TextResponse};
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
        let listener = Listener { stages: Arc::clone(self), asked, text: Some(String::new()) };
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
    let TextResponse { text, summary } = answer;
    let beginning = Summary { finish_reason: String::new(), usage: Default::default(), ..summary.clone() };
    let pieces = [Piece::Begin(Box::new(beginning)), Piece::Delta(text), Piece::End(Box::new(summary))];
    stream::iter(pieces.map(Ok)).boxed()
}

/// Listens to a stream, and keeps what it has heard when it comes to its end. A stream that is cut, or dropped, is not
/// kept.
struct Listener<R> {
    stages: Arc<Stages<R>>,
    asked: Asked,
    /// The text so far; none once it is longer than what a result may be.
    text: Option<String>,
}

impl<R: Route> Listener<R> {
    async fn hear(&mut self, piece: &Result<Piece, Error>) {
        match piece {
            Ok(Piece::Delta(delta)) => {
                if let Some(text) = &mut self.text {
                    text.push_str(delta);
                }
                self.text.take_if(|text| text.len() > limits::RESULT_BYTES);
            }
            Ok(Piece::End(summary)) => {
                let Some(text) = self.text.take() else { return };
                let answer = TextResponse { text, summary: Summary::clone(summary) };
                self.stages.keep(&self.asked, &answer).await;
                if let Some(key) = self.asked.key {
                    self.stages.remember(key, &self.asked, &answer).await;
                }
            }
            Ok(Piece::Begin(_)) | Err(_) => {}
        }
    }
}
