//! Whether a limit held: no span of time has more tokens than it may have.

use crate::node::{BURST, RATE};
use crate::plan::NODES;

/// The most tokens that any span of time had over what it may have; below zero if none had.
///
/// A token is given out some time between the call and its answer, both in microseconds: it counts for the spans
/// that hold both, so that a paused node, which hears late, accuses nobody. While a node is `apart` from Redis it
/// lives on its own share beside what the others have, and pays back when it returns.
pub(crate) fn most_over(mut tokens: Vec<(i64, i64)>, apart: &[(i64, i64)]) -> f64 {
    tokens.sort_unstable_by_key(|(_, known)| *known);
    let mut most = f64::NEG_INFINITY;
    for (from, _) in &tokens {
        let mut count = 0.0;
        for (asked, to) in &tokens {
            if asked < from {
                continue;
            }
            count += 1.0;
            let over = count - BURST - RATE * seconds(*from, *to);
            if over > most {
                most = most.max(over - beside(*from, *to, apart));
            }
        }
    }
    most
}

/// What shares may give out beside the limit in a span.
fn beside(from: i64, to: i64, apart: &[(i64, i64)]) -> f64 {
    let share = RATE / f64::from(NODES);
    apart.iter().map(|(cut, healed)| share * seconds(from.max(*cut), to.min(*healed)).max(0.0)).sum()
}

fn seconds(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1e6
}
