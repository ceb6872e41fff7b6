//! Trying candidates until one answers.

use super::failures::Failures;
use super::spans::{Operation, failed};
use super::{Candidate, Candidates, Limits, Router};
use crate::breaker::{Outcome, Permit};
use crate::provider::Provider;
use callboard_domain::limits;
use callboard_domain::llm::{Error, ErrorKind, ProviderAttempt, Summary, Usage};
use callboard_ports::trace::Span;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The most time that is kept back for a local provider at the end of the line, so that a provider that
/// hangs does not take the call's last resort with it.
const RESERVE: Duration = Duration::from_secs(1);

/// An attempt that was answered.
pub(super) struct Won<T> {
    pub(super) value: T,
    pub(super) candidate: Candidate,
    pub(super) started: Instant,
    pub(super) failed: Vec<ProviderAttempt>,
    degraded: Option<String>,
    /// Of the call to the provider: a stream goes on.
    pub(super) span: Span,
    /// Of the breaker, which waits for what becomes of the call: a stream may still break.
    pub(super) permit: Permit,
}

impl<T> Won<T> {
    pub(super) fn attempt(&self, model: &str, error: Option<(ErrorKind, String)>) -> ProviderAttempt {
        ProviderAttempt {
            provider: self.candidate.name.clone(),
            model: model.to_owned(),
            duration: self.started.elapsed(),
            error,
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
        router.health.success(self.candidate.index, self.started.elapsed());
        self.span.set_with("gen_ai.response.model", || model.clone());
        self.span.set_with("gen_ai.response.finish_reasons", || finish_reason.clone());
        self.span.set("gen_ai.usage.input_tokens", usage.input_tokens);
        self.span.set("gen_ai.usage.output_tokens", usage.output_tokens);
        let last = self.attempt(&model, None);
        let mut attempts = self.failed;
        attempts.push(last);
        let summary = Summary {
            provider: self.candidate.name,
            model,
            finish_reason,
            usage,
            attempts,
            degraded: self.degraded,
        };
        (self.value, summary)
    }
}

/// How the failure of a call counts for the provider's health.
pub(super) fn outcome(error: &Error, blameless: bool) -> Outcome {
    match blameless {
        true => Outcome::Unknown,
        false => Outcome::Failure { kind: error.kind, wait: error.retry_after },
    }
}

impl Router {
    /// Tries the candidates until one answers.
    pub(super) async fn attempt_all<'a, T>(
        &'a self,
        operation: Operation,
        candidates: Candidates,
        limits: Limits,
        call: impl Fn(&'a dyn Provider) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<Won<T>, Error> {
        let mut pipeline = self.begin(operation);
        let deadline = Instant::now() + limits.total.min(limits::TIMEOUT);
        let mut failures = Failures::new(self.providers.len(), candidates.pinned);
        let local_from = candidates.list.iter().rposition(|c| c.local).unwrap_or(0);
        for (n, candidate) in candidates.list.into_iter().enumerate() {
            let started = Instant::now();
            let left = deadline.saturating_duration_since(started);
            let reserve = if n < local_from { RESERVE.min(limits.total / 10) } else { Duration::ZERO };
            let budget = left.saturating_sub(reserve).min(limits.attempt);
            if budget.is_zero() {
                failures.out_of_time = true;
                continue;
            }
            let mut permit = match self.breakers.admit(candidate.index, &candidate.model) {
                Ok(permit) => permit,
                Err(refusal) => {
                    failures.skip(&candidate, refusal);
                    continue;
                }
            };
            let provider = &*self.providers[candidate.index];
            let mut span = operation.call(&self.tracer, &candidate, &pipeline);
            let error = match timeout(budget, call(provider)).await {
                Ok(Ok(value)) => {
                    tracing::debug!(provider = candidate.name, model = candidate.model, "provider answered");
                    let degraded = failures.degraded(&candidate);
                    let failed = failures.attempts;
                    return Ok(Won { value, candidate, started, failed, degraded, span, permit });
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, format!("no answer in {budget:?}")),
            };
            failed(&mut span, &error);
            span.end();
            // A provider is not to blame for a call that gave it much less time than it may take.
            let cut_short = error.kind == ErrorKind::Timeout && budget < limits.attempt / 2;
            permit.settle(outcome(&error, cut_short));
            self.health.failure(candidate.index, error.kind);
            let fallback = error.kind.allows_fallback();
            failures.add(&candidate, started.elapsed(), error, cut_short);
            if !fallback {
                break;
            }
        }
        if failures.is_outage() {
            self.health.all_down(&failures.message());
        }
        let error = failures.into_error();
        failed(&mut pipeline, &error);
        Err(error)
    }
}
