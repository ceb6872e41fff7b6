use super::*;
use callboard_domain::Money;
use proptest::prelude::*;
use std::cell::Cell;

/// Draws as SplitMix64 does: the same numbers in each run.
struct Source(Cell<u64>);

impl Source {
    fn draw(&self) -> f64 {
        self.0.set(self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const ALL: [Policy; 5] =
    [Policy::Priority, Policy::Weighted, Policy::LeastLatency, Policy::Cheapest, Policy::Sticky];
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn dollars(amount: u32) -> Money {
    Money::parse(&amount.to_string()).unwrap()
}

fn choices(weights: &[u32]) -> Vec<Choice<'static>> {
    let choice = |(weight, provider): (&u32, &'static str)| Choice {
        provider,
        model: "m",
        weight: *weight,
        local: false,
        context: None,
    };
    weights.iter().zip(NAMES).map(choice).collect()
}

fn first(
    policy: Policy,
    choices: &[Choice<'_>],
    draw: &dyn Fn() -> f64,
    slow: &[f64],
    subject: &str,
) -> usize {
    let facts =
        Facts { draw, slowness: &|place| slow.get(place).copied(), cost: &|_| None, subject, tokens: 0 };
    order(policy, choices, &facts)[0]
}

proptest! {
    #[test]
    fn every_policy_keeps_all_candidates_and_the_stand_in_last(
        weights in prop::collection::vec(0_u32..5, 0..8),
        local in any::<u8>(),
        contexts in any::<u8>(),
        known in any::<u8>(),
        costs in prop::collection::vec(0_u32..3, 8),
        seed in any::<u64>(),
        subject in "[a-c]{0,3}",
        edge in prop::option::of(prop::sample::select(vec![0.0, 1.0])),
    ) {
        let mut choices = choices(&weights);
        for (i, choice) in choices.iter_mut().enumerate() {
            choice.local = local >> i & 1 == 1;
            choice.context = (contexts >> i & 1 == 1).then_some(10);
        }
        let source = Source(Cell::new(seed));
        let draw = || edge.unwrap_or_else(|| source.draw());
        let knows = |place: usize| known >> place & 1 == 1;
        let facts = Facts {
            draw: &draw,
            slowness: &|place| knows(place).then_some(f64::from(costs[place])),
            cost: &|place| knows(place).then(|| dollars(costs[place])),
            subject: &subject,
            tokens: 100,
        };
        for policy in ALL {
            let order = order(policy, &choices, &facts);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..choices.len()).collect::<Vec<_>>());
            let stand_ins: Vec<_> = order.iter().map(|place| choices[*place].local).collect();
            if policy != Policy::Priority {
                prop_assert!(stand_ins.is_sorted(), "{policy:?}: {stand_ins:?}");
            }
            let too_small = order.iter().filter(|place| !choices[**place].local);
            let too_small: Vec<_> = too_small.map(|place| choices[*place].context.is_some()).collect();
            prop_assert!(policy == Policy::Priority || too_small.is_sorted(), "{policy:?}: {too_small:?}");
        }
    }

    #[test]
    fn weights_are_honoured_and_after_a_failure_among_the_rest(
        weights in prop::collection::vec(1_u32..20, 2..6),
        seed in any::<u64>(),
    ) {
        let (choices, source) = (choices(&weights), Source(Cell::new(seed)));
        let draw = || source.draw();
        let facts =
            Facts { draw: &draw, slowness: &|_| None, cost: &|_| None, subject: "", tokens: 0 };
        const CALLS: u32 = 20_000;
        let (mut had, mut without_a) = (vec![0_u32; weights.len()], vec![0_u32; weights.len()]);
        for _ in 0..CALLS {
            let order = order(Policy::Weighted, &choices, &facts);
            had[order[0]] += 1;
            // As if the first provider were left out.
            without_a[*order.iter().find(|place| **place != 0).unwrap()] += 1;
        }
        let within = |had: u32, weight: u32, total: u32| {
            let share = f64::from(weight) / f64::from(total);
            let deviation = (share * (1.0 - share) * f64::from(CALLS)).sqrt();
            // Six standard deviations: once in a billion.
            (f64::from(had) - share * f64::from(CALLS)).abs() <= 6.0 * deviation + 1.0
        };
        let total = weights.iter().sum();
        for (had, weight) in had.iter().zip(&weights) {
            prop_assert!(within(*had, *weight, total), "{had} with {weight} of {total}");
        }
        for (had, weight) in without_a.iter().zip(&weights).skip(1) {
            prop_assert!(within(*had, *weight, total - weights[0]), "{had} with {weight} without the first");
        }
    }

    #[test]
    fn sticky_moves_nobody_but_those_whose_provider_is_gone(
        weights in prop::collection::vec(1_u32..5, 2..8),
        subjects in prop::collection::vec("[a-z]{1,12}", 1..50),
        gone in any::<prop::sample::Index>(),
    ) {
        let all = choices(&weights);
        let gone = gone.index(all.len());
        let left: Vec<_> = all.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, c)| *c).collect();
        let name = |choices: &[Choice<'static>], subject: &str| {
            choices[first(Policy::Sticky, choices, &|| panic!("nothing is drawn"), &[], subject)].provider
        };
        for subject in &subjects {
            let before = name(&all, subject);
            prop_assert_eq!(before, name(&all, subject));
            if before != all[gone].provider {
                prop_assert_eq!(before, name(&left, subject));
            }
        }
    }
}

#[test]
fn sticky_subjects_are_shared_by_weight() {
    let choices = choices(&[3, 1]);
    let count = (0..10_000).filter(|n| first(Policy::Sticky, &choices, &|| 0.0, &[], &n.to_string()) == 0);
    let count = count.count();
    assert!((7_250..7_750).contains(&count), "{count}");
}

#[test]
fn a_sticky_subject_is_at_the_same_provider_in_every_version() {
    let choices = choices(&[1, 1, 1]);
    let at: Vec<_> = ["anna", "ben", "carl", "dora", "emil", "fritz"]
        .iter()
        .map(|subject| choices[first(Policy::Sticky, &choices, &|| 0.0, &[], subject)].provider)
        .collect();
    // Another order here sends every subject away from the prompt cache that knows it.
    assert_eq!(at, ["a", "c", "b", "c", "b", "a"]);
}

#[test]
fn the_faster_of_two_that_are_drawn_is_first_and_the_slowest_never() {
    let (choices, source) = (choices(&[1; 4]), Source(Cell::new(7)));
    let slow = [0.4, 0.1, 0.2, 0.3];
    let mut had = [0_u32; 4];
    for _ in 0..12_000 {
        had[first(Policy::LeastLatency, &choices, &|| source.draw(), &slow, "")] += 1;
    }
    // Of six pairs the fastest is in three, the next wins two, the third one.
    for (had, expected) in had.iter().zip([0_u32, 6_000, 4_000, 2_000]) {
        assert!(had.abs_diff(expected) < 300, "{had} of {expected}");
    }
    assert_eq!(had[0], 0);
    // One that nobody knows wins each time that it is drawn: nothing was heard of the last one.
    let tried =
        (0..1_000).filter(|_| first(Policy::LeastLatency, &choices, &|| source.draw(), &slow[..3], "") == 3);
    assert!(tried.count() > 400);
}

#[test]
fn behind_the_first_the_fastest_are_next() {
    let (choices, slow) = (choices(&[1; 4]), [0.4, 0.1, 0.2, 0.3]);
    let facts = Facts {
        draw: &|| 0.0,
        slowness: &|place| Some(slow[place]),
        cost: &|_| None,
        subject: "",
        tokens: 0,
    };
    assert_eq!(order(Policy::LeastLatency, &choices, &facts), [1, 2, 3, 0]);
}

#[test]
fn the_cheapest_that_is_known_is_first_and_what_is_too_small_last() {
    let mut choices = choices(&[1; 4]);
    choices[2].context = Some(50);
    let costs = [None, Some(30), Some(1), Some(20)];
    let by = |tokens| {
        let facts = Facts {
            draw: &|| panic!("nothing is drawn"),
            slowness: &|_| None,
            cost: &|place| costs[place].map(dollars),
            subject: "",
            tokens,
        };
        order(Policy::Cheapest, &choices, &facts)
    };
    assert_eq!(by(50), [2, 3, 1, 0]);
    assert_eq!(by(51), [3, 1, 0, 2]);
}
