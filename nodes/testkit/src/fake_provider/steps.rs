//! What is answered, and streams of it that break where they are told to.

use super::fault::Fault;
use super::state::Flight;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

/// The time between two pings.
const PING: Duration = Duration::from_millis(20);

/// How many words a text has: what counts as tokens here.
pub(super) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// A step of a stream.
pub(super) enum Step {
    Data(Bytes),
    /// Nothing more comes, but for this now and then.
    Stall(Option<Bytes>),
}

/// The steps of a stream: its head, its text word by word, and its tail; or what a fault makes of it.
pub(super) struct Script<'a> {
    pub(super) head: Vec<Bytes>,
    pub(super) text: &'a str,
    /// A word as it is sent.
    pub(super) word: &'a dyn Fn(&str) -> Bytes,
    /// The pieces of tools that are called, after the text.
    pub(super) calls: Vec<Bytes>,
    pub(super) tail: Vec<Bytes>,
    /// An error as it is sent in the middle.
    pub(super) error: Bytes,
    /// What is sent now and then while there is nothing to say.
    pub(super) ping: Option<Bytes>,
}

impl Script<'_> {
    pub(super) fn steps(self, fault: Option<&Fault>) -> VecDeque<Step> {
        let (limit, last) = match fault {
            Some(Fault::StreamCut { after_chunks }) => (*after_chunks, None),
            Some(Fault::StreamStall { after_chunks }) => (*after_chunks, Some(Step::Stall(self.ping))),
            Some(Fault::StreamErrorMid { after_chunks }) => (*after_chunks, Some(Step::Data(self.error))),
            _ => (usize::MAX, None),
        };
        let words = self.text.split_inclusive(' ').map(self.word).chain(self.calls).take(limit);
        let mut steps: VecDeque<_> = self.head.into_iter().chain(words).map(Step::Data).collect();
        if limit == usize::MAX {
            steps.extend(self.tail.into_iter().map(Step::Data));
        }
        steps.extend(last);
        steps
    }
}

/// A stream as a response.
pub(super) fn stream(content_type: &'static str, steps: VecDeque<Step>, flight: Flight) -> Response {
    let body = futures::stream::unfold((steps, Some(flight)), |(mut steps, mut flight)| async move {
        let step = steps.pop_front();
        if steps.is_empty()
            && !matches!(step, Some(Step::Stall(_)))
            && let Some(flight) = flight.take()
        {
            flight.land();
        }
        match step? {
            Step::Data(bytes) => Some((bytes, (steps, flight))),
            Step::Stall(None) => std::future::pending().await,
            Step::Stall(Some(ping)) => {
                tokio::time::sleep(PING).await;
                steps.push_front(Step::Stall(Some(ping.clone())));
                Some((ping, (steps, flight)))
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(body.map(Ok::<_, Infallible>))).into_response()
}
