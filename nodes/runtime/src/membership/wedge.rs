use super::Timing;
use std::time::Duration;
use tokio::time::Instant;

/// How the work path's statements went, counted since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkSeen {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many failed, for want of the store.
    pub failed: u64,
}

/// What is wrong with a process whose renewals go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its runtime does nothing any more.
    Runtime,
    /// Its statements have failed all along.
    Work,
}

impl Fault {
    /// What it is, for a person.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Runtime => "the runtime has done nothing for too long while the session was renewed",
            Self::Work => "every statement has failed for too long while the session was renewed",
        }
    }
}

/// Sees whether the process still works behind its renewals: else it would hold its tasks for ever.
#[derive(Clone, Debug)]
pub struct Wedge {
    limit: Duration,
    pause: Duration,
    /// The counter that the runtime moves, and when it last moved.
    beat: (u64, Instant),
    work: WorkSeen,
    /// The first and the last failure that was seen since a statement succeeded.
    failing: Option<(Instant, Instant)>,
    checked: Instant,
}

impl Wedge {
    /// All is well now; `limit` is how long it may not be.
    #[must_use]
    pub const fn new(timing: &Timing, limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            pause: timing.pause,
            beat: (0, now),
            work: WorkSeen { succeeded: 0, failed: 0 },
            failing: None,
            checked: now,
        }
    }

    /// Looks again. `unbroken`: since when renewals have all succeeded.
    pub fn check(
        &mut self,
        now: Instant,
        beat: u64,
        work: WorkSeen,
        unbroken: Option<Instant>,
    ) -> Option<Fault> {
        // A renewal may take a while; what takes longer than several of them is a pause of the process, and
        // then nothing in it could move.
        let paused = now.duration_since(self.checked) > self.pause * 2;
        self.checked = now;
        if paused || beat != self.beat.0 {
            self.beat = (beat, now);
        }
        self.note_work(now, work, paused);
        if now.duration_since(self.beat.1) >= self.limit {
            return Some(Fault::Runtime);
        }
        // Without renewals the store is away, and that is no fault of this process.
        let ((first, _), unbroken) = (self.failing?, unbroken?);
        (now.saturating_duration_since(first.max(unbroken)) >= self.limit).then_some(Fault::Work)
    }

    fn note_work(&mut self, now: Instant, work: WorkSeen, paused: bool) {
        let failed = work.failed != self.work.failed;
        // Failures that have stopped are no row of them, even if nothing has succeeded since.
        let stale = self.failing.is_some_and(|(_, last)| now.duration_since(last) >= self.limit / 2);
        if paused || stale || work.succeeded != self.work.succeeded {
            self.failing = None;
        } else if failed {
            self.failing = Some((self.failing.map_or(now, |(first, _)| first), now));
        }
        self.work = work;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Runs second by second; `look` gives beat, statements and unbroken renewals (seconds) at a second.
    /// Returns the first fault and its second.
    fn run(
        seconds: u64,
        look: impl Fn(u64) -> (u64, WorkSeen, Option<u64>),
        skip: impl Fn(u64) -> bool,
    ) -> Option<(u64, Fault)> {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut wedge = Wedge::new(&Timing::default(), LIMIT, start);
        (0..seconds).filter(|second| !skip(*second)).find_map(|second| {
            let (beat, work, unbroken) = look(second);
            Some((second, wedge.check(at(second), beat, work, unbroken.map(at))?))
        })
    }

    fn work(succeeded: u64, failed: u64) -> WorkSeen {
        WorkSeen { succeeded, failed }
    }

    #[test]
    fn a_process_that_works_is_never_wedged() {
        assert_eq!(run(300, |s| (s, work(s, 0), Some(0)), |_| false), None);
        let slow_beat = |s: u64| (s / 29, work(s, 0), Some(0));
        assert_eq!(run(300, slow_beat, |_| false), None);
        let idle = |s: u64| (s, work(0, 0), Some(0));
        assert_eq!(run(300, idle, |_| false), None, "no statement at all is no failure");
        let once = |s: u64| (s, work(0, s.min(1)), Some(0));
        assert_eq!(run(300, once, |_| false), None, "one failure is no row of them");
        let late = |s: u64| (s, work(0, u64::from(s == 299)), Some(0));
        assert_eq!(run(300, late, |_| false), None, "nor the first after long idleness");
        let now_and_then = |s: u64| (s, work(s / 29, s), Some(0));
        assert_eq!(run(300, now_and_then, |_| false), None);
    }

    #[test]
    fn a_runtime_that_does_nothing_is_found_after_the_limit() {
        let stops = |s: u64| (s.min(10), work(s, 0), Some(0));
        assert_eq!(run(300, stops, |_| false), Some((40, Fault::Runtime)));
        let without_the_store = |s: u64| (s.min(10), work(s, 0), None);
        assert_eq!(run(300, without_the_store, |_| false), Some((40, Fault::Runtime)));
    }

    #[test]
    fn statements_that_fail_all_along_are_found_only_while_renewals_succeed() {
        let fail = |s: u64| (s, work(s.min(10), s.saturating_sub(10)), Some(0));
        assert_eq!(run(300, fail, |_| false), Some((41, Fault::Work)));
        let store_is_away = |s: u64| (s, work(s.min(10), s.saturating_sub(10)), None);
        assert_eq!(run(300, store_is_away, |_| false), None);
        let store_came_back = |s: u64| (s, work(s.min(10), s.saturating_sub(10)), (s >= 100).then_some(100));
        assert_eq!(run(300, store_came_back, |_| false), Some((130, Fault::Work)));
    }

    #[test]
    fn a_pause_of_the_process_is_no_fault() {
        let paused = |s: u64| (10 < s) && (s < 60);
        let look = |s: u64| if paused(s) { (10, work(10, 5), Some(0)) } else { (s, work(s, 5), Some(0)) };
        assert_eq!(run(100, look, paused), None);
        let still_down = |s: u64| (s.min(10), work(10, 0), Some(0));
        assert_eq!(run(300, still_down, paused), Some((90, Fault::Runtime)), "counted from its end");
    }
}
