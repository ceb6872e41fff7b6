//! How similar two texts are, without keeping either: MinHash (Broder, "On the resemblance and containment of documents",
//! 1997) over pairs of words that follow each other.

use super::words::Word;

/// How many hashes: the standard error of the estimate is at most 1 / (2 * sqrt(128)), 4.4 per cent.
const HASHES: usize = 128;

/// For each hash the least value over all pairs.
pub(super) fn sketch<'a>(words: impl IntoIterator<Item = &'a Word>) -> Box<[u32]> {
    let mut least = vec![u32::MAX; HASHES].into_boxed_slice();
    let mut before = 0;
    let mut take = |shingle: u64| {
        let mut state = shingle;
        for slot in &mut least {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            *slot = (*slot).min((mix(state) >> 32) as u32);
        }
    };
    for word in words {
        let hash = fnv(&word.text.to_lowercase());
        take(mix(before).wrapping_add(hash));
        before = hash;
    }
    take(mix(before));
    least
}

/// The share of equal ones, in per cent: an estimate of the pairs in both among all pairs.
pub(super) fn percent(one: &[u32], two: &[u32]) -> u8 {
    if one.len() != two.len() || one.is_empty() {
        return 0;
    }
    let equal = one.iter().zip(two).filter(|(a, b)| a == b).count();
    u8::try_from(equal * 100 / one.len()).unwrap_or(100)
}

/// FNV-1a of 64 bits.
fn fnv(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What is estimated: the share of pairs that are in both.
    fn truth(one: &[u8], two: &[u8]) -> f64 {
        let pairs = |of: &[u8]| -> BTreeSet<(Option<u8>, Option<u8>)> {
            let firsts = std::iter::once(None).chain(of.iter().copied().map(Some));
            firsts.zip(of.iter().copied().map(Some).chain([None])).collect()
        };
        let (one, two) = (pairs(one), pairs(two));
        one.intersection(&two).count() as f64 / one.union(&two).count() as f64
    }

    fn sketched(of: &[u8]) -> Box<[u32]> {
        sketch(&words(&of.iter().map(|n| format!("w{n} ")).collect::<String>()))
    }

    proptest! {
        #[test]
        fn it_estimates_the_share_of_pairs_in_both(
            one in prop::collection::vec(0_u8..30, 1..60),
            cut in 0_usize..60,
            more in prop::collection::vec(0_u8..30, 0..30),
        ) {
            let two: Vec<u8> = one.iter().copied().take(cut).chain(more).collect();
            let estimate = f64::from(percent(&sketched(&one), &sketched(&two))) / 100.0;
            // Five standard errors, and the rounding.
            prop_assert!((estimate - truth(&one, &two)).abs() < 0.23, "{estimate} for {}", truth(&one, &two));
            prop_assert_eq!(percent(&sketched(&one), &sketched(&one)), 100);
        }
    }
}
