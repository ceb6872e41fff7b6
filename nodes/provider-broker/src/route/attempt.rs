//! Trying candidates until one answers.

use super::failures::Failures;
use super::spans::{Operation, failed};
use super::{Candidate, Candidates, Limits, Router};
use crate::accounts::{Bill, DEFAULT_NAMESPACE};
use crate::admission::Debit;
use crate::breaker::{Outcome, Permit};
use crate::provider::Provider;
use callboard_domain::limits;
use callboard_domain::llm::{Cost, Error, ErrorKind, ProviderAttempt, Summary, Usage};
use callboard_ports::trace::Span;
use callboard_runtime::mesh;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The most time that is kept back for a local provider at the end of the line, so that a provider that
/// hangs does not take the call's last resort with it. No call is made again for less, either.
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
    /// Of the limits, until it is known what the call took.
    debit: Option<Debit>,
    /// Of quotas and budgets; the same.
    pub(super) bill: Bill,
    cost: Option<Cost>,
    usage_estimated: bool,
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

    pub(super) fn attempt(&self, model: &str, error: Option<(ErrorKind, String)>) -> ProviderAttempt {
        ProviderAttempt {
            provider: self.candidate.name.clone(),
            model: model.to_owned(),
            duration: self.started.elapsed(),
            error,
        }
    }

    /// What is known while the answer has only begun.
    pub(super) fn beginning(&self) -> Summary {
        Summary {
            provider: self.candidate.name.clone(),
            model: self.candidate.model.clone(),
            attempts: self.failed.clone(),
            degraded: self.degraded.clone(),
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
            cost: self.cost,
            usage_estimated: self.usage_estimated,
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

/// What a call has left, and what became of it so far.
struct Course {
    operation: Operation,
    limits: Limits,
    deadline: Instant,
    /// How many tokens it will take, as far as can be told.
    estimate: u32,
    failures: Failures,
    pipeline: Span,
    /// Whose call it is.
    namespace: String,
    /// What it is charged; none once it is answered.
    bill: Option<Bill>,
}

impl Course {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// An attempt at a candidate begins.
    fn charge(&mut self, candidate: &Candidate) -> Result<(), Error> {
        let begin = |bill: &mut Bill| bill.begin(candidate.index, &candidate.model, candidate.local());
        self.bill.as_mut().map_or(Ok(()), begin)
    }

    /// The time that is kept back; a tenth of what the call has at most.
    fn reserve(&self) -> Duration {
        RESERVE.min(self.limits.total / 10)
    }
}

/// Whether somebody else could answer what one candidate did not.
enum Lost {
    /// The next one may.
    Next,
    /// Nobody would.
    Over,
}

impl Router {
    /// Opens the bill of a call.
    fn bill(&self, namespace: &str, candidates: &Candidates) -> Result<Bill, Error> {
        let list = candidates.list.iter().map(|c| (c.index, c.model.as_str(), c.local()));
        self.accounts.open(namespace, list, candidates.expected, candidates.images)
    }

    /// Tries the candidates until one answers.
    pub(super) async fn attempt_all<'a, T>(
        &'a self,
        operation: Operation,
        candidates: Candidates,
        limits: Limits,
        call: impl Fn(&'a dyn Provider) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<Won<T>, Error> {
        let mut pipeline = self.begin(operation);
        let namespace = Some(mesh::current().namespace).filter(|name| !name.is_empty());
        let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let bill = self.bill(&namespace, &candidates).inspect_err(|error| failed(&mut pipeline, error))?;
        let mut course = Course {
            operation,
            limits,
            namespace,
            bill: Some(bill),
            deadline: Instant::now() + limits.total.min(limits::TIMEOUT),
            estimate: candidates.estimate,
            failures: Failures::new(self.providers.len(), candidates.pinned),
            pipeline,
        };
        let mut rest = candidates.list.into_iter();
        while let Some(candidate) = rest.next() {
            match self.attempt(&mut course, candidate, rest.as_slice(), &call).await {
                Ok(won) => return Ok(won),
                Err(Lost::Next) => {}
                Err(Lost::Over) => break,
            }
        }
        let Course { failures, mut pipeline, .. } = course;
        if failures.is_outage() {
            self.health.all_down(&failures.message());
        }
        let error = failures.into_error();
        failed(&mut pipeline, &error);
        Err(error)
    }

    /// Tries one candidate: again, if nobody else is left and it could help.
    async fn attempt<'a, T>(
        &'a self,
        course: &mut Course,
        candidate: Candidate,
        rest: &[Candidate],
        call: &impl Fn(&'a dyn Provider) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<Won<T>, Lost> {
        let limits = course.limits;
        let reserve = if rest.iter().any(Candidate::local) { course.reserve() } else { Duration::ZERO };
        let provider = &*self.providers[candidate.index];
        // One span for all tries.
        let mut span: Option<Span> = None;
        for tries in 1.. {
            let started = Instant::now();
            let budget = course.left().saturating_sub(reserve).min(limits.attempt);
            if budget.is_zero() {
                course.failures.out_of_time = true;
                break;
            }
            let mut permit = match self.breakers.admit(candidate.index, &candidate.model) {
                Ok(permit) => permit,
                Err(refusal) if tries == 1 => {
                    course.failures.skip(&candidate, refusal);
                    break;
                }
                Err(_) => break,
            };
            // Dropped, the permit of the breaker is somebody else's.
            if let Err(spent) = course.charge(&candidate) {
                course.failures.limited(&candidate, spent);
                break;
            }
            let Course { namespace, estimate, .. } = &course;
            let debit = self.admission.admit(namespace, &candidate.name, &candidate.model, *estimate).await;
            let debit = match debit {
                Ok(debit) => debit,
                Err(reached) => {
                    course.bill.as_mut().into_iter().for_each(Bill::undo);
                    course.failures.limited(&candidate, reached);
                    break;
                }
            };
            if tries == 1 {
                self.retries.call(candidate.index);
            }
            let operation = course.operation;
            let mut open =
                span.take().unwrap_or_else(|| operation.call(&self.tracer, &candidate, &course.pipeline));
            let error = match timeout(budget, call(provider)).await {
                Ok(Ok(value)) => {
                    tracing::debug!(provider = candidate.name, model = candidate.model, "provider answered");
                    let degraded = course.failures.degraded(&candidate);
                    let failed = std::mem::take(&mut course.failures.attempts);
                    let debit = Some(debit);
                    let Some(bill) = course.bill.take() else { return Err(Lost::Over) };
                    return Ok(Won {
                        bill,
                        cost: None,
                        usage_estimated: false,
                        value,
                        candidate,
                        started,
                        failed,
                        degraded,
                        span: open,
                        permit,
                        debit,
                    });
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, format!("no answer in {budget:?}")),
            };
            // A provider is not to blame for a call that gave it much less time than it may take.
            let cut_short = error.kind == ErrorKind::Timeout && budget < limits.attempt / 2;
            permit.settle(outcome(&error, cut_short));
            course.bill.as_mut().into_iter().for_each(|bill| bill.failed(error.kind));
            debit.failed(error.kind).await;
            self.health.failure(candidate.index, error.kind);
            let pause = self.pause(course, &candidate, rest, &error, tries);
            if pause.is_none() {
                failed(&mut open, &error);
            }
            let fallback = error.kind.allows_fallback();
            course.failures.add(&candidate, started.elapsed(), error, cut_short);
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None if fallback => break,
                None => return Err(Lost::Over),
            }
            span = Some(open);
        }
        if let Some(mut open) = span {
            open.fail(|| "it could not be made again any more".into());
        }
        Err(Lost::Next)
    }

    /// How long to wait before a failed call is made again at the same provider; `None` if it is not.
    ///
    /// Somebody else is preferred: who has not just failed, needs no wait, and is not made worse by it.
    fn pause(
        &self,
        course: &Course,
        candidate: &Candidate,
        rest: &[Candidate],
        error: &Error,
        failures: u32,
    ) -> Option<Duration> {
        let now = Instant::now();
        if rest.iter().any(|c| self.breakers.is_available(c.index, &c.model, now)) {
            return None;
        }
        let pause = self.retries.pause(error, failures)?;
        let in_time = pause + course.reserve() < course.left();
        let open = !self.breakers.is_available(candidate.index, &candidate.model, now + pause);
        (in_time && !open && self.retries.take(candidate.index)).then_some(pause)
    }
}
