//! An attempt that was answered, and what it comes to.

use super::spans::Operation;
use super::{Candidate, Router};
use crate::accounts::Bill;
use crate::admission::Debit;
use crate::breaker::{Outcome, Permit};
use crate::gen_ai::Call;
use crate::keys::InFlight;
use callboard_domain::llm::{Cost, ErrorKind, ProviderAttempt, Summary, Usage};
use callboard_ports::trace::Span;
use tokio::time::Instant;

/// An attempt that was answered.
pub(super) struct Won<T> {
    pub(super) operation: Operation,
    pub(super) value: T,
    pub(super) candidate: Candidate,
    /// The id of the key that was used.
    pub(super) key: String,
    pub(super) started: Instant,
    pub(super) failed: Vec<ProviderAttempt>,
    pub(super) degraded: Option<String>,
    /// Of the call to the provider: a stream goes on.
    pub(super) span: Span,
    /// Of the breaker, which waits for what becomes of the call: a stream may still break.
    pub(super) permit: Permit,
    /// Among the calls over the key, until the end.
    pub(super) _place: InFlight,
    /// Of the limits, until it is known what the call took.
    pub(super) debit: Option<Debit>,
    /// Of quotas and budgets; the same.
    pub(super) bill: Bill,
    pub(super) cost: Option<Cost>,
    pub(super) usage_estimated: bool,
    /// What of the call the provider was not told, by name.
    pub(super) dropped: Vec<&'static str>,
}

impl<T> Won<T> {
    /// What the call took counts against the limits, the quotas and the budget: of this model, and so many bytes of text.
    /// Answers the tokens, estimated if the provider counted none.
    pub(super) async fn settle(&mut self, model: &str, usage: Usage, bytes: usize) -> Usage {
        let taken = self.bill.answered(model, usage, bytes);
        (self.cost, self.usage_estimated) = (taken.cost, taken.estimated);
        if let Some(debit) = self.debit.take() {
            debit.settle(taken.usage).await;
        }
        taken.usage
    }

    /// What it is, and how long it has taken so far.
    pub(super) fn call(&self) -> Call<'_> {
        Call { operation: self.operation, model: &self.candidate.model, took: self.started.elapsed() }
    }

    pub(super) fn attempt(&self, model: &str, error: Option<(ErrorKind, String)>) -> ProviderAttempt {
        ProviderAttempt {
            provider: self.candidate.name.clone(),
            key: self.key.clone(),
            model: model.to_owned(),
            duration: self.started.elapsed(),
            error,
        }
    }

    /// What is known while the answer has only begun.
    pub(super) fn beginning(&self) -> Summary {
        Summary {
            provider: self.candidate.name.clone(),
            key: self.key.clone(),
            model: self.candidate.model.clone(),
            attempts: self.failed.clone(),
            degraded: self.degraded.clone(),
            dropped: self.dropped.iter().copied().map(Into::into).collect(),
            ..Summary::default()
        }
    }

    /// The whole answer has come.
    pub(super) fn finish(
        mut self,
        router: &Router,
        model: String,
        finish_reason: String,
        usage: Usage,
    ) -> (T, Summary) {
        self.permit.settle(Outcome::Success);
        let counted = (!self.usage_estimated).then_some(usage);
        router.health.success(self.candidate.index, self.call(), counted);
        self.span.set_with("gen_ai.response.model", || model.clone());
        self.span.set_with("gen_ai.response.finish_reasons", || finish_reason.clone());
        self.span.set("gen_ai.usage.input_tokens", usage.input_tokens);
        self.span.set("gen_ai.usage.output_tokens", usage.output_tokens);
        if usage.cached_input_tokens > 0 {
            self.span.set("gen_ai.usage.cache_read.input_tokens", usage.cached_input_tokens);
        }
        if usage.cache_write_tokens > 0 {
            self.span.set("gen_ai.usage.cache_write.input_tokens", usage.cache_write_tokens);
        }
        let last = self.attempt(&model, None);
        let mut attempts = self.failed;
        attempts.push(last);
        let summary = Summary {
            provider: self.candidate.name,
            key: self.key,
            model,
            finish_reason,
            usage,
            attempts,
            degraded: self.degraded,
            cost: self.cost,
            usage_estimated: self.usage_estimated,
            dropped: self.dropped.iter().copied().map(Into::into).collect(),
            ..Summary::default()
        };
        (self.value, summary)
    }
}
