use super::Timing;
use callboard_domain::SessionId;
use std::collections::HashMap;
use tokio::time::Instant;

/// Which sessions are silent, as one observer sees it on its own monotonic clock.
///
/// A session is silent when the observer has read the same renewal counter for a whole timeout, while its own
/// renewals succeeded all along. A pause of the observer, or a time in which it could not read, voids every
/// window: whoever was stopped together with it gets to renew first.
#[derive(Clone, Debug)]
pub struct Silence {
    timing: Timing,
    seen: HashMap<SessionId, Seen>,
    /// When the last reading was asked for and answered.
    last: Option<(Instant, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    counter: u64,
    /// When the first reading that showed this counter was answered: it was not renewed after that.
    since: Instant,
}

impl Silence {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self { timing, seen: HashMap::new(), last: None }
    }

    /// Takes a reading of the live sessions of others with their counters: asked for then, answered now.
    /// Returns the sessions that were not there before.
    pub fn observe(
        &mut self,
        asked: Instant,
        answered: Instant,
        live: impl IntoIterator<Item = (SessionId, u64)>,
    ) -> Vec<SessionId> {
        let paused = answered.duration_since(asked) > self.timing.pause
            || self.last.is_some_and(|(_, then)| asked.duration_since(then) > self.timing.pause);
        let before = std::mem::take(&mut self.seen);
        let mut new = Vec::new();
        for (session, counter) in live {
            let known = before.get(&session);
            if known.is_none() {
                new.push(session);
            }
            let same = known.filter(|seen| seen.counter == counter && !paused);
            self.seen.insert(session, Seen { counter, since: same.map_or(answered, |seen| seen.since) });
        }
        self.last = Some((asked, answered));
        new
    }

    /// Voids every window, as a pause does.
    pub fn reset(&mut self, now: Instant) {
        for seen in self.seen.values_mut() {
            seen.since = now;
        }
    }

    /// The silent sessions, with the counter that did not move. `unbroken`: since when the observer's own
    /// renewals have all succeeded; `None`, and nobody is silent.
    #[must_use]
    pub fn silent(&self, unbroken: Option<Instant>) -> Vec<(SessionId, u64)> {
        let (Some((asked, _)), Some(unbroken)) = (self.last, unbroken) else { return Vec::new() };
        // The last reading is as old as its question: it says nothing about what came after.
        self.since_at_most(|since| {
            asked.saturating_duration_since(since.max(unbroken)) >= self.timing.timeout
        })
    }

    /// The sessions whose counter has stood still for long enough to ask what is wrong, with that counter.
    #[must_use]
    pub fn quiet(&self) -> Vec<(SessionId, u64)> {
        let Some((asked, _)) = self.last else { return Vec::new() };
        self.since_at_most(|since| asked.saturating_duration_since(since) >= self.timing.quiet)
    }

    /// Whether a session was in the last reading.
    #[must_use]
    pub fn knows(&self, session: SessionId) -> bool {
        self.seen.contains_key(&session)
    }

    fn since_at_most(&self, fits: impl Fn(Instant) -> bool) -> Vec<(SessionId, u64)> {
        let mut found: Vec<_> = self
            .seen
            .iter()
            .filter(|(_, seen)| fits(seen.since))
            .map(|(session, seen)| (*session, seen.counter))
            .collect();
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const A: SessionId = SessionId::from_bytes([1; 16]);
    const B: SessionId = SessionId::from_bytes([2; 16]);

    struct Case {
        silence: Silence,
        start: Instant,
    }

    impl Case {
        fn new() -> Self {
            Self { silence: Silence::new(Timing::default()), start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn read(&mut self, ms: u64, live: &[(SessionId, u64)]) {
            let (asked, answered) = (self.at(ms), self.at(ms + 10));
            self.silence.observe(asked, answered, live.iter().copied());
        }

        fn silent(&self) -> Vec<(SessionId, u64)> {
            self.silence.silent(Some(self.start))
        }
    }

    #[test]
    fn the_same_counter_for_a_whole_timeout_is_silence() {
        let mut case = Case::new();
        for second in 0..=5 {
            case.read(second * 1_000, &[(A, 7), (B, second)]);
            assert_eq!(case.silent(), [], "second {second}: not a whole timeout since the first answer");
        }
        case.read(6_000, &[(A, 7), (B, 6)]);
        assert_eq!(case.silent(), [(A, 7)]);
        case.read(7_000, &[(A, 8), (B, 7)]);
        assert_eq!(case.silent(), [], "it was renewed");
    }

    #[test]
    fn a_reading_counts_from_its_question_and_a_window_from_its_answer() {
        let mut case = Case::new();
        let (start, silence) = (case.start, &mut case.silence);
        let at = |ms| start + Duration::from_millis(ms);
        silence.observe(at(0), at(900), [(A, 7)]);
        for second in 1..=4 {
            silence.observe(at(second * 1_000), at(second * 1_000 + 1), [(A, 7)]);
        }
        silence.observe(at(5_850), at(7_000), [(A, 7)]);
        assert_eq!(
            silence.silent(Some(start)),
            [],
            "read 4.95 s after the first answer, however late it came"
        );
        silence.observe(at(7_100), at(7_101), [(A, 7)]);
        assert_eq!(silence.silent(Some(start)), [(A, 7)]);
    }

    #[test]
    fn an_outage_of_the_store_lets_everybody_renew_first() {
        let mut case = Case::new();
        for second in 0..=20 {
            case.read(second * 1_000, &[(A, 7)]);
        }
        assert_eq!(case.silence.silent(None), [], "own renewals fail");
        let back = case.at(17_000);
        assert_eq!(case.silence.silent(Some(back)), [], "they have succeeded for three seconds only");
        let back = case.at(15_000);
        assert_eq!(case.silence.silent(Some(back)), [(A, 7)]);
    }

    #[test]
    fn a_pause_of_the_observer_lets_everybody_renew_first() {
        let mut case = Case::new();
        for second in 0..=4 {
            case.read(second * 1_000, &[(A, 7)]);
        }
        case.read(16_000, &[(A, 7)]);
        assert_eq!(case.silent(), [], "stopped between two readings");
        for second in 17..=20 {
            case.read(second * 1_000, &[(A, 7)]);
        }
        assert_eq!(case.silent(), []);
        let (asked, answered) = (case.at(21_000), case.at(33_000));
        case.silence.observe(asked, answered, [(A, 7)]);
        case.read(34_000, &[(A, 7)]);
        assert_eq!(case.silent(), [], "stopped within a reading");
        for second in 35..=39 {
            case.read(second * 1_000, &[(A, 7)]);
        }
        assert_eq!(case.silent(), [(A, 7)]);
        let now = case.at(39_100);
        case.silence.reset(now);
        assert_eq!(case.silent(), []);
    }

    #[test]
    fn one_late_reading_makes_nobody_quiet() {
        let mut case = Case::new();
        case.read(0, &[(A, 7), (B, 1)]);
        case.read(1_000, &[(A, 7), (B, 2)]);
        assert_eq!(case.silence.quiet(), []);
        case.read(2_000, &[(A, 7), (B, 3)]);
        assert_eq!(case.silence.quiet(), [(A, 7)]);
    }

    #[test]
    fn sessions_that_are_gone_are_forgotten_and_new_ones_are_told() {
        let mut case = Case::new();
        let (at, then) = (case.at(0), case.at(10));
        assert_eq!(case.silence.observe(at, then, [(A, 7)]), [A]);
        assert_eq!(case.silence.observe(at, then, [(A, 7), (B, 1)]), [B]);
        assert_eq!(case.silence.observe(at, then, [(B, 1)]), []);
        assert!(!case.silence.knows(A) && case.silence.knows(B));
    }
}
