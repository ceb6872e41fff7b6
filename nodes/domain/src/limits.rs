//! Every limit of the product that a caller can meet, in one place.

use std::time::Duration;

/// The most bytes of a task's input.
pub const INPUT_BYTES: usize = 1 << 20;
/// The most bytes of a task's result. Larger ones are artifacts.
pub const RESULT_BYTES: usize = 1 << 20;
/// The most bytes of one artifact.
pub const ARTIFACT_BYTES: usize = 64 << 20;
/// The most bytes of the images in the messages of one call to a model, all together.
pub const PROMPT_IMAGE_BYTES: usize = 16 << 20;
/// The most images in the messages of one call to a model.
pub const PROMPT_IMAGES: usize = 64;
/// The most tools that a call offers to a model, and the most that a model asks for in one answer.
pub const TOOLS: usize = 128;
/// The most texts at which an answer ends.
pub const STOPS: usize = 16;
/// The most texts of one call for embeddings.
pub const EMBEDDING_INPUTS: usize = 2_048;
/// The most numbers of a vector.
pub const EMBEDDING_DIMENSIONS: u32 = 16_384;
/// The highest priority. Priorities start at 0.
pub const PRIORITY_MAX: u8 = 9;
/// The longest an attempt may take.
pub const TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// The longest a task may be delayed.
pub const DELAY: Duration = Duration::from_secs(366 * 24 * 3600);
/// The most failed attempts a task may be allowed.
pub const ATTEMPTS: u32 = 100;
/// How many started attempts of a task may be lost with their nodes before it fails.
pub const LOST: u32 = 5;
/// The most tasks of one batch.
pub const BATCH_TASKS: usize = 1_000;
/// The most bytes of one batch's inputs together.
pub const BATCH_BYTES: usize = 3 << 20;
/// The most characters of a `request_id`.
pub const REQUEST_ID_CHARS: usize = 128;
/// The most characters of a queue's or a kind's name.
pub const NAME_CHARS: usize = 64;

/// The most bytes of what a call to a model is about.
pub const SUBJECT_BYTES: usize = 256;
/// The most items of one page.
pub const PAGE_ITEMS: u32 = 1_000;
/// The most bytes kept of an error's or a progress report's message.
pub const MESSAGE_BYTES: usize = 4 << 10;
/// The deepest nesting of a task's input.
pub const INPUT_DEPTH: usize = 100;
/// The most events of progress that one attempt may write.
pub const PROGRESS_EVENTS: u32 = 1_000;

/// The most bytes of an error's message on the wire. It travels in headers, percent-encoded and once more
/// among the details, and many clients take 16 KiB of headers, not more.
pub const STATUS_MESSAGE_BYTES: usize = 1_000;
/// The most bytes of an error's violations on the wire, all together.
pub const STATUS_VIOLATIONS_BYTES: usize = 3_000;

/// A message cut to [`MESSAGE_BYTES`], at a character.
#[must_use]
pub fn cut_message(message: String) -> String {
    cut(message, MESSAGE_BYTES)
}

/// A text cut to so many bytes (at least 3), at a character, with a sign that it was.
#[must_use]
pub fn cut(mut text: String, bytes: usize) -> String {
    const SIGN: char = '…';
    if text.len() > bytes {
        let end = text.floor_char_boundary(bytes.saturating_sub(SIGN.len_utf8()));
        text.truncate(end);
        text.push(SIGN);
    }
    text
}
