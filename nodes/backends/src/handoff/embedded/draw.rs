//! Which band is drawn next: a smooth weighted turn, as nginx does between its servers.

use callboard_domain::Band;

/// The state of the turns among the bands of one queue.
///
/// Each draw gives every band that has something its weight as credit, picks the one with the most, and takes
/// from it what all were given. So over a full turn each is drawn as often as its weight says, spread out
/// evenly. A band that is empty gains nothing meanwhile: it cannot save up for a burst.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Draw {
    credit: [i64; 3],
}

impl Draw {
    /// The next band among those that have something, or `None` if none has.
    pub(super) fn next(&mut self, has: [bool; 3]) -> Option<Band> {
        let (mut best, mut given) = (None, 0);
        for band in Band::ALL.into_iter().filter(|b| has[usize::from(b.index())]) {
            let credit = &mut self.credit[usize::from(band.index())];
            let weight = i64::from(band.weight());
            *credit += weight;
            given += weight;
            if best.is_none_or(|(most, _)| *credit >= most) {
                best = Some((*credit, band));
            }
        }
        let (_, band) = best?;
        self.credit[usize::from(band.index())] -= given;
        Some(band)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_turn_holds_each_band_as_often_as_its_weight_says() {
        let mut draw = Draw::default();
        for _ in 0..100 {
            let mut turn = [0; 3];
            for _ in 0..21 {
                turn[usize::from(draw.next([true; 3]).unwrap().index())] += 1;
            }
            assert_eq!(turn, [1, 4, 16]);
        }
    }

    #[test]
    fn empty_bands_are_never_drawn_and_save_nothing_up() {
        let mut draw = Draw::default();
        assert_eq!(draw.next([false; 3]), None);
        for _ in 0..1_000 {
            assert_eq!(draw.next([false, false, true]), Some(Band::High));
        }
        let turn: Vec<_> = (0..5).filter_map(|_| draw.next([true, true, false])).collect();
        assert_eq!(turn.iter().filter(|b| **b == Band::Low).count(), 1, "{turn:?}");
    }
}
