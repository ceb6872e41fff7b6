//! Whose turn it is.

/// Shares out turns by weight, as evenly as can be: smooth weighted round robin, as nginx does it. Each who may takes
/// its weight in credit, the one with the most has its turn and pays what all have taken.
#[derive(Debug)]
pub(super) struct Turns {
    weights: Vec<u32>,
    credits: Vec<i64>,
}

impl Turns {
    pub(super) fn new(weights: Vec<u32>) -> Self {
        let credits = vec![0; weights.len()];
        Self { weights, credits }
    }

    /// The weight of one.
    pub(super) fn weight(&self, of: usize) -> u32 {
        self.weights.get(of).copied().unwrap_or_default()
    }

    /// Shares out the turns that follow by another weight of one. What others have saved up counts no more: it was
    /// by the old weights.
    pub(super) fn weigh(&mut self, of: usize, weight: u32) {
        if let Some(old) = self.weights.get_mut(of).filter(|old| **old != weight) {
            *old = weight;
            self.credits.fill(0);
        }
    }

    /// Who is next among those that may be.
    pub(super) fn next(&mut self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut total, mut best) = (0, None);
        for (i, (weight, credit)) in self.weights.iter().zip(&mut self.credits).enumerate() {
            if may(i) {
                let weight = i64::from(*weight);
                total += weight;
                *credit += weight;
                if best.is_none_or(|(_, most)| *credit > most) {
                    best = Some((i, *credit));
                }
            } else {
                // Who may not does not save up for later: it would have all turns at once then.
                *credit = 0;
            }
        }
        let (next, _) = best?;
        self.credits[next] -= total;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn turns_are_shared_by_weight(weights in prop::collection::vec(1_u32..50, 1..8), rounds in 1_usize..4) {
            let total = weights.iter().sum::<u32>() as usize;
            let mut turns = Turns::new(weights.clone());
            let mut had = vec![0_usize; weights.len()];
            for n in 1..=total * rounds {
                had[turns.next(|_| true).unwrap()] += 1;
                // At no moment is anybody far from its share.
                for (had, weight) in had.iter().zip(&weights) {
                    let share = n as f64 * f64::from(*weight) / total as f64;
                    prop_assert!((*had as f64 - share).abs() <= weights.len() as f64, "{had} of {share}");
                }
            }
            for (had, weight) in had.iter().zip(&weights) {
                prop_assert_eq!(*had, *weight as usize * rounds);
            }
        }

        #[test]
        fn turns_follow_another_weight_at_once(
            weights in prop::collection::vec(1_u32..50, 2..8),
            before in 0_usize..100,
            weight in 1_u32..50,
        ) {
            let mut turns = Turns::new(weights.clone());
            for _ in 0..before {
                turns.next(|_| true);
            }
            turns.weigh(1, weight);
            prop_assert_eq!(turns.weight(1), weight);
            let total = turns.weights.iter().sum::<u32>() as usize;
            let had = (0..total).filter(|_| turns.next(|_| true) == Some(1)).count();
            // The same weight again changes nothing, not even whose turn it is.
            prop_assert!(weight == weights[1] || had == weight as usize, "{} of {}", had, weight);
        }

        #[test]
        fn who_may_not_has_no_turn_and_the_others_have_all(
            weights in prop::collection::vec(1_u32..1_000, 1..8),
            may in prop::collection::vec(any::<u8>(), 1..50),
        ) {
            let mut turns = Turns::new(weights.clone());
            for may in may {
                let may = |i: usize| may >> i & 1 == 1;
                match turns.next(may) {
                    Some(next) => prop_assert!(may(next)),
                    None => prop_assert!((0..weights.len()).all(|i| !may(i))),
                }
            }
        }
    }
}
