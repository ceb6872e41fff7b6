//! What went wrong with a call so far, and what is said of it.

use super::Candidate;
use crate::breaker::{Refusal, whole_seconds};
use crate::keys::{Key, Spent};
use callboard_domain::limits;
use callboard_domain::llm::{Error, ErrorKind, ProviderAttempt};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// The wait that is named while a call tries the provider: nobody knows how long that takes.
const PROBED: Duration = Duration::from_secs(1);
/// The same while each place over a key is taken.
const BUSY: Duration = Duration::from_secs(1);

/// Why a key is not used, though the call could be sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Obstacle {
    /// It failed.
    Open(Refusal),
    /// Its provider has said that it would refuse the call.
    Spent(Spent),
    /// As many calls are over it as may be.
    Busy,
}

/// A provider, or a key of it, that was left out.
struct Skipped {
    provider: String,
    /// The provider, and the key if it has several.
    who: String,
    refusal: Refusal,
    /// Until when it is left out; `None`: until the call that tries it has ended.
    left: Option<Duration>,
}

impl Skipped {
    fn message(&self) -> String {
        let cause = self.refusal.cause.reason();
        match self.left {
            Some(left) => {
                format!("{}: left out for another {}s after {cause}", self.who, whole_seconds(left))
            }
            None => format!("{}: left out after {cause} until a call that tries it has ended", self.who),
        }
    }
}

/// The attempts of a call that failed, and the providers that were left out.
#[derive(Default)]
pub(super) struct Failures {
    /// How many providers there are, without those that are switched off.
    all: usize,
    /// How many are switched off.
    off: usize,
    pinned: bool,
    pub(super) attempts: Vec<ProviderAttempt>,
    /// Of each attempt its provider, and the key if that has several.
    who: Vec<String>,
    skipped: Vec<Skipped>,
    /// The providers that failed for their own sake, not for the call's, or were left out for that.
    down: BTreeSet<usize>,
    retry_after: Option<Duration>,
    pub(super) out_of_time: bool,
}

impl Failures {
    pub(super) fn new(all: usize, off: usize, pinned: bool) -> Self {
        Self { all, off, pinned, ..Self::default() }
    }

    /// An attempt failed. `blameless`: it was given too little time.
    pub(super) fn add(
        &mut self,
        candidate: &Candidate,
        key: &Key,
        duration: Duration,
        error: Error,
        blameless: bool,
    ) {
        tracing::warn!(
            provider = candidate.name,
            key = key.id(),
            model = candidate.model,
            error.type = error.kind.reason(),
            message = error.message,
            "provider failed"
        );
        if !blameless && !error.kind.is_of_the_call() {
            self.down.insert(candidate.index);
        }
        self.push(candidate, key, duration, error);
    }

    fn push(&mut self, candidate: &Candidate, key: &Key, duration: Duration, error: Error) {
        self.retry_after = earlier(self.retry_after, error.retry_after);
        self.who.push(candidate.with(key));
        self.attempts.push(ProviderAttempt {
            provider: candidate.name.clone(),
            key: key.id().to_owned(),
            model: candidate.model.clone(),
            duration,
            error: Some((error.kind, error.message)),
        });
    }

    /// A key is not used, and nothing was sent over it.
    pub(super) fn obstacle(&mut self, candidate: &Candidate, key: &Key, obstacle: Obstacle) {
        let (message, wait) = match obstacle {
            Obstacle::Open(refusal) => return self.skip(candidate, Some(key), refusal),
            Obstacle::Spent(Spent { what, until }) => {
                let wait = until.saturating_duration_since(Instant::now());
                let seconds = whole_seconds(wait);
                (format!("the provider has said that no {what} are left for another {seconds}s"), wait)
            }
            Obstacle::Busy => {
                let max = key.max_in_flight().unwrap_or_default();
                (format!("as many calls as may be are over this key at once (max_in_flight = {max})"), BUSY)
            }
        };
        let error = Error { retry_after: Some(wait), ..Error::new(ErrorKind::RateLimited, message) };
        self.limited(candidate, key, error);
    }

    /// A limit left no room for a provider: it is not to blame, and was not asked.
    pub(super) fn limited(&mut self, candidate: &Candidate, key: &Key, error: Error) {
        tracing::debug!(
            provider = candidate.name,
            key = key.id(),
            model = candidate.model,
            message = error.message,
            "limited"
        );
        self.push(candidate, key, Duration::ZERO, error);
    }

    /// A provider was left out, or one key of it.
    pub(super) fn skip(&mut self, candidate: &Candidate, key: Option<&Key>, refusal: Refusal) {
        self.down.insert(candidate.index);
        let now = Instant::now();
        let left = refusal.until.map(|until| until.saturating_duration_since(now));
        let who = key.map_or_else(|| candidate.name.clone(), |key| candidate.with(key));
        self.skipped.push(Skipped { provider: candidate.name.clone(), who, refusal, left });
    }

    /// Whether every provider there is failed, each for its own sake.
    pub(super) fn is_outage(&self) -> bool {
        self.down.len() == self.all && (!self.pinned || self.all == 1)
    }

    /// Whether so many providers failed, each for its own sake.
    pub(super) fn all_down(&self, providers: usize) -> bool {
        self.down.len() == providers
    }

    /// Why an answer of this candidate is not what the first provider would have given.
    pub(super) fn degraded(&self, winner: &Candidate) -> Option<String> {
        let failed = self.attempts.iter().zip(&self.who).filter(|(a, _)| a.provider != winner.name);
        let failed = failed.filter_map(|(a, who)| Some((who.as_str(), a.error.as_ref()?.0)));
        let failed: Vec<_> = failed.map(named).collect();
        let out = self.skipped.iter().filter(|s| s.provider != winner.name);
        let out: Vec<_> = out.map(|s| named((s.who.as_str(), s.refusal.cause))).collect();
        let name = &winner.name;
        match (failed.is_empty(), out.is_empty()) {
            (false, true) => Some(format!("{name} answered after {} failed", failed.join(", "))),
            (true, false) => Some(format!("{name} answered while {} is left out", out.join(", "))),
            (false, false) => {
                let (failed, out) = (failed.join(", "), out.join(", "));
                Some(format!("{name} answered after {failed} failed, while {out} is left out"))
            }
            (true, true) if !winner.local() => None,
            (true, true) => Some(match (self.pinned, self.all) {
                (true, _) => "the call asked for the offline generator".into(),
                (false, 1) if self.off > 0 => {
                    "every provider is switched off but the offline generator, which answered".into()
                }
                (false, 1) => "no provider configured: the offline generator answered".into(),
                (false, _) if self.out_of_time => {
                    "no time left for a provider: the offline generator answered".into()
                }
                (false, _) if self.off > 0 => {
                    "others are switched off: the offline generator answered".into()
                }
                (false, _) => {
                    "no provider that can do this comes before the offline generator, which answered".into()
                }
            }),
        }
    }

    pub(super) fn message(&self) -> String {
        let failed = self.attempts.iter().zip(&self.who);
        let failed = failed.filter_map(|(a, who)| Some(format!("{who}: {}", a.error.as_ref()?.1)));
        let mut list: Vec<_> = failed.chain(self.skipped.iter().map(Skipped::message)).collect();
        if self.out_of_time {
            list.push("no time was left for the others".into());
        }
        let list = list.join("; ");
        limits::cut_message(match self.attempts.is_empty() && !self.skipped.is_empty() {
            true => format!("no provider may be called now, each breaker is open: {list}"),
            false => list,
        })
    }

    pub(super) fn into_error(self) -> Error {
        let kind = self.kind();
        // What was tried may be tried again at once, whoever was left out.
        let retry_after = match self.attempts.is_empty() {
            false => self.retry_after,
            true => self.skipped.iter().map(|s| Some(s.left.unwrap_or(PROBED))).fold(None, earlier),
        };
        Error { kind, message: self.message(), retry_after, attempts: self.attempts }
    }

    /// The kind of the last attempt's error. Where nothing was tried, that of the latest cause.
    ///
    /// The kind decides whether a task runs again. So a cause that waiting mends wins over one it does not:
    /// once that provider is back, the same call can succeed.
    fn kind(&self) -> ErrorKind {
        let last = self.attempts.last().and_then(|a| a.error.as_ref()).map(|error| error.0);
        match last {
            // Another provider would have been asked; it may be, later.
            Some(kind @ (ErrorKind::QuotaExceeded | ErrorKind::Authentication)) => {
                self.latest(ErrorKind::is_retryable).unwrap_or(kind)
            }
            Some(kind) => kind,
            None => self
                .latest(ErrorKind::is_retryable)
                .or_else(|| self.latest(|_| true))
                .unwrap_or(ErrorKind::Timeout),
        }
    }

    /// The latest cause for leaving a provider out, of those that are wanted.
    fn latest(&self, wanted: impl Fn(ErrorKind) -> bool) -> Option<ErrorKind> {
        let causes = self.skipped.iter().map(|skipped| skipped.refusal);
        causes.filter(|refusal| wanted(refusal.cause)).max_by_key(|r| r.at).map(|r| r.cause)
    }
}

fn named((provider, kind): (&str, ErrorKind)) -> String {
    format!("{provider} ({})", kind.reason())
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
