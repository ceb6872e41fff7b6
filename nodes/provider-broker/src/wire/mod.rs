//! What all adapters have in common on the wire: the HTTP client with the key in its one header, bodies read up
//! to a limit, streams taken apart and put together, and errors of connections.
//!
//! An adapter says with a [`Protocol`] how a request is dressed and a refusal is read, and with a [`Dialect`]
//! what the events of a stream mean. What is a whole answer is decided here, for all alike.

mod client;
mod error;
mod hints;
mod image;
mod lines;
mod model;
mod read;
mod sse;
mod stream;
mod tools;

pub(crate) use client::{Auth, Client, Protocol};
pub(crate) use error::{
    capped, excerpt, kind_of_status, malformed, no_embeddings, no_images, refused, worded,
};
#[cfg(test)]
pub(crate) use hints::try_each;
pub(crate) use hints::{Hint, dropped};
pub(crate) use image::image;
pub(crate) use lines::Lines;
pub(crate) use model::TextModel;
pub(crate) use read::{cached, count, document, json_hint, some_text};
pub(crate) use sse::Events;
#[cfg(test)]
pub(crate) use stream::read_all;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use stream::read_parts;
pub(crate) use stream::{Answer, Dialect};
pub(crate) use tools::{object, raw, tool_name, unsupported, whole};

/// The most bytes of a text's answer, and of the text of a stream.
pub(crate) const TEXT_BYTES: usize = 8 << 20;
/// The most bytes of an image's answer: base64 of 24 MiB.
pub(crate) const IMAGE_BYTES: usize = 32 << 20;
/// The most bytes of the answer to a call for embeddings.
pub(crate) const EMBEDDING_BYTES: usize = 32 << 20;
/// The most bytes of a line, and of the data of an event.
const EVENT_BYTES: usize = 1 << 20;

/// A line or an event was over its limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Takes bytes in any portions, gives the events of a stream.
pub(crate) trait Framing: Default + Send + 'static {
    /// Takes the next bytes and appends the data of every event that they end.
    ///
    /// # Errors
    /// If a line or an event is over its limit.
    fn push(&mut self, bytes: &[u8], events: &mut Vec<Vec<u8>>) -> Result<(), TooLong>;

    /// What the end of the stream leaves: an event that is whole but for the mark of its end.
    fn close(&mut self) -> Option<Vec<u8>>;
}
