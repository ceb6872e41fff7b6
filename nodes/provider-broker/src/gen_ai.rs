//! How calls to a provider went, as OpenTelemetry's conventions for generative AI measure it: how long they took, until when
//! the first piece of a stream came, and how many tokens they took; by operation, model and kind of error.
//!
//! Callers may name any model: past [`MODELS`] of a provider they are counted together. What never happened has no histogram.

use callboard_domain::llm::{ErrorKind, Usage};
use callboard_ports::metrics::{Distribution, Histogram};
use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// The most models of a provider that are counted apart.
const MODELS: usize = 64;
/// The name under which further ones are.
const OTHER: &str = "other";

/// Upper bounds of durations, in nanoseconds: 10 ms to 81.92 s, each twice the one before, as the conventions recommend.
const DURATIONS: &[u64] = &[
    10_000_000,
    20_000_000,
    40_000_000,
    80_000_000,
    160_000_000,
    320_000_000,
    640_000_000,
    1_280_000_000,
    2_560_000_000,
    5_120_000_000,
    10_240_000_000,
    20_480_000_000,
    40_960_000_000,
    81_920_000_000,
];

/// Upper bounds of counts of tokens: powers of four, as the conventions recommend.
const TOKENS: &[u64] =
    &[1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864];

/// What a provider is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A text.
    Chat,
    /// An image.
    Image,
    /// Vectors of texts.
    Embed,
}

impl Operation {
    const ALL: [Self; 3] = [Self::Chat, Self::Image, Self::Embed];

    /// As the conventions call it, or would.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Image => "generate_image",
            Self::Embed => "embeddings",
        }
    }
}

/// A call, as far as it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) operation: Operation,
    /// The model that was asked for.
    pub(crate) model: &'a str,
    /// How long it took, or has taken so far.
    pub(crate) took: Duration,
}

/// What was measured of the calls of a provider for an operation with a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// As OpenTelemetry calls the operation.
    pub operation: &'static str,
    /// The model that was asked for.
    pub model: String,
    /// How long calls took, in nanoseconds, streams until their end; with the kind of the error of those that failed.
    pub took: Vec<(Option<ErrorKind>, Distribution)>,
    /// How long it took until the first piece of a stream, in nanoseconds; empty without one.
    pub first_chunk: Option<Distribution>,
    /// How many tokens the prompts had that a provider has counted.
    pub input_tokens: Option<Distribution>,
    /// The same of the answers.
    pub output_tokens: Option<Distribution>,
}

#[derive(Debug, Default)]
struct Histograms {
    answered: OnceLock<Histogram>,
    /// By the place of the error in [`ErrorKind::ALL`].
    failed: [OnceLock<Histogram>; ErrorKind::ALL.len()],
    first_chunk: OnceLock<Histogram>,
    input_tokens: OnceLock<Histogram>,
    output_tokens: OnceLock<Histogram>,
}

fn durations(histogram: &OnceLock<Histogram>) -> &Histogram {
    histogram.get_or_init(|| Histogram::new(DURATIONS))
}

fn count(histogram: &OnceLock<Histogram>, tokens: u32) {
    // Of an image, or of vectors, there are none.
    if tokens > 0 {
        histogram.get_or_init(|| Histogram::new(TOKENS)).observe(tokens.into());
    }
}

type OfModel = [Histograms; Operation::ALL.len()];

/// The calls of a provider.
#[derive(Debug, Default)]
pub(crate) struct GenAi(RwLock<HashMap<String, OfModel>>);

impl GenAi {
    fn with(&self, Call { operation, model, .. }: Call<'_>, what: impl FnOnce(&Histograms)) {
        let models = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(of) = models.get(model) {
            return what(&of[operation as usize]);
        }
        drop(models);
        let mut models = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let model = if models.len() < MODELS { model } else { OTHER };
        what(&models.entry(model.to_owned()).or_default()[operation as usize]);
    }

    /// A call was answered. The usage is what the provider counted, if it did.
    pub(crate) fn answered(&self, call: Call<'_>, usage: Option<Usage>) {
        self.with(call, |of| {
            durations(&of.answered).took(call.took);
            if let Some(usage) = usage {
                count(&of.input_tokens, usage.input_tokens);
                count(&of.output_tokens, usage.output_tokens);
            }
        });
    }

    /// A call failed.
    pub(crate) fn failed(&self, call: Call<'_>, kind: ErrorKind) {
        let place = ErrorKind::ALL.iter().position(|k| *k == kind);
        self.with(call, |of| {
            if let Some(failed) = place.and_then(|place| of.failed.get(place)) {
                durations(failed).took(call.took);
            }
        });
    }

    /// A stream began.
    pub(crate) fn began(&self, call: Call<'_>) {
        self.with(call, |of| durations(&of.first_chunk).took(call.took));
    }

    /// What was measured, by model and operation.
    pub(crate) fn read(&self) -> Vec<Measured> {
        let models = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for (model, of_model) in models.iter() {
            for (operation, of) in Operation::ALL.into_iter().zip(of_model) {
                let read = |histogram: &OnceLock<Histogram>| histogram.get().map(Histogram::read);
                let kinds = [None].into_iter().chain(ErrorKind::ALL.iter().copied().map(Some));
                let histograms = [&of.answered].into_iter().chain(&of.failed);
                let took: Vec<_> =
                    kinds.zip(histograms).filter_map(|(kind, took)| Some((kind, read(took)?))).collect();
                let first_chunk = read(&of.first_chunk);
                if took.is_empty() && first_chunk.is_none() {
                    continue;
                }
                all.push(Measured {
                    operation: operation.name(),
                    model: model.clone(),
                    took,
                    first_chunk,
                    input_tokens: read(&of.input_tokens),
                    output_tokens: read(&of.output_tokens),
                });
            }
        }
        all.sort_unstable_by(|a, b| (&a.model, a.operation).cmp(&(&b.model, b.operation)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_measured_by_model_operation_and_error() {
        let calls = GenAi::default();
        let usage = Usage::of(5, 0);
        let chat = |ms| Call { operation: Operation::Chat, model: "m", took: Duration::from_millis(ms) };
        calls.answered(chat(15), Some(usage));
        calls.answered(chat(20), None);
        calls.failed(chat(100_000), ErrorKind::Timeout);
        calls.began(chat(9));
        calls.answered(Call { operation: Operation::Embed, ..chat(0) }, None);
        let [chat, embed] = &calls.read()[..] else { panic!("two operations") };
        assert_eq!((chat.operation, embed.operation), ("chat", "embeddings"));
        let [(None, answered), (Some(ErrorKind::Timeout), failed)] = &chat.took[..] else {
            panic!("{chat:?}")
        };
        assert_eq!((answered.buckets[1], answered.count()), (2, 2));
        assert_eq!(failed.buckets.last(), Some(&1));
        assert_eq!(chat.first_chunk.as_ref().unwrap().buckets[0], 1);
        assert_eq!(chat.input_tokens.as_ref().unwrap().buckets[2], 1);
        assert_eq!((&chat.output_tokens, &embed.first_chunk), (&None, &None));
    }

    #[test]
    fn models_past_the_most_are_counted_together() {
        let calls = GenAi::default();
        for model in 0..MODELS + 10 {
            let model = format!("model-{model}");
            let call = Call { operation: Operation::Chat, model: &model, took: Duration::ZERO };
            calls.answered(call, None);
        }
        let read = calls.read();
        let other = read.iter().find(|of| of.model == OTHER).unwrap();
        assert_eq!((read.len(), other.took[0].1.count()), (MODELS + 1, 10));
    }

    #[test]
    fn bounds_are_those_that_are_recommended() {
        assert!(DURATIONS.windows(2).all(|pair| pair[1] == 2 * pair[0]) && DURATIONS.len() == 14);
        assert!(TOKENS.windows(2).all(|pair| pair[1] == 4 * pair[0]) && TOKENS.len() == 14);
    }
}
