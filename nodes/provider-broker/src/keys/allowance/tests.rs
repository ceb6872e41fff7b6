use super::*;
use proptest::prelude::*;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn requests(remaining: u64, reset: Duration) -> Statement {
    Statement { requests: Some(Left { remaining, reset }), tokens: None }
}

#[test]
fn what_is_left_may_be_sent_and_no_more_until_the_reset() {
    let now = Instant::now();
    let mut allowance = Allowance::default();
    let first = allowance.take(10, now).unwrap();
    // One more was sent before the answer to the first came: it comes on top.
    allowance.take(10, now).unwrap();
    allowance.told(first, requests(3, secs(7)), now);
    allowance.take(10, now).unwrap();
    allowance.take(10, now).unwrap();
    let until = now + secs(7);
    assert_eq!(allowance.take(10, now), Err(Spent { what: "requests", until }));
    assert!(allowance.take(10, until - Duration::from_millis(1)).is_err());
    for _ in 0..100 {
        assert!(allowance.take(10, until).is_ok(), "after the reset nothing is known");
    }
}

#[test]
fn tokens_are_left_for_small_calls_alone() {
    let now = Instant::now();
    let mut allowance = Allowance::default();
    let first = allowance.take(10, now).unwrap();
    let left = Left { remaining: 100, reset: secs(5) };
    allowance.told(first, Statement { requests: None, tokens: Some(left) }, now);
    allowance.over(first);
    assert_eq!(allowance.take(101, now), Err(Spent { what: "tokens", until: now + secs(5) }));
    allowance.take(60, now).unwrap();
    assert!(allowance.take(41, now).is_err());
    allowance.take(40, now).unwrap();
}

#[test]
fn only_what_an_answer_says_is_used_up_concerns_others() {
    let now = Instant::now();
    let mut allowance = Allowance::default();
    let calls: Vec<_> = (0..5).map(|_| allowance.take(1_000, now).unwrap()).collect();
    let tokens = |remaining| Statement { requests: None, tokens: Some(Left { remaining, reset: secs(9) }) };
    allowance.told(calls[0], tokens(3_000), now);
    assert!(allowance.refusal(1, now).is_some(), "the other four may use up what is left");
    assert_eq!(allowance.used_up(tokens(3_000), now), [None; 2]);
    allowance.told(calls[1], tokens(0), now);
    let spent = Spent { what: "tokens", until: now + secs(9) };
    assert_eq!(allowance.used_up(tokens(0), now), [None, Some(spent)]);
}

#[test]
fn what_a_later_answer_says_counts_be_it_less_or_more() {
    let now = Instant::now();
    let mut allowance = Allowance::default();
    for (remaining, may) in [(5, 5), (2, 2), (0, 0)] {
        let call = allowance.take(1, now).unwrap();
        allowance.told(call, requests(remaining, secs(9)), now);
        allowance.over(call);
        let mut other = allowance;
        assert_eq!((0..20).filter(|_| other.take(1, now).is_ok()).count(), may);
    }
    // Calls that were lost on the way are not held against it.
    let mut allowance = Allowance::default();
    for _ in 0..100 {
        let lost = allowance.take(1, now).unwrap();
        allowance.over(lost);
    }
    let call = allowance.take(1, now).unwrap();
    allowance.told(call, requests(1, secs(9)), now);
    assert!(allowance.take(1, now).is_ok());
}

#[test]
fn a_reset_of_days_is_believed_for_a_minute_and_then_asked_about_by_one_call_at_a_time() {
    let mut now = Instant::now();
    let mut allowance = Allowance::default();
    let mut call = allowance.take(1, now).unwrap();
    allowance.told(call, requests(0, secs(3 * 24 * 3_600)), now);
    for _ in 0..3 {
        assert_eq!(allowance.take(1, now).unwrap_err().until, now + BELIEVED);
        now += BELIEVED;
        allowance.over(call);
        call = allowance.take(1, now).unwrap();
    }
    // The answer says that the limit was raised.
    allowance.told(call, requests(1_000, secs(1)), now);
    for _ in 0..1_000 {
        allowance.take(1, now).unwrap();
    }
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Going,
    /// The provider has counted or refused it, and said how many were left.
    Coming(u64),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    sent: Sent,
    /// Whether the provider had said anything before.
    told: bool,
    way: Way,
}

proptest! {
    /// A provider whose window is fixed, to which calls come in any order, whose answers come back in any, and where
    /// some are lost on the way: once it has said anything, it refuses none.
    #[test]
    fn a_provider_that_says_what_is_left_refuses_nothing(
        limit in 1_u64..30,
        steps in prop::collection::vec((0_u8..8, any::<prop::sample::Index>()), 1..400),
    ) {
        let now = Instant::now();
        let mut allowance = Allowance::default();
        let mut counted = 0;
        let mut calls: Vec<Call> = Vec::new();
        for (step, which) in steps {
            let told = allowance.requests.window.is_some();
            let place = (!calls.is_empty()).then(|| which.index(calls.len()));
            match (step, place) {
                (0..=2, _) => if (told || calls.is_empty()) && let Ok(sent) = allowance.take(1, now) {
                    calls.push(Call { sent, told, way: Way::Going });
                },
                (3..=4, Some(place)) => {
                    let call = &mut calls[place];
                    if call.way == Way::Going {
                        prop_assert!(counted < limit || !call.told, "the call would be refused");
                        counted = (counted + 1).min(limit);
                        call.way = Way::Coming(limit - counted);
                    }
                }
                (5..=6, Some(place)) => {
                    if let Call { sent, way: Way::Coming(remaining), .. } = calls[place] {
                        calls.swap_remove(place);
                        allowance.told(sent, requests(remaining, secs(30)), now);
                        allowance.over(sent);
                    }
                }
                (_, Some(place)) => allowance.over(calls.swap_remove(place).sent),
                (_, None) => {}
            }
        }
    }

    /// One call after the other, all that there is is used.
    #[test]
    fn what_is_left_is_used_up(limit in 1_u64..100) {
        let (now, mut allowance) = (Instant::now(), Allowance::default());
        let mut counted = 0;
        while let Ok(sent) = allowance.take(1, now) {
            counted += 1;
            prop_assert!(counted <= limit);
            allowance.told(sent, requests(limit - counted, secs(30)), now);
            allowance.over(sent);
        }
        prop_assert_eq!(counted, limit);
    }
}

/// What another node was told holds calls back, until an answer that comes after it says otherwise.
#[test]
fn what_another_node_was_told_holds_until_it_is_over_or_an_answer_says_more() {
    let now = Instant::now();
    let mut allowance = Allowance::default();
    let before = allowance.take(1, now).unwrap();
    allowance.adopt(false, secs(9), now);
    assert_eq!(allowance.take(1, now), Err(Spent { what: "requests", until: now + secs(9) }));
    assert!(allowance.take(1, now + secs(9)).is_ok(), "then nothing is known");
    allowance.told(before, requests(2, secs(20)), now);
    let late = now + secs(1);
    assert!(allowance.take(1, late).is_ok(), "no answer promises more than there is");
    allowance.adopt(true, secs(86_400), late);
    assert_eq!(allowance.spent(late)[1], Some(Spent { what: "tokens", until: late + BELIEVED }));
}

proptest! {
    #[test]
    fn what_is_adopted_never_shortens_a_wait(
        waits in prop::collection::vec((any::<bool>(), 0_u64..90, 0_u64..30), 1..20),
    ) {
        let (mut allowance, mut now) = (Allowance::default(), Instant::now());
        for (tokens, wait, pause) in waits {
            now += secs(pause);
            let until = |allowance: &Allowance| allowance.spent(now).map(|spent| spent.map(|spent| spent.until));
            let before = until(&allowance);
            allowance.adopt(tokens, secs(wait), now);
            let after = until(&allowance);
            let told = (wait > 0).then(|| now + secs(wait).min(BELIEVED));
            let (own, others) = (usize::from(tokens), usize::from(!tokens));
            prop_assert_eq!(after[own], before[own].max(told));
            prop_assert_eq!(after[others], before[others]);
        }
    }
}
