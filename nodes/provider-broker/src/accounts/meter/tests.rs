use super::*;
use proptest::prelude::*;
use std::time::Duration;

/// 2026-11-30T09:00:00Z.
const NINE: Timestamp = Timestamp::from_micros(1796029200000000);

fn later(minutes: u64) -> Timestamp {
    NINE.after(Duration::from_secs(60 * minutes))
}

#[test]
fn a_span_is_one_of_the_calendar() {
    assert_eq!(Span::Hour.label(Span::Hour.start(later(59))), "2026-11-30T09");
    assert_eq!(Span::Hour.label(Span::Hour.start(later(60))), "2026-11-30T10");
    assert_eq!(Span::Day.label(Span::Day.start(later(59))), "2026-11-30");
    assert_eq!(Span::Day.start(later(0)).to_rfc3339(), "2026-11-30T00:00:00.000000Z");
}

#[test]
fn it_is_full_at_its_limit_and_begins_anew() {
    let mut meter = Meter::new(Span::Hour, Some(10), later(0));
    assert_eq!(meter.room(10, later(0)), Ok(()));
    assert_eq!(meter.room(11, later(0)), Err(Full { used: 0, resets: later(60) }));
    meter.add(10, later(1));
    // What costs nothing has no room either once all is used.
    assert_eq!(meter.room(0, later(2)), Err(Full { used: 10, resets: later(60) }));
    assert_eq!(meter.room(10, later(60)), Ok(()));
}

#[test]
fn what_is_settled_counts_in_its_own_span_alone() {
    let mut meter = Meter::new(Span::Hour, Some(100), later(0));
    let start = meter.add(50, later(59));
    meter.settle(-20, start, later(59));
    assert_eq!(meter.used(later(59)), 30);
    meter.settle(-20, start, later(60));
    assert_eq!(meter.used(later(60)), 0, "the new hour is not paid into");
    meter.add(7, later(61));
    assert_eq!(meter.used(later(59)), 7, "a clock that steps back brings nothing back");
}

#[test]
fn a_level_is_told_once_and_again_in_a_new_span() {
    let mut meter = Meter::new(Span::Hour, Some(100), later(0));
    let mut told = Vec::new();
    for (amount, minute) in
        [(74, 0), (1, 1), (0, 2), (14, 3), (1, 4), (-5, 5), (5, 6), (20, 7), (0, 60), (80, 61)]
    {
        meter.add(amount, later(minute));
        told.extend(meter.news(later(minute)));
    }
    assert_eq!(
        told,
        [Level::Fine, Level::High, Level::Nearly, Level::Spent, Level::Fine, Level::High],
        "and nothing where an estimate was settled"
    );
    meter.reset(later(62));
    assert_eq!(meter.news(later(62)), Some(Level::Fine));
}

#[test]
fn it_is_told_when_it_will_be_spent_at_the_rate_of_late() {
    let mut meter = Meter::new(Span::Hour, Some(1_000), later(0));
    // Ten a minute are not enough to spend it; fifty are.
    for minute in 0..20 {
        meter.add(10, later(minute));
    }
    assert_eq!(meter.standing(later(20)).unwrap().spent_at, None);
    for minute in 20..30 {
        meter.add(50, later(minute));
    }
    let spent_at = meter.standing(later(30)).unwrap().spent_at.unwrap();
    let wait = spent_at.since(later(30)).as_secs();
    assert!((4 * 60..=8 * 60).contains(&wait), "300 are left at fifty a minute: {wait} s");
    assert_eq!(meter.standing(later(60)).unwrap().spent_at, None);
    meter.add(1_000, later(61));
    assert_eq!(meter.standing(later(62)).unwrap().spent_at, Some(later(62)));
}

#[test]
fn what_was_used_before_this_process_began_is_no_rate() {
    let mut meter = Meter::new(Span::Day, Some(1_000), later(0));
    let (start, own) = meter.own(later(0));
    meter.hear(start, own, 900, later(0));
    let standing = meter.standing(later(20)).unwrap();
    assert_eq!((standing.used, standing.spent_at), (900, None));
}

/// What may happen to one of two processes that count the same.
#[derive(Clone, Debug)]
enum Step {
    Add(usize, u16),
    /// An estimate, and what of it was not used.
    Settle(usize, u16, u16),
    Exchange(usize),
    /// The answer of the ledger comes after so much more was added.
    Late(usize, u16),
    Reset(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..2_usize;
    let step = prop_oneof![
        (who.clone(), any::<u16>()).prop_map(|(who, by)| Step::Add(who, by)),
        (who.clone(), any::<u16>(), any::<u16>()).prop_map(|(who, a, b)| Step::Settle(who, a, b)),
        who.clone().prop_map(Step::Exchange),
        (who.clone(), any::<u16>()).prop_map(|(who, by)| Step::Late(who, by)),
        who.prop_map(Step::Reset),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Two processes that exchange with a ledger agree on the sum of what both did, whatever came between.
    #[test]
    fn after_an_exchange_all_know_the_sum(steps in steps()) {
        let now = later(1);
        let mut meters = [Meter::new(Span::Day, Some(1_000), now), Meter::new(Span::Day, Some(1_000), now)];
        let mut written = [0_i64; 2];
        // What is really used, as one process alone would count it, without resets.
        let (mut all, mut resets) = (0_i64, false);
        for step in steps {
            match step {
                Step::Add(who, by) => {
                    meters[who].add(by.into(), now);
                    all += i64::from(by);
                }
                Step::Settle(who, estimate, unused) => {
                    let unused = unused.min(estimate);
                    let start = meters[who].add(estimate.into(), now);
                    meters[who].settle(-i64::from(unused), start, now);
                    all += i64::from(estimate - unused);
                }
                Step::Exchange(who) => exchange(&mut meters, &mut written, who, 0),
                Step::Late(who, by) => {
                    exchange(&mut meters, &mut written, who, by);
                    all += i64::from(by);
                }
                Step::Reset(who) => {
                    meters[who].reset(now);
                    prop_assert_eq!(meters[who].used(now), 0);
                    resets = true;
                }
            }
        }
        for who in [0, 1, 0] {
            exchange(&mut meters, &mut written, who, 0);
            prop_assert!(!meters[who].is_changed());
        }
        let used = [meters[0].used(now), meters[1].used(now)];
        prop_assert_eq!(used[0], used[1]);
        prop_assert!(resets || used[0] == all, "{used:?} of {all}");
    }

    /// Whatever is let in only where there is room stays within the limit.
    #[test]
    fn one_process_never_passes_the_limit(amounts in prop::collection::vec((0_i64..100, 0_u64..30), 1..100)) {
        let (mut meter, mut minute, mut hour, mut used) = (Meter::new(Span::Hour, Some(150), later(0)), 0, 0, 0);
        for (amount, gap) in amounts {
            minute += gap;
            if minute / 60 != hour {
                (hour, used) = (minute / 60, 0);
            }
            match meter.room(amount, later(minute)) {
                Ok(()) => {
                    meter.add(amount, later(minute));
                    used += amount;
                }
                Err(full) => prop_assert!(used + amount > 150 || used == 150, "{full:?}"),
            }
            prop_assert!(used <= 150);
            prop_assert_eq!(meter.used(later(minute)), used);
        }
    }

    /// A forecast is in the span, and not in the past.
    #[test]
    fn a_forecast_is_ahead_and_within_the_span(adds in prop::collection::vec((0_i64..100, 0_u64..10), 1..60)) {
        let (mut meter, mut minute) = (Meter::new(Span::Hour, Some(1_000), later(0)), 0);
        for (amount, gap) in adds {
            minute += gap;
            meter.add(amount, later(minute));
            let Standing { used, limit, resets, spent_at } = meter.standing(later(minute)).unwrap();
            if let Some(at) = spent_at {
                prop_assert!(at >= later(minute) && at < resets);
            }
            prop_assert!(used < limit || spent_at == Some(later(minute)));
        }
    }
}

/// A process tells the ledger what it added, adds some more, and hears of the sum.
fn exchange(meters: &mut [Meter; 2], written: &mut [i64; 2], who: usize, meanwhile: u16) {
    let now = later(1);
    let (start, own) = meters[who].own(now);
    written[who] = own;
    let all = written.iter().sum();
    meters[who].add(meanwhile.into(), now);
    meters[who].hear(start, own, all, now);
}
