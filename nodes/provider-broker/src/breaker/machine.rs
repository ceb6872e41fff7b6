//! One breaker, as a state machine: moments and random numbers are arguments.

use crate::config::Breaker as Rules;
use crate::window::Window;
use callboard_domain::llm::ErrorKind;
use std::time::Duration;
use tokio::time::Instant;

/// The share of a cool-down that the random number may take off, so that nodes which left a provider out in
/// the same moment do not all come back in the same moment.
const JITTER: f64 = 0.1;

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// The cool-down is over: one call at a time tries whether the provider is back.
    HalfOpen,
    /// No call goes through.
    Open,
}

impl BreakerState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// What became of a call that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The whole answer came.
    Success,
    /// The provider failed.
    Failure {
        /// How.
        kind: ErrorKind,
        /// The wait it named.
        wait: Option<Duration>,
    },
    /// Nothing that tells of the provider's health: the caller went away, or gave too little time.
    Unknown,
}

/// What a failure means for the provider's health.
enum Weight {
    /// It does not mend itself: another call is lost, too.
    Hard,
    /// One of several that open the breaker.
    Soft,
    /// It is healthy and wants no calls for so long.
    Limited(Duration),
    /// The call is to blame.
    None,
}

impl Weight {
    const fn of(kind: ErrorKind, wait: Option<Duration>) -> Self {
        match (kind, wait) {
            (ErrorKind::QuotaExceeded | ErrorKind::Authentication, _) => Self::Hard,
            (kind, _) if kind.is_of_the_call() => Self::None,
            (ErrorKind::RateLimited, Some(wait)) => Self::Limited(wait),
            _ => Self::Soft,
        }
    }
}

/// Leave for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    era: u64,
    probe: bool,
}

/// Why a call may not go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the provider did last.
    pub(crate) cause: ErrorKind,
    /// When it did that.
    pub(crate) at: Instant,
    /// Until when no call goes through. `None`: until the call that tries the provider has ended.
    pub(crate) until: Option<Instant>,
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It opened, for the first time or again.
    Opened,
    /// It closed.
    Closed,
}

/// How a breaker stands, to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) state: BreakerState,
    /// Why, unless it is closed.
    pub(crate) cause: Option<ErrorKind>,
    /// Since when it is not closed.
    pub(crate) since: Option<Instant>,
    /// Until when no call goes through.
    pub(crate) until: Option<Instant>,
    /// How often it opened since it was made.
    pub(crate) trips: u64,
}

/// Open, or half-open once `until` has passed.
#[derive(Clone, Copy, Debug)]
struct Trip {
    cause: ErrorKind,
    /// When it opened first; when it opened last.
    since: Instant,
    at: Instant,
    until: Instant,
    /// The cool-down before the jitter. Never shorter than the one before it in a row.
    cool_down: Duration,
    /// Whether a call is trying the provider.
    probing: bool,
}

/// A wait that the provider named although it is healthy.
#[derive(Clone, Copy, Debug)]
struct Limit {
    since: Instant,
    until: Instant,
}

/// A circuit breaker.
///
/// - It opens by failures in a row, by their share, or at once by a hard cause.
/// - Open, it lets nothing through; then one call at a time. That call's success closes it, its failure
///   opens it again for longer.
/// - No failure brings the moment forward at which calls go through again.
/// - What becomes of a call that was let through before the last change is not counted: it tells of a
///   provider that was. Only a hard cause still prolongs a cool-down.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    /// `None`: closed.
    trip: Option<Trip>,
    limit: Option<Limit>,
    /// Grows with each change; see [`Pass`].
    era: u64,
    /// Failures since the last success.
    in_a_row: u32,
    window: Window,
    trips: u64,
}

impl Breaker {
    /// A closed one.
    pub(crate) fn new(rules: &Rules, now: Instant) -> Self {
        let window = Window::new(rules.window, now);
        Self { trip: None, limit: None, era: 0, in_a_row: 0, window, trips: 0 }
    }

    /// Why no call may go through now, if none may.
    pub(crate) fn refusal(&self, now: Instant) -> Option<Refusal> {
        let limit = self.limit.filter(|limit| now < limit.until).map(|limit| Refusal {
            cause: ErrorKind::RateLimited,
            at: limit.since,
            until: Some(limit.until),
        });
        let trip = self.trip.filter(|trip| now < trip.until || trip.probing).map(|trip| Refusal {
            cause: trip.cause,
            at: trip.at,
            until: (now < trip.until).then_some(trip.until),
        });
        match (limit, trip) {
            (Some(limit), Some(trip)) => Some(if limit.until > trip.until { limit } else { trip }),
            (limit, trip) => limit.or(trip),
        }
    }

    /// Lets a call through, if one may. Its outcome has to be [settled](Self::settle).
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Pass, Refusal> {
        if let Some(refusal) = self.refusal(now) {
            return Err(refusal);
        }
        let probe = self.trip.as_mut().map(|trip| trip.probing = true).is_some();
        Ok(Pass { era: self.era, probe })
    }

    /// Takes what became of a call that was let through. `jitter` is a random number from 0 to 1.
    pub(crate) fn settle(
        &mut self,
        rules: &Rules,
        pass: Pass,
        outcome: Outcome,
        now: Instant,
        jitter: f64,
    ) -> Option<Change> {
        let current = pass.era == self.era;
        if let (true, true, Some(trip)) = (current, pass.probe, &mut self.trip) {
            trip.probing = false;
        }
        match outcome {
            Outcome::Unknown => None,
            Outcome::Success if !current => None,
            Outcome::Success if self.trip.is_some() => {
                self.close();
                Some(Change::Closed)
            }
            Outcome::Success => {
                self.in_a_row = 0;
                self.window.add(false, now);
                None
            }
            Outcome::Failure { kind, wait } => match Weight::of(kind, wait) {
                Weight::None => None,
                Weight::Limited(wait) => {
                    self.limit(wait.min(rules.max_cool_down), now);
                    None
                }
                Weight::Hard if !current => {
                    self.prolong(rules, kind, wait, now, jitter);
                    None
                }
                Weight::Soft if !current => None,
                Weight::Hard => Some(self.open(rules, kind, wait, now, jitter)),
                Weight::Soft if self.trip.is_some() || self.is_enough(rules, now) => {
                    Some(self.open(rules, kind, wait, now, jitter))
                }
                Weight::Soft => None,
            },
        }
    }

    /// Closes a breaker that nobody has asked for the longest cool-down after its own had ended: it tells
    /// nothing of the provider any more. Returns whether it did.
    pub(crate) fn forget(&mut self, rules: &Rules, now: Instant) -> bool {
        let old =
            |trip: &Trip| !trip.probing && now.saturating_duration_since(trip.until) > rules.max_cool_down;
        let forgotten = self.trip.as_ref().is_some_and(old);
        if forgotten {
            self.close();
        }
        forgotten
    }

    /// Forgets all that was said of a key that is another now, the waits that were named for it too.
    pub(crate) fn reset(&mut self) {
        self.close();
        self.limit = None;
    }

    /// The cool-down it is in, before the jitter; none if it is closed.
    pub(crate) fn cool_down(&self) -> Duration {
        self.trip.map_or(Duration::ZERO, |trip| trip.cool_down)
    }

    /// Another node has found that the provider fails, and leaves it out until then. It is left out here for no shorter:
    /// what was longer stays. A call that tries it may end; its failure brings nothing forward either.
    pub(crate) fn adopt(&mut self, cause: ErrorKind, until: Instant, cool_down: Duration, now: Instant) {
        match &mut self.trip {
            Some(trip) if until <= trip.until => {}
            Some(trip) => *trip = Trip { cause, until, cool_down: cool_down.max(trip.cool_down), ..*trip },
            None => {
                self.trip = Some(Trip { cause, since: now, at: now, until, cool_down, probing: false });
                self.era += 1;
            }
        }
    }

    /// The provider has named a wait to another node. It is waited here for no shorter: what was longer stays.
    pub(crate) fn adopt_wait(&mut self, wait: Duration, now: Instant) {
        self.limit(wait, now);
    }

    /// Until when the provider wants no calls though it is well, if that is still to come.
    pub(crate) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.limit.map(|limit| limit.until).filter(|until| now < *until)
    }

    /// Whether it has opened and not closed since.
    pub(crate) const fn is_tripped(&self) -> bool {
        self.trip.is_some()
    }

    /// How it stands.
    pub(crate) fn view(&self, now: Instant) -> View {
        let closed =
            View { state: BreakerState::Closed, cause: None, since: None, until: None, trips: self.trips };
        let blocked = self.refusal(now).and_then(|refusal| Some((refusal.cause, refusal.until?)));
        match (blocked, &self.trip, &self.limit) {
            (Some((cause, until)), trip, limit) => View {
                state: BreakerState::Open,
                cause: Some(cause),
                since: trip.map(|trip| trip.since).or(limit.map(|limit| limit.since)),
                until: Some(until),
                ..closed
            },
            (None, Some(trip), _) => View {
                state: BreakerState::HalfOpen,
                cause: Some(trip.cause),
                since: Some(trip.since),
                until: None,
                ..closed
            },
            (None, None, _) => closed,
        }
    }

    /// Counts a failure. Whether it is one too many.
    fn is_enough(&mut self, rules: &Rules, now: Instant) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.window.add(true, now);
        let counts = self.window.read(now);
        let share = counts.marked * 100 >= u64::from(rules.error_percent) * counts.all;
        self.in_a_row >= rules.failures || (counts.all >= u64::from(rules.min_calls) && share)
    }

    fn open(
        &mut self,
        rules: &Rules,
        cause: ErrorKind,
        wait: Option<Duration>,
        now: Instant,
        jitter: f64,
    ) -> Change {
        let (since, grown) = self.trip.map_or((now, Duration::ZERO), |t| (t.since, t.cool_down * 2));
        let cool_down = first(rules, cause).max(grown).min(rules.max_cool_down);
        let until = now + lasts(rules, cool_down, wait, jitter);
        let until = self.trip.map_or(until, |trip| until.max(trip.until));
        self.trip = Some(Trip { cause, since, at: now, until, cool_down, probing: false });
        self.trips += 1;
        self.era += 1;
        Change::Opened
    }

    /// A hard cause that was met by a call from before: the cool-down is at least what it asks for.
    fn prolong(
        &mut self,
        rules: &Rules,
        cause: ErrorKind,
        wait: Option<Duration>,
        now: Instant,
        jitter: f64,
    ) {
        let Some(trip) = &mut self.trip else { return };
        let cool_down = first(rules, cause).max(trip.cool_down).min(rules.max_cool_down);
        let until = now + lasts(rules, cool_down, wait, jitter);
        if until > trip.until && !trip.probing {
            *trip = Trip { cause, at: now, until, cool_down, ..*trip };
        }
    }

    fn limit(&mut self, wait: Duration, now: Instant) {
        let until = now + wait;
        let before = self.limit.filter(|limit| now < limit.until);
        if before.is_none_or(|before| before.until < until) {
            let since = before.map_or(now, |before| before.since);
            self.limit = Some(Limit { since, until });
        }
    }

    fn close(&mut self) {
        self.trip = None;
        self.in_a_row = 0;
        self.window.clear();
        self.era += 1;
    }
}

/// The first cool-down for a cause.
const fn first(rules: &Rules, cause: ErrorKind) -> Duration {
    match Weight::of(cause, None) {
        Weight::Hard => rules.hard_cool_down,
        _ => rules.cool_down,
    }
}

/// How long a cool-down really is: 90 to 100 % of it, and at least the wait that the provider named.
fn lasts(rules: &Rules, cool_down: Duration, wait: Option<Duration>, jitter: f64) -> Duration {
    let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) };
    let named = wait.unwrap_or_default().min(rules.max_cool_down);
    cool_down.mul_f64(1.0 - JITTER * jitter).max(named)
}

#[cfg(test)]
mod tests;
