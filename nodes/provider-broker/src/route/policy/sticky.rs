//! The same candidate for the same subject, on every node and after every restart.

use super::{Choice, arrival};
use sha2::{Digest as _, Sha256};

/// A number from 0 to 1 that is the same for the same texts, always and everywhere.
fn hash(purpose: &str, texts: &[&str]) -> f64 {
    let mut digest = Sha256::new_with_prefix(purpose);
    for text in texts {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
    let first = digest.finalize().iter().take(8).fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    // As many bits as a fraction has.
    (first >> 11) as f64 / (1_u64 << 53) as f64
}

/// The score of an arm of an experiment for a subject: the lowest has it.
pub(crate) fn arm_score(experiment: &str, arm: &str, weight: f64, subject: &str) -> f64 {
    arrival(hash("callboard experiment 1", &[experiment, arm, subject]), weight)
}

/// Rendezvous hashing with weights: each candidate has a score for the subject, and the best are first. Without one of them
/// the order of the others is the same, so only the subjects of that one move, and they spread over the others.
///
/// Thaler and Ravishankar, "A name-based mapping scheme for rendezvous" (1996); the weights are those of a race, as in
/// [`arrival`].
pub(super) fn rendezvous(places: &mut [usize], choices: &[Choice<'_>], subject: &str) {
    let score = |place: usize| {
        let Choice { provider, model, weight, .. } = choices[place];
        arrival(hash("callboard sticky 1", &[subject, provider, model]), weight)
    };
    let mut scored: Vec<_> = places.iter().map(|place| (score(*place), *place)).collect();
    scored.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (to, (_, place)) in places.iter_mut().zip(scored) {
        *to = place;
    }
}
