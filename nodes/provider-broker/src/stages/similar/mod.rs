//! The similar-content cache: when no provider answers a call, the answer to one that asked the same in other words will do
//! better than a template. It is labelled with its score.
//!
//! It errs on the safe side: only what [`words`] takes for the same question is a candidate, by the hash of the words that
//! count, and its score by [`minhash`] must reach the threshold. A prompt that differs in one number, name or negation never
//! gets another's answer. Why there is no search by similarity alone: `docs/decisions/0014-similar-is-the-same-words.md`.

mod minhash;
mod words;

use super::Scope;
use super::clears::Cleared;
use super::fingerprint::{self, Digest, Fingerprint};
use super::shelf::{Kept, Room, Shelf};
use crate::config;
use callboard_domain::llm::{TextRequest, TextResponse};
use std::time::Duration;

/// Answers by the words that were asked.
pub(super) struct Similar {
    shelf: Shelf,
    threshold: u8,
    ttl: Duration,
}

/// A question in the form in which it is compared.
struct Question {
    at: Fingerprint,
    sketch: Box<[u32]>,
}

impl Similar {
    /// None if it is off.
    pub(super) fn new(config: &config::Similar) -> Option<Self> {
        let on = config.enabled && config.max_mb > 0;
        on.then(|| Self {
            shelf: Shelf::new(config.max_mb, Room::Rare),
            threshold: config.threshold_percent,
            ttl: config.ttl,
        })
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, scope: &Scope, request: &TextRequest, answer: &TextResponse) {
        let Question { at, sketch } = read(scope, request);
        let kept = Kept::new(at, scope, answer.clone(), self.ttl);
        self.shelf.put(at, kept.with(sketch));
    }

    /// The answer to a similar call, and how similar it was, in per cent.
    pub(super) fn find(&self, scope: &Scope, request: &TextRequest) -> Option<(TextResponse, u8)> {
        let asked = read(scope, request);
        let kept = self.shelf.get(&asked.at)?;
        let percent = minhash::percent(&kept.sketch, &asked.sketch);
        (percent >= self.threshold).then(|| (kept.answer.clone(), percent))
    }

    pub(super) fn clear(&self, cleared: &Cleared) {
        self.shelf.clear(cleared);
    }

    pub(super) fn size(&self) -> (u64, u64) {
        self.shelf.size()
    }
}

/// Reads a question: who asks and how must be equal, of the messages the speakers and the words that count.
fn read(scope: &Scope, request: &TextRequest) -> Question {
    let digest = Digest::of("callboard similar call 1").text(&scope.kind);
    let mut digest = fingerprint::manner(digest, scope, request);
    let mut all = Vec::new();
    for message in &request.messages {
        let words = words::words(&message.content.text());
        digest = digest.text(fingerprint::speaker(message.role));
        digest = fingerprint::beside_text(digest, &message.content);
        digest = words.iter().filter(|word| word.counts).fold(digest, |digest, word| digest.text(&word.text));
        // No word is this long: messages do not run into each other.
        digest = digest.number(u32::MAX);
        all.extend(words);
    }
    Question { at: digest.finish(), sketch: minhash::sketch(&all) }
}
