use super::*;
use proptest::prelude::*;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const FAULT: Outcome = Outcome::Failure { kind: ErrorKind::ServerFault, wait: None };
const QUOTA: Outcome = Outcome::Failure { kind: ErrorKind::QuotaExceeded, wait: None };

const fn limited(wait: Duration) -> Outcome {
    Outcome::Failure { kind: ErrorKind::RateLimited, wait: Some(wait) }
}

/// A breaker, its rules, and a clock.
struct Bench {
    rules: Rules,
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let (rules, now) = (Rules::default(), Instant::now());
        Self { breaker: Breaker::new(&rules, now), rules, now }
    }

    fn settle(&mut self, pass: Pass, outcome: Outcome) -> Option<Change> {
        self.breaker.settle(&self.rules, pass, outcome, self.now, 0.0)
    }

    /// A call that is let through and ends so.
    fn call(&mut self, outcome: Outcome) -> Option<Change> {
        let pass = self.breaker.admit(self.now).expect("no call goes through");
        self.settle(pass, outcome)
    }

    fn view(&self) -> View {
        self.breaker.view(self.now)
    }

    /// How long no call goes through from now on.
    fn blocked(&self) -> Duration {
        let until = self.breaker.refusal(self.now).and_then(|refusal| refusal.until);
        until.map_or(Duration::ZERO, |until| until - self.now)
    }
}

#[test]
fn it_opens_after_so_many_failures_in_a_row_and_a_success_begins_anew() {
    let mut bench = Bench::new();
    for round in 0..3 {
        for _ in 0..4 {
            assert_eq!(bench.call(FAULT), None, "round {round}");
        }
        assert_eq!(bench.call(Outcome::Success), None);
    }
    // Twelve of fifteen have failed, but of at least twenty calls the share counts.
    assert_eq!(bench.view().state, BreakerState::Closed);
    let mut bench = Bench::new();
    let changes: Vec<_> = (0..5).map(|_| bench.call(FAULT)).collect();
    assert_eq!(changes, [None, None, None, None, Some(Change::Opened)]);
    assert_eq!((bench.view().state, bench.blocked(), bench.view().trips), (BreakerState::Open, secs(30), 1));
}

#[test]
fn it_opens_at_an_error_share_over_the_last_minute() {
    let mut bench = Bench::new();
    let mut opened_at = None;
    for n in 1..=40 {
        if bench.call(if n % 2 == 0 { FAULT } else { Outcome::Success }).is_some() {
            opened_at = Some(n);
            break;
        }
    }
    assert_eq!(opened_at, Some(20));
    // The same so slowly that there are never twenty in a minute.
    let mut bench = Bench::new();
    for n in 1..=100 {
        assert_eq!(bench.call(if n % 2 == 0 { FAULT } else { Outcome::Success }), None);
        bench.now += secs(4);
    }
}

#[test]
fn a_spent_quota_and_a_refused_key_open_it_at_once_and_for_longer() {
    for kind in [ErrorKind::QuotaExceeded, ErrorKind::Authentication] {
        let mut bench = Bench::new();
        assert_eq!(bench.call(Outcome::Failure { kind, wait: None }), Some(Change::Opened));
        assert_eq!((bench.blocked(), bench.view().cause), (secs(300), Some(kind)));
    }
}

#[test]
fn what_is_the_calls_own_fault_never_counts() {
    for kind in [ErrorKind::InvalidRequest, ErrorKind::ModelNotFound, ErrorKind::ContentFiltered] {
        let mut bench = Bench::new();
        for _ in 0..1_000 {
            assert_eq!(bench.call(Outcome::Failure { kind, wait: None }), None);
        }
        assert_eq!(bench.view().state, BreakerState::Closed);
    }
}

#[test]
fn a_named_wait_is_kept_exactly_is_capped_and_is_no_failure() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        assert_eq!(bench.call(limited(secs(7))), None);
        let view = bench.view();
        assert_eq!((view.state, view.cause), (BreakerState::Open, Some(ErrorKind::RateLimited)));
        assert_eq!((bench.blocked(), view.trips), (secs(7), 0));
        bench.now += secs(7);
        assert_eq!(bench.view().state, BreakerState::Closed);
        // Nor does everybody wait for one that tries it: it is healthy.
        assert!(bench.breaker.admit(bench.now).is_ok() && bench.breaker.admit(bench.now).is_ok());
    }
    bench.call(limited(secs(1_000_000)));
    assert_eq!(bench.blocked(), bench.rules.max_cool_down);
}

#[test]
fn one_call_at_a_time_tries_a_provider_and_its_success_closes() {
    let mut bench = Bench::new();
    bench.call(QUOTA);
    bench.now += secs(300);
    let probe = bench.breaker.admit(bench.now).unwrap();
    assert_eq!(bench.view().state, BreakerState::HalfOpen);
    let refusal = bench.breaker.admit(bench.now).unwrap_err();
    assert_eq!((refusal.cause, refusal.until), (ErrorKind::QuotaExceeded, None));
    assert_eq!(bench.settle(probe, Outcome::Success), Some(Change::Closed));
    assert!(bench.breaker.admit(bench.now).is_ok() && bench.breaker.admit(bench.now).is_ok());
    // Closed, it begins anew.
    for _ in 0..5 {
        bench.call(FAULT);
    }
    assert_eq!(bench.blocked(), secs(30));
}

#[test]
fn a_probe_that_tells_nothing_frees_its_place() {
    let filtered = Outcome::Failure { kind: ErrorKind::ContentFiltered, wait: None };
    for nothing in [Outcome::Unknown, filtered] {
        let mut bench = Bench::new();
        bench.call(QUOTA);
        bench.now += secs(300);
        assert_eq!(bench.call(nothing), None);
        assert_eq!(bench.view().state, BreakerState::HalfOpen);
        assert_eq!(bench.call(Outcome::Success), Some(Change::Closed));
    }
}

#[test]
fn each_failed_probe_doubles_the_cool_down_up_to_its_cap() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        bench.call(FAULT);
    }
    let since = bench.view().since;
    for expected in [30, 60, 120, 240, 480, 960, 1_800, 1_800] {
        assert_eq!(bench.blocked(), secs(expected));
        bench.now += secs(expected);
        assert_eq!(bench.call(FAULT), Some(Change::Opened));
    }
    assert_eq!((bench.view().trips, bench.view().since), (9, since));
    // A hard cause begins longer, and what follows it in a row is no shorter.
    let mut bench = Bench::new();
    bench.call(QUOTA);
    bench.now += secs(300);
    bench.call(FAULT);
    assert_eq!(bench.blocked(), secs(600));
}

#[test]
fn a_wait_that_is_named_with_a_failure_prolongs_the_cool_down() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        bench.call(Outcome::Failure { kind: ErrorKind::Overloaded, wait: Some(secs(45)) });
    }
    assert_eq!(bench.blocked(), secs(45));
}

#[test]
fn calls_from_before_it_opened_neither_close_nor_reopen_it() {
    let mut bench = Bench::new();
    let [late, later, last] = [(); 3].map(|()| bench.breaker.admit(bench.now).unwrap());
    for _ in 0..5 {
        bench.call(FAULT);
    }
    bench.now += secs(10);
    assert_eq!((bench.settle(late, Outcome::Success), bench.blocked()), (None, secs(20)));
    assert_eq!((bench.settle(later, FAULT), bench.blocked()), (None, secs(20)));
    assert_eq!((bench.settle(last, QUOTA), bench.blocked()), (None, secs(300)));
    assert_eq!((bench.view().trips, bench.view().cause), (1, Some(ErrorKind::QuotaExceeded)));
}

#[test]
fn nodes_do_not_come_back_in_the_same_moment() {
    let (rules, now) = (Rules::default(), Instant::now());
    for (jitter, millis) in [(0.0, 300_000), (0.5, 285_000), (1.0, 270_000), (f64::NAN, 300_000)] {
        let mut breaker = Breaker::new(&rules, now);
        let pass = breaker.admit(now).unwrap();
        breaker.settle(&rules, pass, QUOTA, now, jitter);
        assert_eq!(breaker.refusal(now).unwrap().until, Some(now + Duration::from_millis(millis)));
    }
}

#[test]
fn a_breaker_nobody_asks_for_long_is_forgotten() {
    let mut bench = Bench::new();
    bench.call(QUOTA);
    bench.now += secs(300 + 1_800);
    assert!(!bench.breaker.forget(&bench.rules, bench.now));
    bench.now += secs(1);
    assert!(bench.breaker.forget(&bench.rules, bench.now));
    assert_eq!((bench.view().state, bench.view().trips), (BreakerState::Closed, 1));
    assert!(!bench.breaker.forget(&bench.rules, bench.now));
}

/// What happens to a breaker.
#[derive(Clone, Debug)]
enum Step {
    /// Another node says that it is open for so many milliseconds.
    Adopt(u64),
    Wait(u64),
    Admit,
    /// The outcome of one of the calls under way.
    End(usize, Outcome),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let wait = prop::option::of((0_u64..100_000).prop_map(Duration::from_millis));
    let failure =
        (prop::sample::select(ErrorKind::ALL), wait).prop_map(|(kind, wait)| Outcome::Failure { kind, wait });
    prop_oneof![2 => Just(Outcome::Success), 1 => Just(Outcome::Unknown), 6 => failure]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop_oneof![0_u64..2_000, 0_u64..2_000_000].prop_map(Step::Wait),
        1 => prop_oneof![0_u64..2_000, 0_u64..2_000_000].prop_map(Step::Adopt),
        4 => Just(Step::Admit),
        4 => (any::<usize>(), outcome()).prop_map(|(n, outcome)| Step::End(n, outcome)),
    ]
}

proptest! {
    #[test]
    fn a_later_failure_never_shortens_a_cool_down(
        steps in prop::collection::vec(step(), 1..300), jitter in prop::collection::vec(0.0..1.0, 1..20),
    ) {
        let mut bench = Bench::new();
        let mut jitter = jitter.into_iter().cycle();
        let (mut under_way, mut probe) = (Vec::<Pass>::new(), None::<Pass>);
        let mut cool_down = Duration::ZERO;
        for step in steps {
            match step {
                Step::Wait(millis) => bench.now += Duration::from_millis(millis),
                Step::Admit => {
                    let blocked = bench.blocked() > Duration::ZERO;
                    let open = bench.view().state != BreakerState::Closed;
                    if let Ok(pass) = bench.breaker.admit(bench.now) {
                        prop_assert!(!blocked, "a call went through an open breaker");
                        if open {
                            prop_assert!(probe.is_none(), "two calls try at once");
                            probe = Some(pass);
                        }
                        under_way.push(pass);
                    } else {
                        prop_assert!(blocked || probe.is_some(), "refused without a reason");
                    }
                }
                Step::Adopt(millis) => {
                    let before = bench.blocked();
                    let span = Duration::from_millis(millis).min(bench.rules.max_cool_down);
                    bench.breaker.adopt(ErrorKind::ServerFault, bench.now + span, span, bench.now);
                    prop_assert!(bench.blocked() >= before.max(span) && bench.breaker.is_tripped());
                    cool_down = bench.breaker.cool_down();
                }
                Step::End(_, _) if under_way.is_empty() => {}
                Step::End(n, outcome) => {
                    let pass = under_way.swap_remove(n % under_way.len());
                    let before = bench.blocked();
                    let was_open = bench.breaker.trip.is_some();
                    let random = jitter.next().unwrap_or(0.0);
                    let change = bench.breaker.settle(&bench.rules, pass, outcome, bench.now, random);
                    if matches!(outcome, Outcome::Failure { .. }) {
                        prop_assert!(bench.blocked() >= before, "{before:?} became {:?}", bench.blocked());
                    }
                    if probe == Some(pass) {
                        probe = None;
                    } else {
                        // Only the call that tries it closes what is open.
                        prop_assert!(!was_open || bench.breaker.trip.is_some());
                    }
                    prop_assert!(bench.blocked() <= bench.rules.max_cool_down);
                    if change == Some(Change::Opened) {
                        let trip = bench.breaker.trip.unwrap();
                        prop_assert!(!was_open || trip.cool_down >= cool_down, "a row of trips grows");
                    }
                    cool_down = bench.breaker.trip.map_or(Duration::ZERO, |trip| trip.cool_down);
                }
            }
        }
    }
}
