//! A count in a calendar hour or day, against a limit: pure, with the time passed in.

use super::Span;
use callboard_domain::Timestamp;

/// In so many parts of a span its rate is looked at: over the last one or two of them.
const PARTS: u32 = 24;
/// Before this part of a span has passed, its rate says nothing.
const FIRST: u32 = 120;

/// How much of a limit is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Less than three quarters.
    #[default]
    Fine,
    /// Three quarters.
    High,
    /// Nine tenths.
    Nearly,
    /// All of it.
    Spent,
}

/// There is no room for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// What is used.
    pub(crate) used: i64,
    /// When it begins anew.
    pub(crate) resets: Timestamp,
}

/// How a count stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) used: i64,
    pub(crate) limit: i64,
    /// When it begins anew.
    pub(crate) resets: Timestamp,
    /// When the limit is reached at the rate of late, if that is before it begins anew.
    pub(crate) spent_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Timestamp,
    used: i64,
}

/// A count: what this process added, and what all others did as far as it was told.
///
/// Where the clock steps back into the span before, the present one goes on.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    span: Span,
    limit: Option<i64>,
    start: Timestamp,
    own: i64,
    others: i64,
    /// Whether the ledger has not been told of `own` yet.
    changed: bool,
    /// Whether the ledger ever said what others added.
    heard: bool,
    /// What was used at two moments; the first is the older one.
    marks: [Mark; 2],
    /// The level that was told last. Unknown at first: the process before this one may have told another.
    told: Option<Level>,
}

impl Meter {
    pub(crate) fn new(span: Span, limit: Option<i64>, now: Timestamp) -> Self {
        let mark = Mark { at: now, used: 0 };
        Self {
            span,
            limit,
            start: span.start(now),
            own: 0,
            others: 0,
            changed: false,
            heard: false,
            marks: [mark; 2],
            told: None,
        }
    }

    pub(crate) const fn span(&self) -> Span {
        self.span
    }

    fn resets(&self) -> Timestamp {
        self.start.after(self.span.length())
    }

    /// Goes on to the span of this moment.
    pub(crate) fn roll(&mut self, now: Timestamp) {
        let start = self.span.start(now);
        if start > self.start {
            let mark = Mark { at: start, used: 0 };
            let told = self.told;
            *self = Self { told, heard: self.heard, ..Self::new(self.span, self.limit, now) };
            self.marks = [mark; 2];
        }
    }

    fn sum(&self) -> i64 {
        self.own.saturating_add(self.others).max(0)
    }

    /// What is used.
    pub(crate) fn used(&mut self, now: Timestamp) -> i64 {
        self.roll(now);
        self.sum()
    }

    /// Whether there is room for so much.
    ///
    /// # Errors
    /// If there is not, or all is used.
    pub(crate) fn room(&mut self, amount: i64, now: Timestamp) -> Result<(), Full> {
        let used = self.used(now);
        match self.limit {
            Some(limit) if used >= limit || used.saturating_add(amount) > limit => {
                Err(Full { used, resets: self.resets() })
            }
            _ => Ok(()),
        }
    }

    /// Adds an amount. Answers when the span began that it was added to.
    pub(crate) fn add(&mut self, amount: i64, now: Timestamp) -> Timestamp {
        self.roll(now);
        self.own = self.own.saturating_add(amount);
        self.changed |= amount != 0;
        self.mark(now);
        self.start
    }

    /// Adds to a span that began then; nothing if it is over: nobody asks for it any more.
    pub(crate) fn settle(&mut self, difference: i64, start: Timestamp, now: Timestamp) {
        self.roll(now);
        if start == self.start {
            self.add(difference, now);
        }
    }

    /// Nothing is used any more, for others too once they are told.
    pub(crate) fn reset(&mut self, now: Timestamp) {
        self.roll(now);
        self.own = self.others.saturating_neg();
        self.changed = true;
        self.marks = [Mark { at: now, used: 0 }; 2];
    }

    /// When the present span began, and what this process added to it.
    pub(crate) fn own(&mut self, now: Timestamp) -> (Timestamp, i64) {
        self.roll(now);
        (self.start, self.own)
    }

    pub(crate) const fn is_changed(&self) -> bool {
        self.changed
    }

    /// The ledger was told that this process added `own` to the span that began then, and says what all did.
    pub(crate) fn hear(&mut self, start: Timestamp, own: i64, all: i64, now: Timestamp) {
        self.roll(now);
        if start != self.start {
            return;
        }
        self.others = all.saturating_sub(own);
        self.changed = self.own != own;
        if !std::mem::replace(&mut self.heard, true) {
            // What was used before this process began says nothing of the rate.
            self.marks = [Mark { at: now, used: self.sum() }; 2];
        }
        self.mark(now);
    }

    fn mark(&mut self, now: Timestamp) {
        let [_, newer] = self.marks;
        if now.since(newer.at) >= self.span.length() / PARTS {
            self.marks = [newer, Mark { at: now, used: self.sum() }];
        }
    }

    /// How it stands; `None` without a limit.
    pub(crate) fn standing(&mut self, now: Timestamp) -> Option<Standing> {
        self.roll(now);
        let limit = self.limit?;
        Some(Standing { used: self.sum(), limit, resets: self.resets(), spent_at: self.forecast(limit, now) })
    }

    fn forecast(&self, limit: i64, now: Timestamp) -> Option<Timestamp> {
        let (used, [mark, _]) = (self.sum(), self.marks);
        if used >= limit {
            return Some(now);
        }
        let passed = now.since(mark.at);
        let added = i128::from(used) - i128::from(mark.used);
        if added <= 0 || passed < self.span.length() / FIRST {
            return None;
        }
        let passed = i128::try_from(passed.as_micros()).unwrap_or(i128::MAX);
        let wait = (i128::from(limit) - i128::from(used)).saturating_mul(passed) / added;
        let at = Timestamp::from_micros(now.micros().saturating_add(i64::try_from(wait).unwrap_or(i64::MAX)));
        (at < self.resets()).then_some(at)
    }

    /// The level, if it is news: it rose, or fell back to the lowest with a new span or a reset.
    pub(crate) fn news(&mut self, now: Timestamp) -> Option<Level> {
        self.roll(now);
        let limit = i128::from(self.limit?);
        let used = i128::from(self.sum());
        let level = match used {
            _ if used >= limit => Level::Spent,
            _ if used * 10 >= limit * 9 => Level::Nearly,
            _ if used * 4 >= limit * 3 => Level::High,
            _ => Level::Fine,
        };
        // What is settled below its estimate is no news.
        let news = self
            .told
            .is_none_or(|told| level > told || (level == Level::Fine && told > level && self.is_new()));
        news.then(|| *self.told.insert(level))
    }

    /// Whether less than half is used: a level that fell so far did not fall by a settled estimate.
    fn is_new(&self) -> bool {
        self.limit.is_some_and(|limit| self.sum() < limit / 2)
    }
}

#[cfg(test)]
mod tests;
