//! Which provider a call goes to, for how long, and what happens when it fails.
//!
//! Candidates are tried in the configured order, each within the attempt's timeout and all within the
//! call's. The next is tried if the failure allows it. There is no state beside the health counters: a
//! breaker will take candidates away in [`Router::candidates`].

mod spans;
mod stream;

pub use stream::{Piece, PieceStream};

use crate::config::{Adapter, Config};
use crate::health::{Health, ProviderCounts, ProviderStatus};
use crate::provider::{Description, Provider};
use callboard_domain::limits;
use callboard_domain::llm::{
    Error, ErrorKind, ImageRequest, ImageResponse, ProviderAttempt, Summary, TextRequest, TextResponse, Usage,
};
use callboard_ports::trace::{Kind, Span, Tracer};
use callboard_runtime::mesh;
use futures::future::BoxFuture;
use spans::{Operation, failed};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The most time that is kept back for a local provider at the end of the line, so that a provider that
/// hangs does not take the call's last resort with it.
const RESERVE: Duration = Duration::from_secs(1);

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    attempt: Duration,
    total: Duration,
}

/// The spans of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    text: Limits,
    image: Limits,
    stall: Duration,
}

impl From<&Config> for Timeouts {
    fn from(config: &Config) -> Self {
        Self {
            text: Limits { attempt: config.attempt_timeout, total: config.total_timeout },
            image: Limits { attempt: config.image_attempt_timeout, total: config.image_total_timeout },
            stall: config.stall_timeout,
        }
    }
}

pub(crate) struct Router {
    providers: Vec<Arc<dyn Provider>>,
    health: Health,
    timeouts: Timeouts,
    tracer: Tracer,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.providers.iter().map(|p| p.name()).collect();
        f.debug_struct("Router")
            .field("providers", &names)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

/// A provider that may be tried.
struct Candidate {
    index: usize,
    name: String,
    model: String,
    adapter: Adapter,
}

impl Candidate {
    /// Whether it is no provider, but its stand-in.
    fn local(&self) -> bool {
        self.adapter == Adapter::Offline
    }
}

/// The providers that may be tried, in their order.
struct Candidates {
    list: Vec<Candidate>,
    pinned: bool,
}

/// An attempt that was answered.
struct Won<T> {
    value: T,
    candidate: Candidate,
    started: Instant,
    failed: Vec<ProviderAttempt>,
    degraded: Option<String>,
    /// Of the call to the provider: a stream goes on.
    span: Span,
}

impl<T> Won<T> {
    fn attempt(&self, model: &str, error: Option<(ErrorKind, String)>) -> ProviderAttempt {
        ProviderAttempt {
            provider: self.candidate.name.clone(),
            model: model.to_owned(),
            duration: self.started.elapsed(),
            error,
        }
    }

    fn finish(mut self, model: String, finish_reason: String, usage: Usage) -> (T, Summary) {
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

impl Router {
    pub(crate) fn new(
        providers: Vec<Arc<dyn Provider>>,
        health: Health,
        timeouts: Timeouts,
        tracer: Tracer,
    ) -> Self {
        Self { providers, health, timeouts, tracer }
    }

    /// The span of a call on its way through here.
    fn begin(&self, operation: Operation) -> Span {
        self.tracer.start(|| operation.pipeline(), Kind::Internal, mesh::current().trace())
    }

    pub(crate) fn counts(&self) -> Vec<ProviderCounts> {
        self.providers.iter().enumerate().filter_map(|(i, p)| self.health.counts(i, p.name())).collect()
    }

    pub(crate) fn status(&self) -> Vec<ProviderStatus> {
        self.providers.iter().enumerate().map(|(i, p)| self.health.status(i, &**p)).collect()
    }

    pub(crate) async fn text(&self, request: &TextRequest) -> Result<TextResponse, Error> {
        let candidates = self.text_candidates(request)?;
        let won = self
            .attempt_all(Operation::Chat, candidates, self.text_limits(request), |p| p.text(request))
            .await?;
        self.health.success(won.candidate.index, won.started.elapsed());
        let answer = &won.value;
        let (model, finish_reason, usage) =
            (answer.model.clone(), answer.finish_reason.clone(), answer.usage);
        let (answer, summary) = won.finish(model, finish_reason, usage);
        Ok(TextResponse { text: answer.text, summary })
    }

    pub(crate) async fn image(&self, request: &ImageRequest) -> Result<ImageResponse, Error> {
        let mut candidates = self.candidates(request.provider.as_deref(), |d| d.image_model.clone())?;
        candidates.list.retain(|c| !c.model.is_empty());
        if candidates.list.is_empty() {
            let who = request.provider.as_deref().unwrap_or("no configured provider");
            let what = if request.provider.is_some() { "makes no images" } else { "makes images" };
            return Err(Error::new(ErrorKind::InvalidRequest, format!("{who} {what}: set its image_model")));
        }
        let limits = self.timeouts.image;
        let won = self.attempt_all(Operation::Image, candidates, limits, |p| p.image(request)).await?;
        self.health.success(won.candidate.index, won.started.elapsed());
        let (model, usage) = (won.value.model.clone(), won.value.usage);
        let (image, summary) = won.finish(model, "stop".into(), usage);
        Ok(ImageResponse { data: image.data, media_type: image.media_type, summary })
    }

    fn text_limits(&self, request: &TextRequest) -> Limits {
        let limits = self.timeouts.text;
        Limits { total: request.timeout.unwrap_or(limits.total), ..limits }
    }

    fn text_candidates(&self, request: &TextRequest) -> Result<Candidates, Error> {
        self.candidates(request.provider.as_deref(), |d| match (&request.model, d.adapter) {
            (_, Adapter::Offline) | (None, _) => d.text_model.clone(),
            (Some(model), _) => model.clone(),
        })
    }

    /// The providers a call may go to, with the model it would use at each.
    fn candidates(
        &self,
        pin: Option<&str>,
        model: impl Fn(&Description) -> String,
    ) -> Result<Candidates, Error> {
        let list: Vec<_> = self
            .providers
            .iter()
            .enumerate()
            .filter(|(_, p)| pin.is_none_or(|name| name == p.name()))
            .map(|(index, p)| {
                let description = p.describe();
                let (model, adapter) = (model(&description), description.adapter);
                Candidate { index, name: p.name().to_owned(), model, adapter }
            })
            .collect();
        if let (true, Some(name)) = (list.is_empty(), pin) {
            let known: Vec<_> = self.providers.iter().map(|p| p.name()).collect();
            let message = format!("no provider is called `{name}`; there are: {}", known.join(", "));
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
        Ok(Candidates { list, pinned: pin.is_some() })
    }

    /// Tries the candidates until one answers.
    async fn attempt_all<'a, T>(
        &'a self,
        operation: Operation,
        candidates: Candidates,
        limits: Limits,
        call: impl Fn(&'a dyn Provider) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<Won<T>, Error> {
        let mut pipeline = self.begin(operation);
        let deadline = Instant::now() + limits.total.min(limits::TIMEOUT);
        let mut failures =
            Failures { all: self.providers.len(), pinned: candidates.pinned, ..Failures::default() };
        let local_from = candidates.list.iter().rposition(Candidate::local).unwrap_or(0);
        for (n, candidate) in candidates.list.into_iter().enumerate() {
            let started = Instant::now();
            let left = deadline.saturating_duration_since(started);
            let reserve = if n < local_from { RESERVE.min(limits.total / 10) } else { Duration::ZERO };
            let budget = left.saturating_sub(reserve).min(limits.attempt);
            if budget.is_zero() {
                failures.out_of_time = true;
                continue;
            }
            let provider = &*self.providers[candidate.index];
            let mut span = operation.call(&self.tracer, &candidate, &pipeline);
            let error = match timeout(budget, call(provider)).await {
                Ok(Ok(value)) => {
                    tracing::debug!(provider = candidate.name, model = candidate.model, "provider answered");
                    let degraded = failures.degraded(&candidate);
                    return Ok(Won { value, candidate, started, failed: failures.attempts, degraded, span });
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, format!("no answer in {budget:?}")),
            };
            failed(&mut span, &error);
            span.end();
            self.health.failure(candidate.index, error.kind);
            let fallback = error.kind.allows_fallback();
            // A provider is not to blame for a call that gave it much less time than it may take.
            let cut_short = error.kind == ErrorKind::Timeout && budget < limits.attempt / 2;
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

/// The attempts of a call that failed.
#[derive(Default)]
struct Failures {
    /// How many providers there are.
    all: usize,
    pinned: bool,
    attempts: Vec<ProviderAttempt>,
    /// Attempts that failed for the provider's sake, not for the call's.
    blamed: usize,
    retry_after: Option<Duration>,
    out_of_time: bool,
}

impl Failures {
    fn add(&mut self, candidate: &Candidate, duration: Duration, error: Error, cut_short: bool) {
        tracing::warn!(
            provider = candidate.name,
            model = candidate.model,
            error.type = error.kind.reason(),
            message = error.message,
            "provider failed"
        );
        let for_the_call = matches!(error.kind, ErrorKind::InvalidRequest | ErrorKind::ContentFiltered);
        self.blamed += usize::from(!cut_short && !for_the_call);
        self.retry_after = match (self.retry_after, error.retry_after) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.attempts.push(ProviderAttempt {
            provider: candidate.name.clone(),
            model: candidate.model.clone(),
            duration,
            error: Some((error.kind, error.message)),
        });
    }

    /// Whether every provider there is failed, each for its own sake.
    fn is_outage(&self) -> bool {
        self.blamed == self.all && (!self.pinned || self.all == 1)
    }

    /// Why an answer of this candidate is not what the first provider would have given.
    fn degraded(&self, winner: &Candidate) -> Option<String> {
        if !self.attempts.is_empty() {
            let failed: Vec<_> =
                self.attempts.iter().filter_map(|a| a.error.as_ref().map(|e| (a, e.0))).collect();
            let list: Vec<_> =
                failed.iter().map(|(a, kind)| format!("{} ({})", a.provider, kind.reason())).collect();
            return Some(format!("{} answered after {} failed", winner.name, list.join(", ")));
        }
        if !winner.local() {
            return None;
        }
        Some(match (self.pinned, self.all) {
            (true, _) => "the call asked for the offline generator".into(),
            (false, 1) => "no provider configured: the offline generator answered".into(),
            (false, _) if self.out_of_time => {
                "no time left for a provider: the offline generator answered".into()
            }
            (false, _) => "no configured provider can do this: the offline generator answered".into(),
        })
    }

    fn message(&self) -> String {
        let mut list: Vec<_> = self
            .attempts
            .iter()
            .filter_map(|a| a.error.as_ref().map(|(_, message)| format!("{}: {message}", a.provider)))
            .collect();
        if self.out_of_time {
            list.push("no time was left for the others".into());
        }
        limits::cut_message(list.join("; "))
    }

    fn into_error(self) -> Error {
        let kind = self.attempts.last().and_then(|a| a.error.as_ref()).map_or(ErrorKind::Timeout, |e| e.0);
        Error { kind, message: self.message(), retry_after: self.retry_after, attempts: self.attempts }
    }
}
