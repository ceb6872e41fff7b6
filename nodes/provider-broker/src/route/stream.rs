//! Streams: fail over before the first piece, fail loudly after it.

use super::attempt::outcome;
use super::calls::CallIds;
use super::spans::{Operation, failed};
use super::won::Won;
use super::{Router, routes};
use crate::provider::{Chunk, ChunkStream, Provider};
use callboard_domain::llm::{Error, ErrorKind, Summary, TextRequest, ToolCallDelta, Usage};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// A piece of a streamed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Who answers, and which attempts failed before; there is no usage and no finish reason yet. Always the first.
    Begin(Box<Summary>),
    /// More text.
    Delta(String),
    /// More of what a tool shall do.
    ToolCall(ToolCallDelta),
    /// The end, and how the answer came about.
    End(Box<Summary>),
}

/// The stream of an answer. Its first item is a [`Piece::Begin`], its last item is a [`Piece::End`] or an error.
pub type PieceStream = BoxStream<'static, Result<Piece, Error>>;

/// A stream that has begun: its first piece and the rest.
struct Begun {
    first: Option<Chunk>,
    rest: ChunkStream,
}

/// What a running stream needs.
struct Running {
    router: Arc<Router>,
    won: Won<Begun>,
    deadline: Instant,
    /// Whether the call gave less time than the configuration does.
    hurried: bool,
    /// The bytes of text so far.
    bytes: usize,
    ids: CallIds,
}

impl Router {
    pub(crate) async fn text_stream(self: &Arc<Self>, request: &TextRequest) -> Result<PieceStream, Error> {
        let candidates = self.text_candidates(request)?;
        let limits = self.text_limits(request);
        let deadline = Instant::now() + limits.total.min(callboard_domain::limits::TIMEOUT);
        let call = |p, model: Option<&str>| match model {
            None => begin(p, request),
            Some(model) => {
                let request = routes::with_model(request, model);
                async move { begin(p, &request).await }.boxed()
            }
        };
        let mut won = self.attempt_all(Operation::Chat, candidates, limits, call).await?;
        won.dropped = self.dropped(&won.candidate, request, "");
        let hurried = limits.total < self.timeouts.text.total;
        self.health.began(won.candidate.index, won.call());
        let begin = Piece::Begin(Box::new(won.beginning()));
        let ids = CallIds::draw(&self.random);
        let running = Running { router: self.clone(), won, deadline, hurried, bytes: 0, ids };
        let rest = stream::unfold(Some(running), |running| async move { Some(running?.step().await) });
        Ok(stream::iter([Ok(begin)]).chain(rest).boxed())
    }
}

/// Opens a stream and waits for its first text, or its end: up to there the next provider can take over.
fn begin<'a>(provider: &'a dyn Provider, request: &'a TextRequest) -> BoxFuture<'a, Result<Begun, Error>> {
    Box::pin(async move {
        let mut rest = provider.text_stream(request).await?;
        loop {
            match rest.next().await.unwrap_or_else(|| Err(ended()))? {
                Chunk::Delta(text) if text.is_empty() => {}
                first => return Ok(Begun { first: Some(first), rest }),
            }
        }
    })
}

fn ended() -> Error {
    Error::new(ErrorKind::Connection, "the stream ended before the answer did")
}

impl Running {
    /// The next item, and what is left to do after it.
    async fn step(mut self) -> (Result<Piece, Error>, Option<Self>) {
        match self.next().await {
            Ok(Chunk::Delta(text)) => {
                self.bytes += text.len();
                self.won.bill.streamed(self.bytes);
                (Ok(Piece::Delta(text)), Some(self))
            }
            Ok(Chunk::ToolCall(mut piece)) => {
                self.ids.name_piece(&mut piece);
                self.bytes += piece.arguments.len();
                self.won.bill.streamed(self.bytes);
                (Ok(Piece::ToolCall(piece)), Some(self))
            }
            Ok(Chunk::End { usage, finish_reason, model }) => {
                let usage = self.won.settle(&model, usage, self.bytes).await;
                let (_, summary) = self.won.finish(&self.router, model, finish_reason, usage);
                (Ok(Piece::End(Box::new(summary))), None)
            }
            Err(error) => {
                // What came is billed, and nobody counted it.
                self.won.settle("", Usage::default(), self.bytes).await;
                (Err(self.fail(error)), None)
            }
        }
    }

    async fn next(&mut self) -> Result<Chunk, Error> {
        if let Some(first) = self.won.value.first.take() {
            return Ok(first);
        }
        let stall = self.router.timeouts.stall;
        let until = (Instant::now() + stall).min(self.deadline);
        match timeout_at(until, self.won.value.rest.next()).await {
            Ok(chunk) => chunk.unwrap_or_else(|| Err(ended())),
            Err(_) if until == self.deadline => {
                Err(Error::new(ErrorKind::Timeout, "the stream took longer than the call may take"))
            }
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("the stream said nothing for {stall:?}"))),
        }
    }

    /// The error of a stream that had begun. The caller has a part of the answer, so no other provider can
    /// take over.
    fn fail(&mut self, mut error: Error) -> Error {
        self.router.health.failure(self.won.candidate.index, self.won.call(), error.kind);
        // A stream that goes on is not to blame for a call that gave it less time than it may take.
        let cut_short = self.hurried && error.kind == ErrorKind::Timeout && Instant::now() >= self.deadline;
        self.won.permit.settle(outcome(&error, cut_short));
        error.message =
            format!("{}: after {} bytes of text: {}", self.won.candidate.name, self.bytes, error.message);
        tracing::warn!(error.type = error.kind.reason(), message = error.message, "stream failed");
        failed(&mut self.won.span, &error);
        let model = self.won.candidate.model.clone();
        let last = self.won.attempt(&model, Some((error.kind, error.message.clone())));
        error.attempts = std::mem::take(&mut self.won.failed);
        error.attempts.push(last);
        error
    }
}
