//! What a provider has said is left of its limits, and what was sent since: as a state machine, with moments as
//! arguments.

use std::time::Duration;
use tokio::time::Instant;

/// So long is believed that nothing is left: resets of days have been seen, and limits that were raised. Then one call
/// asks again, and the next after as long, until the reset or the answer that says otherwise.
pub(super) const BELIEVED: Duration = Duration::from_secs(60);
/// The longest reset that is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 3_600);

/// What is spent, as [`Spent`] names it.
const REQUESTS: &str = "requests";
pub(super) const TOKENS: &str = "tokens";

/// How much is left of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// So many requests, or tokens.
    pub(super) remaining: u64,
    /// Until all of it is back.
    pub(super) reset: Duration,
}

/// What an answer says is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) requests: Option<Left>,
    pub(super) tokens: Option<Left>,
}

/// A call that was sent, and what was known then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// What its provider has certainly counted when it answers: all calls that were over when this was sent, and this.
    /// Others that were under way then may have been overtaken by it.
    counted: Amount,
    /// Its tokens.
    tokens: u64,
    /// When, on the clock of [`Allowance::ticks`].
    at: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    requests: u64,
    tokens: u64,
}

/// Why a call may not be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    /// `requests` or `tokens`.
    pub(crate) what: &'static str,
    /// When one may.
    pub(crate) until: Instant,
}

/// A statement that holds.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Up to where may be sent, counted as in [`Meter::used`].
    ceiling: u64,
    /// When it was made, on the clock of [`Allowance::ticks`].
    at: u64,
    /// Until when that is believed.
    believed: Instant,
    /// When all is back.
    reset: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    /// What was sent since the start.
    used: u64,
    /// Of that, what was answered or given up.
    over: u64,
    window: Option<Window>,
}

impl Meter {
    /// Until when so much may not be sent, if it may not.
    fn refusal(&self, cost: u64, now: Instant) -> Option<Instant> {
        let window = self.window.filter(|window| now < window.reset && now < window.believed)?;
        (self.used.saturating_add(cost) > window.ceiling).then_some(window.believed)
    }

    /// So much is sent.
    fn take(&mut self, cost: u64, now: Instant) {
        self.used = self.used.saturating_add(cost);
        self.window = self.window.filter(|window| now < window.reset);
        if let Some(window) = self.window.as_mut().filter(|window| self.used > window.ceiling) {
            window.ceiling = self.used;
            window.believed = (now + BELIEVED).min(window.reset);
        }
    }

    /// So much is over.
    fn over(&mut self, cost: u64) {
        self.over = self.over.saturating_add(cost).min(self.used);
    }

    /// Nothing is left for so long, as another node was told.
    fn adopt(&mut self, left: Duration, at: u64, now: Instant) {
        let until = now + left;
        if self.refusal(1, now).is_some_and(|known| known >= until) {
            return;
        }
        // A reset that is further off than this is believed stays where it was.
        let reset = self.window.map_or(until, |window| window.reset.max(until));
        self.window = Some(Window { ceiling: self.used, at, believed: until, reset });
    }

    /// The answer to a call came at `at` and says what is left after `counted`, and whatever else was counted.
    fn told(&mut self, sent: u64, counted: u64, left: Left, at: u64, now: Instant) {
        let (reset, believed) = (now + left.reset.min(REMEMBERED), now + left.reset.min(BELIEVED));
        let told = Window { ceiling: counted.saturating_add(left.remaining), at, believed, reset };
        self.window = match self.window.filter(|window| now < window.reset) {
            // They were under way at the same time, and nobody knows which was counted first. Neither promises more
            // than there is, so the one that promises more knows more.
            Some(window) if sent < window.at && window.ceiling >= told.ceiling => Some(window),
            Some(window) if sent < window.at => Some(Window { at: window.at, ..told }),
            _ => Some(told),
        };
    }
}

/// What may be sent over one key to one model, as far as the provider has said.
///
/// An answer says what was left when its call was counted. Which of the calls that were under way at the same time were
/// counted before it cannot be known: they are all taken to come on top. So never more is sent than is left, and a bit
/// less while many calls are under way; each answer that comes after knows more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    requests: Meter,
    tokens: Meter,
    /// A clock: how many calls were sent and answered.
    ticks: u64,
}

impl Allowance {
    /// Why a call of so many tokens may not be sent now, if it may not.
    pub(super) fn refusal(&self, tokens: u64, now: Instant) -> Option<Spent> {
        let spent = |what, meter: &Meter, cost| Some(Spent { what, until: meter.refusal(cost, now)? });
        let requests = spent(REQUESTS, &self.requests, 1);
        let tokens = spent(TOKENS, &self.tokens, tokens);
        requests.into_iter().chain(tokens).max_by_key(|spent| spent.until)
    }

    /// What nothing is left of.
    pub(super) fn spent(&self, now: Instant) -> [Option<Spent>; 2] {
        let spent = |what, meter: &Meter| Some(Spent { what, until: meter.refusal(1, now)? });
        [spent(REQUESTS, &self.requests), spent(TOKENS, &self.tokens)]
    }

    /// Of that, what an answer itself says is used up. That the calls under way here may use up the rest is this node's own
    /// caution, and none of another's affair.
    pub(super) fn used_up(&self, said: Statement, now: Instant) -> [Option<Spent>; 2] {
        let [requests, tokens] = self.spent(now);
        let none = |left: &Option<Left>| left.is_some_and(|left| left.remaining == 0);
        [requests.filter(|_| none(&said.requests)), tokens.filter(|_| none(&said.tokens))]
    }

    /// Another node was told that nothing is left for so long: of tokens, or of requests. What was longer stays.
    pub(super) fn adopt(&mut self, tokens: bool, left: Duration, now: Instant) {
        self.ticks += 1;
        let at = self.ticks;
        let meter = if tokens { &mut self.tokens } else { &mut self.requests };
        meter.adopt(left.min(BELIEVED), at, now);
    }

    /// A call is sent, if it may be. It has to be [over](Self::over) at some time.
    ///
    /// # Errors
    /// Why it may not be.
    pub(super) fn take(&mut self, tokens: u64, now: Instant) -> Result<Sent, Spent> {
        if let Some(spent) = self.refusal(tokens, now) {
            return Err(spent);
        }
        self.requests.take(1, now);
        self.tokens.take(tokens, now);
        self.ticks += 1;
        let counted = Amount {
            requests: self.requests.over.saturating_add(1),
            tokens: self.tokens.over.saturating_add(tokens),
        };
        Ok(Sent { counted, tokens, at: self.ticks })
    }

    /// The answer to a call came.
    pub(super) fn told(&mut self, sent: Sent, said: Statement, now: Instant) {
        self.ticks += 1;
        let Sent { counted, at, .. } = sent;
        if let Some(left) = said.requests {
            self.requests.told(at, counted.requests, left, self.ticks, now);
        }
        if let Some(left) = said.tokens {
            self.tokens.told(at, counted.tokens, left, self.ticks, now);
        }
    }

    /// A call was answered, or given up.
    pub(super) fn over(&mut self, sent: Sent) {
        self.requests.over(1);
        self.tokens.over(sent.tokens);
    }
}

#[cfg(test)]
#[path = "allowance/tests.rs"]
mod tests;
