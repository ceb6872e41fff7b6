//! Answers that are given again: whether a call wants one, and where it came from.

/// Whether a call may be answered with what the same call was answered before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// As the configuration says for its kind.
    #[default]
    Configured,
    /// It may, and its answer is kept.
    On,
    /// It may not, its answer is not kept, and it shares no call with others.
    Off,
    /// It may not, and its answer is kept instead of the one before.
    Refresh,
}

/// Where an answer came from that no provider gave for this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSource {
    /// The exact cache: the same was asked before.
    Exact,
    /// A call that was under way: the same was asked at the same time.
    Shared,
    /// An earlier call with the same idempotency key.
    Replayed,
    /// A similar call of before, as no provider answered this one. The score is in per cent: 100 is the same words.
    Similar(u8),
}

impl CacheSource {
    /// Its name where people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Shared => "shared",
            Self::Replayed => "replayed",
            Self::Similar(_) => "similar",
        }
    }
}
