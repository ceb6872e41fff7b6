//! In which order the candidates of a call are tried: pure functions over what is known of them.
//!
//! A policy only ever puts candidates into an order. It leaves none out: those that may not be called now (a breaker is
//! open, a limit is reached) are left out on the way, and the next in this order is tried. So what is left keeps the
//! policy's order.

mod latency;
mod sticky;

pub(super) use latency::PeakEwma;
pub(crate) use sticky::arm_score;

use crate::config::Policy;
use callboard_domain::Money;

/// A candidate, as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub(super) provider: &'a str,
    pub(super) model: &'a str,
    pub(super) weight: u32,
    /// The stand-in for providers.
    pub(super) local: bool,
    /// How many tokens its model takes, if that is known.
    pub(super) context: Option<u32>,
}

/// What a policy is given beside the candidates; each is asked for only by the policy that needs it.
pub(super) struct Facts<'a> {
    /// Draws a number from 0 to 1.
    pub(super) draw: &'a dyn Fn() -> f64,
    /// How slow a candidate is, by its place; `None` if nobody knows yet.
    pub(super) slowness: &'a dyn Fn(usize) -> Option<f64>,
    /// What the call would cost with a candidate, by its place; `None` if nobody knows.
    pub(super) cost: &'a dyn Fn(usize) -> Option<Money>,
    /// What calls have in common that should go to the same candidate; empty: nothing.
    pub(super) subject: &'a str,
    /// How many tokens the call needs, about; zero if nothing can be told.
    pub(super) tokens: u32,
}

/// The places of the candidates, in the order in which they are tried: each exactly once.
pub(super) fn order(policy: Policy, choices: &[Choice<'_>], facts: &Facts<'_>) -> Vec<usize> {
    let (mut places, local): (Vec<_>, Vec<_>) = match policy {
        Policy::Priority => ((0..choices.len()).collect(), Vec::new()),
        _ => (0..choices.len()).partition(|place| !choices[*place].local),
    };
    let weight = |place: usize| choices[place].weight;
    match policy {
        Policy::Priority => {}
        Policy::Weighted => weighted(&mut places, weight, facts.draw),
        Policy::LeastLatency => least_latency(&mut places, facts),
        Policy::Cheapest => {
            places.sort_by_cached_key(|place| {
                (facts.cost)(*place).map_or((true, Money::default()), |cost| (false, cost))
            });
        }
        // Without a subject nothing speaks for one of them, but the weights.
        Policy::Sticky if facts.subject.is_empty() => weighted(&mut places, weight, facts.draw),
        Policy::Sticky => sticky::rendezvous(&mut places, choices, facts.subject),
    }
    // Stable: of those that fit, and of those that do not, the order stays.
    places.sort_by_key(|place| {
        let choice = &choices[*place];
        !choice.local && choice.context.is_some_and(|context| context < facts.tokens)
    });
    places.extend(local);
    places
}

/// Draws without putting back, each with its weight: the first is anybody with the share that its weight has, and if it is
/// left out or fails, so is the next among the rest.
///
/// It is a race of exponential clocks, after Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006).
fn weighted(places: &mut [usize], weight: impl Fn(usize) -> u32, draw: &dyn Fn() -> f64) {
    let mut arrivals: Vec<_> = places.iter().map(|place| (arrival(draw(), weight(*place)), *place)).collect();
    arrivals.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (to, (_, place)) in places.iter_mut().zip(arrivals) {
        *to = place;
    }
}

/// When a clock rings that rings `weight` times in a unit of time; never with a weight of zero. `drawn` is uniform from 0
/// to 1.
fn arrival(drawn: f64, weight: impl Into<f64>) -> f64 {
    let weight = weight.into();
    if weight > 0.0 { -(1.0 - drawn).max(f64::MIN_POSITIVE).ln() / weight } else { f64::INFINITY }
}

/// The power of two choices: of two that are drawn the faster is first. Behind it the rest, the fastest first.
///
/// Always the fastest would send all calls to one that was fast once: everybody's next call, and this node's until it hears
/// otherwise. Mitzenmacher, "The power of two choices in randomized load balancing" (2001).
fn least_latency(places: &mut [usize], facts: &Facts<'_>) {
    let Some(last) = places.len().checked_sub(1).filter(|last| *last > 0) else { return };
    // Who is not known yet is taken for the fastest, so that it is tried.
    let slowness = |place: usize| (facts.slowness)(place).unwrap_or(0.0);
    let pick = |among: usize| (((facts.draw)() * among as f64) as usize).min(among - 1);
    let first = pick(last + 1);
    let second = pick(last);
    let second = second + usize::from(second >= first);
    let faster = |a: usize, b: usize| if slowness(places[b]) < slowness(places[a]) { b } else { a };
    let won = faster(first, second);
    places.swap(0, won);
    places[1..].sort_by(|a, b| slowness(*a).total_cmp(&slowness(*b)).then(a.cmp(b)));
}

#[cfg(test)]
mod tests;
