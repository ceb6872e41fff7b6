//! This node's share of every bucket, while Redis is away.
//!
//! A share has the rate and the burst of the bucket divided by the number of nodes, and starts empty: the
//! nodes together then never pass more than the rate since they lost Redis, whatever they had taken before.
//! A call that costs more than the burst of a share passes when the share is full, and leaves it in debt.
//!
//! Shares that would be full are forgotten, at most so many as were asked for are kept, and one that is not
//! full is never forgotten: past the bound a new one is refused.

use callboard_ports::token_buckets::{Decision, Level};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Less than this of a token is lost in rounding.
const ROUNDING: f64 = 1e-6;
/// Past the bound, full shares are looked for no more often than this.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// No more shares can be kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The shares of one time without Redis.
#[derive(Debug)]
pub(super) struct Shares {
    /// Since when.
    since: Instant,
    by_key: HashMap<String, Share>,
    most: usize,
    swept: Option<Instant>,
}

/// What a share held at a moment, and how it fills up.
#[derive(Clone, Copy, Debug)]
struct Share {
    tokens: f64,
    at: Instant,
    rate: f64,
    burst: f64,
    /// What has been taken from it, less what was given back.
    spent: f64,
    /// The whole bucket.
    whole: (f64, f64),
}

impl Share {
    fn tokens(&self, rate: f64, burst: f64, now: Instant) -> f64 {
        let span = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens + span * rate).min(burst)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.tokens(self.rate, self.burst, now) >= self.burst
    }

    /// What was taken and has not come back.
    fn deficit(&self, now: Instant) -> f64 {
        self.spent.min(self.burst - self.tokens(self.rate, self.burst, now)).max(0.0)
    }
}

impl Shares {
    pub(super) fn new(most: usize, since: Instant) -> Self {
        Self { since, by_key: HashMap::new(), most: most.max(1), swept: None }
    }

    /// Since when Redis is away.
    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// Debits this node's share of every level, or of none. The cost is a number.
    pub(super) fn take(
        &mut self,
        levels: &[Level],
        cost: f64,
        nodes: usize,
        now: Instant,
    ) -> Result<Decision, Full> {
        for level in levels {
            let (rate, burst) = share_of(level, nodes);
            let tokens = self.tokens(&level.key, rate, burst, now);
            let wanted = cost.min(burst);
            if cost > level.burst + ROUNDING || tokens + ROUNDING < wanted {
                let micros = ((wanted - tokens) / rate * 1e6).ceil();
                let wait = Duration::try_from_secs_f64(micros / 1e6).ok();
                let retry_after = wait.filter(|_| cost <= level.burst + ROUNDING);
                return Ok(Decision::Denied { level: level.key.clone(), retry_after });
            }
        }
        self.settle(levels, cost, nodes, now).map(|()| Decision::Allowed)
    }

    /// Debits this node's share of every level, below zero if need be.
    pub(super) fn settle(
        &mut self,
        levels: &[Level],
        cost: f64,
        nodes: usize,
        now: Instant,
    ) -> Result<(), Full> {
        self.make_room(levels, now)?;
        for level in levels {
            let (rate, burst) = share_of(level, nodes);
            let tokens = (self.tokens(&level.key, rate, burst, now) - cost).min(burst);
            let spent = self.by_key.get(&level.key).map_or(0.0, |share| share.spent) + cost;
            let share = Share { tokens, at: now, rate, burst, spent, whole: (level.rate, level.burst) };
            match self.by_key.get_mut(&level.key) {
                Some(known) => *known = share,
                None => {
                    self.by_key.insert(level.key.clone(), share);
                }
            }
        }
        Ok(())
    }

    /// What was taken here and has not come back: Redis, which counted that time for nobody, owes it.
    pub(super) fn deficits(&self, now: Instant) -> Vec<(Level, f64)> {
        let owed = |(key, share): (&String, &Share)| {
            let (rate, burst) = share.whole;
            let deficit = share.deficit(now);
            (deficit > ROUNDING).then(|| (Level { key: key.clone(), rate, burst }, deficit))
        };
        self.by_key.iter().filter_map(owed).collect()
    }

    fn tokens(&self, key: &str, rate: f64, burst: f64, now: Instant) -> f64 {
        let unused = || (now.saturating_duration_since(self.since).as_secs_f64() * rate).min(burst);
        self.by_key.get(key).map_or_else(unused, |share| share.tokens(rate, burst, now))
    }

    fn make_room(&mut self, levels: &[Level], now: Instant) -> Result<(), Full> {
        let new = levels.iter().filter(|level| !self.by_key.contains_key(&level.key)).count();
        if self.by_key.len() + new <= self.most {
            return Ok(());
        }
        if self.swept.is_none_or(|at| now >= at + SWEEP_EVERY) {
            self.by_key.retain(|_, share| !share.is_full(now));
            self.swept = Some(now);
        }
        if new > 0 && self.by_key.len() + new > self.most { Err(Full) } else { Ok(()) }
    }
}

fn share_of(level: &Level, nodes: usize) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "no cluster has 2^52 nodes")]
    let nodes = nodes.max(1) as f64;
    (level.rate / nodes, level.burst / nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn level(key: &str, rate: f64, burst: f64) -> [Level; 1] {
        [Level { key: key.into(), rate, burst }]
    }

    fn passes(shares: &mut Shares, level: &[Level], cost: f64, now: Instant) -> bool {
        shares.take(level, cost, 3, now) == Ok(Decision::Allowed)
    }

    #[test]
    fn three_nodes_together_pass_no_more_than_the_rate() {
        let start = Instant::now();
        let mut nodes: Vec<_> = (0..3).map(|_| Shares::new(10, start)).collect();
        let (a, mut passed) = (level("a", 30.0, 300.0), 0.0);
        for millis in 0..10_000 {
            for node in &mut nodes {
                passed += f64::from(passes(node, &a, 1.0, start + Duration::from_millis(millis)));
            }
        }
        assert!((297.0..=300.0).contains(&passed), "{passed} passed at 30/s in 10 s");
    }

    #[test]
    fn a_share_starts_empty_and_holds_its_part_of_the_burst() {
        let start = Instant::now();
        let (mut shares, a) = (Shares::new(10, start), level("a", 30.0, 30.0));
        let denied = Decision::Denied { level: "a".into(), retry_after: Some(SECOND / 2) };
        assert_eq!(shares.take(&a, 5.0, 3, start), Ok(denied), "10 tokens a second are this node's");
        let now = start + 100 * SECOND;
        for _ in 0..10 {
            assert!(passes(&mut shares, &a, 1.0, now));
        }
        assert!(!passes(&mut shares, &a, 1.0, now), "ten of thirty are this node's");
    }

    #[test]
    fn a_cost_over_the_share_passes_when_it_is_full_and_is_paid_off() {
        let start = Instant::now();
        let (mut shares, a) = (Shares::new(10, start), level("a", 30.0, 30.0));
        assert!(!passes(&mut shares, &a, 25.0, start + SECOND / 2));
        let now = start + SECOND;
        assert!(passes(&mut shares, &a, 25.0, now));
        let denied = Decision::Denied { level: "a".into(), retry_after: Some(Duration::from_millis(1_600)) };
        assert_eq!(shares.take(&a, 1.0, 3, now), Ok(denied), "fifteen are owed");
        let never = Decision::Denied { level: "a".into(), retry_after: None };
        assert_eq!(shares.take(&a, 31.0, 3, now), Ok(never));
    }

    #[test]
    fn what_was_taken_and_has_not_come_back_is_owed() {
        let start = Instant::now();
        let (mut shares, a) = (Shares::new(10, start), level("a", 30.0, 30.0));
        let now = start + SECOND;
        assert!(passes(&mut shares, &a, 4.0, now));
        let [(of, owed)] = &shares.deficits(now)[..] else { panic!("{:?}", shares.deficits(now)) };
        assert_eq!((of, *owed), (&a[0], 4.0), "of the whole bucket");
        assert_eq!(shares.deficits(now + SECOND / 5)[0].1, 2.0, "half has come back");
        assert_eq!(shares.deficits(now + SECOND), []);
        // An empty start is nobody's debt.
        let (mut shares, early) = (Shares::new(10, start), start + SECOND / 10);
        assert!(passes(&mut shares, &a, 0.5, early));
        assert_eq!(shares.deficits(early)[0].1, 0.5);
    }

    #[test]
    fn full_shares_make_room_and_no_other() {
        let start = Instant::now();
        let (mut shares, mut now) = (Shares::new(2, start), start + SECOND);
        for key in ["a", "b"] {
            assert!(passes(&mut shares, &level(key, 3.0, 3.0), 1.0, now));
        }
        let c = level("c", 3.0, 3.0);
        assert_eq!(shares.take(&c, 1.0, 3, now), Err(Full));
        assert_eq!(shares.settle(&level("a", 3.0, 3.0), 1.0, 3, now), Ok(()), "those that are known go on");
        now += SECOND;
        assert!(passes(&mut shares, &c, 1.0, now), "b is full again");
        assert!(!passes(&mut shares, &level("a", 3.0, 3.0), 1.0, now), "a was forgotten");
    }
}
