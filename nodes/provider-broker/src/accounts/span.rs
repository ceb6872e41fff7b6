use callboard_domain::Timestamp;
use std::time::Duration;

/// For how long something is counted before it begins anew: a calendar hour or day, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// From a full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
}

impl Span {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    pub(super) const fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::from_secs(3_600),
            Self::Day => Duration::from_secs(24 * 3_600),
        }
    }

    const fn micros(self) -> i64 {
        match self {
            Self::Hour => 3_600_000_000,
            Self::Day => 24 * 3_600_000_000,
        }
    }

    /// When the one began that holds this moment.
    pub(super) const fn start(self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.micros().div_euclid(self.micros()).saturating_mul(self.micros()))
    }

    /// The name of the one that began then: `2026-11-30` or `2026-11-30T09`.
    pub(super) fn label(self, start: Timestamp) -> String {
        let mut text = start.to_rfc3339();
        text.truncate(match self {
            Self::Hour => 13,
            Self::Day => 10,
        });
        text
    }
}
