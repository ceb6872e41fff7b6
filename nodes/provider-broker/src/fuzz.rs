//! The parsers of what providers send, for `fuzz/`, and the corpus of that for the suite: any bytes are an answer or an
//! error, and never more than they were.
//!
//! Not a part of the crate's face: there only with the feature `fuzzing`.

use crate::provider::{Chunk, ProviderText};
use crate::{anthropic, gemini, ollama, openai};
use callboard_domain::llm::Error;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use std::time::Duration;

/// The statuses that mean something to an adapter, and some that mean nothing.
const STATUSES: [u16; 14] = [302, 400, 401, 402, 403, 404, 408, 413, 418, 429, 500, 503, 504, 529];
/// No wait that a provider names is taken over beyond this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What reads a stream that comes in parts: what came of it, and why it failed if it did.
type ReadStream = fn(&mut dyn Iterator<Item = &[u8]>) -> (Vec<Chunk>, Option<Error>);

/// The parsers of one adapter.
pub(crate) struct Parsers {
    pub(crate) text: fn(&[u8], &str) -> Result<ProviderText, Error>,
    /// What else it reads, and whether it could.
    pub(crate) others: &'static [fn(&[u8]) -> bool],
    pub(crate) refusal: fn(StatusCode, &HeaderMap, &[u8]) -> Error,
    pub(crate) stream: ReadStream,
}

/// What can be tried: an adapter and the kind of its answers.
pub const TARGETS: [&str; 8] = [
    "openai_response",
    "openai_stream",
    "anthropic_response",
    "anthropic_stream",
    "gemini_response",
    "gemini_stream",
    "ollama_response",
    "ollama_stream",
];

/// Tries bytes on the parsers of a target. Whether they are an answer.
///
/// # Panics
/// If what a parser promises does not hold, or there is no such target.
#[must_use]
pub fn run(target: &str, bytes: &[u8]) -> bool {
    match target {
        "openai_response" => response(&openai::parsers(), bytes),
        "openai_stream" => stream(&openai::parsers(), bytes),
        "anthropic_response" => response(&anthropic::parsers(), bytes),
        "anthropic_stream" => stream(&anthropic::parsers(), bytes),
        "gemini_response" => response(&gemini::parsers(), bytes),
        "gemini_stream" => stream(&gemini::parsers(), bytes),
        "ollama_response" => response(&ollama::parsers(), bytes),
        "ollama_stream" => stream(&ollama::parsers(), bytes),
        other => unreachable!("there is no target `{other}`"),
    }
}

fn response(parsers: &Parsers, bytes: &[u8]) -> bool {
    let answer = (parsers.text)(bytes, "m");
    if let Ok(answer) = &answer {
        assert!(answer.text.len() <= bytes.len(), "a text that was not sent");
        assert!(!answer.finish_reason.is_empty(), "an answer that does not say why it ended");
    }
    for other in parsers.others {
        other(bytes);
    }
    for status in STATUSES {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let mut headers = HeaderMap::new();
        // What can be a header of theirs is one.
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.insert(RETRY_AFTER, value);
        }
        let error = (parsers.refusal)(status, &headers, bytes);
        assert!(error.retry_after.is_none_or(|wait| wait <= LONGEST_WAIT), "a wait without a cap");
    }
    answer.is_ok()
}

fn stream(parsers: &Parsers, bytes: &[u8]) -> bool {
    let (whole, failed) = (parsers.stream)(&mut std::iter::once(bytes));
    let ends = whole.iter().filter(|chunk| matches!(chunk, Chunk::End { .. })).count();
    assert_eq!(ends, usize::from(failed.is_none()), "an end, or else an error: {failed:?}");
    if failed.is_none() {
        assert!(matches!(whole.last(), Some(Chunk::End { .. })), "more after the end");
    }
    let text = |chunk: &Chunk| if let Chunk::Delta(text) = chunk { text.len() } else { 0 };
    assert!(whole.iter().map(text).sum::<usize>() <= bytes.len(), "a text that was not sent");
    // How the network cuts it must not matter.
    for size in [1, 7] {
        let (parts, failed_too) = (parsers.stream)(&mut bytes.chunks(size));
        assert_eq!((&parts, &failed_too), (&whole, &failed), "cut into parts of {size}");
    }
    failed.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The files of the corpus: their targets, names and contents.
    fn corpus() -> Vec<(&'static str, String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let files = |target: &'static str| {
            let entries = std::fs::read_dir(folder.join(target)).unwrap().map(Result::unwrap);
            let read = move |entry: std::fs::DirEntry| {
                (target, entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
            };
            entries.map(read).collect::<Vec<_>>()
        };
        TARGETS.into_iter().flat_map(files).collect()
    }

    #[test]
    fn every_file_of_the_corpus_is_what_its_name_says() {
        for (target, name, bytes) in corpus() {
            let answered = run(target, &bytes);
            match name.split('-').next() {
                Some("answer") => assert!(answered, "{target}/{name}"),
                Some("error") => assert!(!answered, "{target}/{name}"),
                // What is not passed on yet, and what was found by fuzzing.
                Some("other" | "found") => {}
                _ => panic!("{target}/{name}: answer-, error-, other- or found-"),
            }
        }
        for target in TARGETS {
            let of =
                |kind: &str| corpus().iter().filter(|(t, n, _)| *t == target && n.starts_with(kind)).count();
            assert!(of("answer-") >= 2 && of("error-") >= 3, "{target}");
        }
    }

    #[test]
    fn a_file_of_the_corpus_that_is_cut_anywhere_is_an_answer_or_an_error() {
        for (target, _, bytes) in corpus() {
            // A prime, so that all kinds of places are met.
            for end in (0..bytes.len()).step_by(7) {
                let _ = run(target, &bytes[..end]);
            }
        }
    }
}
