//! Properties: a node is found silent if it is, and never if it is not, whatever the observer went through.

use callboard_domain::SessionId;
use callboard_runtime::membership::{Lease, Refusals, Silence, Timing};
use proptest::prelude::*;
use std::time::Duration;
use tokio::time::Instant;

const OTHER: SessionId = SessionId::from_bytes([1; 16]);

/// What happens to the observer in one step of its loop.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It renews and reads, each in so many milliseconds.
    Look { renewal: u64, reading: u64 },
    /// Its renewal fails, and its reading too.
    StoreAway,
    /// Only its reading fails.
    ReadingFails,
    /// The process stands still for so many milliseconds.
    Pause(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1_u64..300, 1_u64..300).prop_map(|(renewal, reading)| Step::Look { renewal, reading }),
        1 => Just(Step::StoreAway),
        1 => Just(Step::ReadingFails),
        1 => (2_100_u64..20_000).prop_map(Step::Pause),
    ]
}

/// The observer's world: its own clock, and when the other renewed last.
struct Run {
    start: Instant,
    now: u64,
    lease: Lease,
    silence: Silence,
    /// When the other's renewals happen.
    renewals: Vec<u64>,
    /// The last time the observer failed, paused or could not read.
    disturbed: u64,
}

impl Run {
    fn new(renewals: Vec<u64>) -> Self {
        let timing = Timing::default();
        let start = Instant::now();
        Self {
            start,
            now: 0,
            lease: Lease::new(timing),
            silence: Silence::new(timing),
            renewals,
            disturbed: 0,
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn counter(&self, at: u64) -> u64 {
        u64::try_from(self.renewals.iter().filter(|renewal| **renewal <= at).count()).unwrap()
    }

    /// One second of the observer. Returns whether it finds the other silent.
    fn step(&mut self, step: Step) -> bool {
        let begin = self.now;
        match step {
            Step::Look { renewal, reading } => {
                let (asked, answered) = (self.at(begin), self.at(begin + renewal));
                self.lease.renewed(asked, answered);
                // The store reads somewhere between the question and the answer.
                let counter = self.counter(begin + reading / 2);
                self.silence.observe(self.at(begin), self.at(begin + reading), [(OTHER, counter)]);
                self.now = begin + 1_000;
                let unbroken = self.lease.unbroken(self.at(begin + reading.max(renewal)));
                return !self.silence.silent(unbroken).is_empty();
            }
            Step::StoreAway => {
                let asked = self.at(begin);
                self.lease.failed(asked);
                self.now += 1_000;
            }
            Step::ReadingFails => {
                let (asked, answered) = (self.at(begin), self.at(begin + 1));
                self.lease.renewed(asked, answered);
                self.now += 1_000;
            }
            Step::Pause(span) => self.now += span,
        }
        self.disturbed = self.now;
        false
    }
}

proptest! {
    /// Whatever the observer goes through: whoever it accuses has not renewed for a whole timeout, in which the
    /// observer itself renewed all along and was not paused.
    #[test]
    fn nobody_is_silent_who_renewed_within_a_timeout(
        gaps in prop::collection::vec(100_u64..9_000, 1..60),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let renewals = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let mut run = Run::new(renewals);
        for step in steps {
            let begin = run.now;
            if run.step(step) {
                let last = run.renewals.iter().rfind(|renewal| **renewal <= begin).copied().unwrap_or(0);
                prop_assert!(begin - last >= 5_000, "renewed at {last}, accused at {begin}");
                prop_assert!(begin >= 5_000);
            }
        }
    }

    /// After whatever happened before: a node that stays silent is found within the timeout and two seconds of
    /// looks that nothing disturbs.
    #[test]
    fn a_silent_node_is_found_in_time(steps in prop::collection::vec(step(), 0..40)) {
        let mut run = Run::new(vec![0]);
        for step in steps {
            run.step(step);
        }
        let found = (0..8).find(|_| run.step(Step::Look { renewal: 5, reading: 5 }));
        prop_assert!(found.is_some_and(|looks| looks <= 7), "{found:?}");
    }

    /// A pause, an outage or a failed renewal gives everybody a whole timeout to renew.
    #[test]
    fn after_a_disturbance_everybody_gets_to_renew_first(
        before in 0_usize..30,
        pause in prop_oneof![Just(Step::StoreAway), (2_100_u64..60_000).prop_map(Step::Pause)],
    ) {
        let mut run = Run::new(vec![0]);
        for _ in 0..before {
            run.step(Step::Look { renewal: 5, reading: 5 });
        }
        run.step(pause);
        let end = run.now;
        for _ in 0..5 {
            prop_assert!(!run.step(Step::Look { renewal: 5, reading: 5 }), "{} ms after", run.now - end);
        }
    }

    /// Refusals end at most a minority, or one, within any timeout.
    #[test]
    fn refusals_never_end_a_majority(
        nodes in 1_usize..12,
        tries in prop::collection::vec(0_u64..1_500, 1..100),
    ) {
        let window = Duration::from_secs(5);
        let start = Instant::now();
        let mut refusals = Refusals::new(window);
        let (mut now, mut ended) = (0, Vec::new());
        refusals.note_nodes(start, nodes);
        for gap in tries {
            now += gap;
            if refusals.take(start + Duration::from_millis(now)) {
                ended.push(now);
            }
            let recent = ended.iter().filter(|at| now - **at < 5_000).count();
            prop_assert!(recent <= ((nodes - 1) / 2).max(1), "{recent} of {nodes}");
        }
    }
}
