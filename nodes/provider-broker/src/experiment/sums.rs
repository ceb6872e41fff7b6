//! What came of the calls of an arm, as whole numbers: those of several processes add up, exactly and in any order.

use super::{Moments, Tally};
use callboard_domain::Money;
use std::time::Duration;

/// How finely time is counted: in tenths of a millisecond.
const SECOND: f64 = 1e-4;
/// How finely prices of calls are counted for their variance: in ten-millionths of a dollar. Their sum is exact.
const DOLLAR: f64 = 1e-7;
/// So many picodollars are one of those.
const PICODOLLARS: i64 = 100_000;
/// How finely scores are counted.
const SCORE: f64 = 1e-3;
/// Between this and the same below zero a score must be. So nine million of the largest fit.
pub(super) const MOST_SCORE: f64 = 1_000.0;

/// What is summed up, in the order of [`NAMES`].
#[derive(Clone, Copy)]
enum Field {
    Successes,
    Failures,
    Tokens,
    Cost,
    Time,
    TimeSquared,
    Priced,
    Price,
    PriceSquared,
    Scores,
    Score,
    ScoreSquared,
}

/// What they are called in the ledger. A name never stands for anything else.
pub(super) const NAMES: [&str; 12] = [
    "successes",
    "failures",
    "tokens",
    "cost_pd",
    "time",
    "time_sq",
    "priced",
    "price",
    "price_sq",
    "scores",
    "score",
    "score_sq",
];

/// The sums. Each stays at its limit once that is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums(pub(super) [i64; NAMES.len()]);

impl Sums {
    fn get(&self, field: Field) -> i64 {
        self.0[field as usize]
    }

    fn add(&mut self, field: Field, amount: i64) {
        let sum = &mut self.0[field as usize];
        *sum = sum.saturating_add(amount);
    }

    /// A call was answered after so long, with so many tokens, and cost that, as far as its model has a price.
    pub(super) fn answered(&mut self, took: Duration, tokens: u64, cost: Option<Money>) {
        self.add(Field::Successes, 1);
        self.add(Field::Tokens, i64::try_from(tokens).unwrap_or(i64::MAX));
        let time = units(took.as_secs_f64() / SECOND);
        self.add(Field::Time, time);
        self.add(Field::TimeSquared, time.saturating_mul(time));
        if let Some(cost) = cost {
            let price = cost.picodollars() / PICODOLLARS;
            self.add(Field::Cost, cost.picodollars());
            self.add(Field::Priced, 1);
            self.add(Field::Price, price);
            self.add(Field::PriceSquared, price.saturating_mul(price));
        }
    }

    /// A call failed.
    pub(super) fn failed(&mut self) {
        self.add(Field::Failures, 1);
    }

    /// An answer was scored.
    pub(super) fn scored(&mut self, score: f64) {
        let score = units(score / SCORE);
        self.add(Field::Scores, 1);
        self.add(Field::Score, score);
        self.add(Field::ScoreSquared, score.saturating_mul(score));
    }

    /// Those of both.
    pub(super) fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].saturating_add(other.0[i])))
    }

    /// What is left without the others.
    pub(super) fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].saturating_sub(other.0[i])))
    }

    /// What they say.
    pub(super) fn tally(&self) -> Tally {
        let count = |field| u64::try_from(self.get(field)).unwrap_or(0);
        let moments =
            |n, sum, squares, unit| Moments::of_sums(self.get(n), self.get(sum), self.get(squares), unit);
        Tally {
            successes: count(Field::Successes),
            failures: count(Field::Failures),
            seconds: moments(Field::Successes, Field::Time, Field::TimeSquared, SECOND),
            tokens: count(Field::Tokens),
            cost: Money::from_picodollars(self.get(Field::Cost)),
            dollars: moments(Field::Priced, Field::Price, Field::PriceSquared, DOLLAR),
            score: moments(Field::Scores, Field::Score, Field::ScoreSquared, SCORE),
        }
    }
}

/// The nearest whole number; the limit where it is beyond.
#[expect(clippy::cast_possible_truncation, reason = "it stays at its limits")]
fn units(number: f64) -> i64 {
    number.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Answered(u64, u64, Option<i64>),
        Failed,
        Scored(f64),
    }

    fn events() -> impl Strategy<Value = Vec<(usize, Event)>> {
        let event = prop_oneof![
            (0..3_600_000_u64, 0..100_000_u64, prop::option::of(0..2_000_000_000_000_i64))
                .prop_map(|(ms, tokens, cost)| Event::Answered(ms, tokens, cost)),
            Just(Event::Failed),
            (-MOST_SCORE..MOST_SCORE).prop_map(Event::Scored),
        ];
        prop::collection::vec((0..3_usize, event), 0..80)
    }

    fn count(sums: &mut Sums, event: Event) {
        match event {
            Event::Answered(ms, tokens, cost) => {
                sums.answered(Duration::from_millis(ms), tokens, cost.map(Money::from_picodollars));
            }
            Event::Failed => sums.failed(),
            Event::Scored(score) => sums.scored(score),
        }
    }

    proptest! {
        #[test]
        fn those_of_three_processes_are_those_of_one(events in events()) {
            let (mut one, mut three) = (Sums::default(), [Sums::default(); 3]);
            for (process, event) in events {
                count(&mut one, event);
                count(&mut three[process], event);
            }
            let [a, b, c] = three;
            prop_assert_eq!(c.plus(a).plus(b), one);
            prop_assert_eq!(one.minus(b), a.plus(c));
        }
    }

    #[test]
    fn they_say_what_was_counted() {
        let mut sums = Sums::default();
        sums.answered(Duration::from_millis(1_500), 10, Some(Money::from_picodollars(3_000_000)));
        sums.answered(Duration::from_micros(500_100), 5, None);
        sums.failed();
        [0.25, 0.75].into_iter().for_each(|score| sums.scored(score));
        let tally = sums.tally();
        assert_eq!((tally.successes, tally.failures, tally.tokens), (2, 1, 15));
        assert!((tally.seconds.mean - 1.000_05).abs() < 1e-12);
        assert_eq!((tally.cost.picodollars(), tally.dollars.count), (3_000_000, 1));
        assert!((tally.score.mean - 0.5).abs() < 1e-12);
        assert!((tally.score.variance().unwrap() - 0.125).abs() < 1e-9);
    }
}
