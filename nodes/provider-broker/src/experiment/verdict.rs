//! What can be said of an arm beside the first, in a sentence.

use super::{ArmStatus, Tally};
use std::fmt::Write as _;

/// What is less likely by chance is taken for a difference: divided by the number of comparisons, as each may be wrong by itself
/// (Bonferroni).
const CHANCE: f64 = 0.05;
/// Nothing is said of an arm with fewer calls, nor of a measure with fewer values: the tests take the sums to be distributed
/// normally.
const CALLS: u64 = 30;

/// A measure in which two arms differ.
struct Difference {
    /// Whether that of the arm is better than that of the first.
    better: bool,
    what: &'static str,
    /// How it is, beside how it is at the first.
    values: [String; 2],
    chance: f64,
}

/// Says it of each arm but the first.
pub(super) fn judge(arms: &mut [ArmStatus]) {
    let Some((first, others)) = arms.split_first_mut() else { return };
    let comparisons = others.iter().flat_map(|arm| chances(first, arm)).flatten().count();
    for arm in others {
        arm.verdict = verdict(first, arm, CHANCE / comparisons.max(1) as f64);
    }
}

/// How likely each difference is by chance: that of calls that succeed, of their times, costs and scores. None where there are
/// too few values of it to say.
fn chances(first: &ArmStatus, arm: &ArmStatus) -> [Option<f64>; 4] {
    let enough = |of: fn(&Tally) -> u64| [first, arm].iter().all(|arm| of(&arm.tally) >= CALLS);
    [
        arm.success_chance.filter(|_| enough(calls)),
        arm.seconds_chance.filter(|_| enough(|tally| tally.seconds.count)),
        arm.cost_chance.filter(|_| enough(|tally| tally.dollars.count)),
        arm.score_chance.filter(|_| enough(|tally| tally.score.count)),
    ]
}

fn calls(arm: &Tally) -> u64 {
    arm.successes + arm.failures
}

fn verdict(first: &ArmStatus, arm: &ArmStatus, least: f64) -> String {
    let short = [first, arm].into_iter().filter(|arm| calls(&arm.tally) < CALLS);
    let short: Vec<_> = short.map(|arm| format!("`{}` has {} calls", arm.name, calls(&arm.tally))).collect();
    if !short.is_empty() {
        return format!("too early to say: {}, at least {CALLS} are needed", short.join(" and "));
    }
    let differences: Vec<_> = differences(first, arm)
        .into_iter()
        .flatten()
        .filter(|difference| difference.chance < least)
        .collect();
    let (better, worse): (Vec<_>, Vec<_>) = differences.iter().partition(|difference| difference.better);
    let says =
        |how: &str, list: &[&Difference]| format!("`{}` {how} `{}`: {}", arm.name, first.name, said(list));
    match (better.is_empty(), worse.is_empty()) {
        (true, true) => format!(
            "no difference between `{}` and `{}` that could not be chance, after {} and {} calls",
            arm.name,
            first.name,
            calls(&arm.tally),
            calls(&first.tally)
        ),
        (false, true) => says("is better than", &better),
        (true, false) => says("is worse than", &worse),
        (false, false) => says("is better and worse than", &better) + "; but " + &said(&worse),
    }
}

fn differences(first: &ArmStatus, arm: &ArmStatus) -> [Option<Difference>; 4] {
    let (a, b) = (&first.tally, &arm.tally);
    let [success, seconds, cost, score] = chances(first, arm);
    let share = |tally: &Tally| tally.successes as f64 / calls(tally).max(1) as f64;
    let of = |chance: Option<f64>,
              (is, was): (f64, f64),
              words: [&'static str; 2],
              more: bool,
              show: fn(f64) -> String| {
        let better = (is > was) == more;
        let what = if is > was { words[0] } else { words[1] };
        Some(Difference { better, what, values: [show(is), show(was)], chance: chance? })
    };
    [
        of(success, (share(b), share(a)), ["more succeed", "fewer succeed"], true, |share| {
            format!("{:.1} %", 100.0 * share)
        }),
        of(seconds, (b.seconds.mean, a.seconds.mean), ["it is slower", "it is faster"], false, |s| {
            format!("{s:.3} s")
        }),
        of(cost, (b.dollars.mean, a.dollars.mean), ["it costs more", "it costs less"], false, |dollars| {
            format!("${dollars:.6}")
        }),
        of(score, (b.score.mean, a.score.mean), ["it scores higher", "it scores lower"], true, |score| {
            format!("{score:.3}")
        }),
    ]
}

fn said(list: &[&Difference]) -> String {
    let mut text = String::new();
    for Difference { what, values: [is, was], chance, .. } in list {
        let chance = if *chance < 0.000_1 { "p < 0.0001".to_owned() } else { format!("p = {chance:.4}") };
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{what} ({is} against {was}, {chance})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::sums::Sums;
    use crate::experiment::{Moments, stats};
    use std::time::Duration;

    /// An arm with so many calls, of which some failed, of these times in milliseconds and scores by turns.
    fn arm(name: &str, calls: u64, failed: u64, ms: [u64; 2], scores: [f64; 2]) -> ArmStatus {
        let mut sums = Sums::default();
        for (call, half) in (0..calls).zip([0, 1].into_iter().cycle()) {
            match call < failed {
                true => sums.failed(),
                false => sums.answered(Duration::from_millis(ms[half]), 1, None),
            }
            sums.scored(scores[half]);
        }
        ArmStatus { name: name.into(), tally: sums.tally(), ..ArmStatus::default() }
    }

    fn says(first: ArmStatus, mut arm: ArmStatus) -> String {
        let (a, b) = (&first.tally, &arm.tally);
        let means = |of: fn(&Tally) -> &Moments| stats::means_differ(of(a), of(b));
        let chances = (means(|t| &t.seconds), means(|t| &t.dollars), means(|t| &t.score));
        arm.success_chance = stats::proportions_differ((a.successes, calls(a)), (b.successes, calls(b)));
        (arm.seconds_chance, arm.cost_chance, arm.score_chance) = chances;
        let mut arms = [first, arm];
        judge(&mut arms);
        assert_eq!(arms[0].verdict, "");
        arms[1].verdict.clone()
    }

    #[test]
    fn it_says_in_which_measures_an_arm_is_better_or_worse() {
        let first = || arm("now", 400, 20, [900, 1_100], [0.4, 0.6]);
        assert_eq!(
            says(first(), arm("new", 400, 20, [400, 600], [0.4, 0.6])),
            "`new` is better than `now`: it is faster (0.500 s against 1.000 s, p < 0.0001)"
        );
        assert_eq!(
            says(first(), arm("new", 400, 80, [900, 1_100], [0.4, 0.6])),
            "`new` is worse than `now`: fewer succeed (80.0 % against 95.0 %, p < 0.0001)"
        );
        assert_eq!(
            says(first(), arm("new", 400, 20, [400, 600], [0.2, 0.4])),
            "`new` is better and worse than `now`: it is faster (0.500 s against 1.000 s, p < 0.0001); but it scores \
             lower (0.300 against 0.500, p < 0.0001)"
        );
        assert_eq!(
            says(first(), arm("new", 400, 20, [900, 1_100], [0.4, 0.6])),
            "no difference between `new` and `now` that could not be chance, after 400 and 400 calls"
        );
        assert_eq!(
            says(first(), arm("new", 12, 0, [1, 2], [0.0, 1.0])),
            "too early to say: `new` has 12 calls, at least 30 are needed"
        );
    }

    #[test]
    fn the_more_is_compared_the_less_is_said() {
        let with =
            |chance| ArmStatus { success_chance: Some(chance), ..arm("b", 400, 50, [1, 2], [0.0, 1.0]) };
        let first = || arm("a", 400, 20, [1, 2], [0.0, 1.0]);
        let mut two = [first(), with(0.02)];
        judge(&mut two);
        assert!(two[1].verdict.contains("worse"), "{}", two[1].verdict);
        let mut four = [first(), with(0.02), with(0.02), with(0.02)];
        judge(&mut four);
        assert!(four[1].verdict.contains("no difference"), "{}", four[1].verdict);
    }
}
