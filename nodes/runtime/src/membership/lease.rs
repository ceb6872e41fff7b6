use super::Timing;
use std::time::Duration;
use tokio::time::Instant;

/// A node's own renewals: whether it may claim, since when they have not failed, and whether it is cut off.
///
/// A renewal counts from when it was asked for, since nobody knows when within its call the store wrote it.
#[derive(Clone, Debug)]
pub struct Lease {
    timing: Timing,
    /// The last renewal that succeeded: when it was asked for and answered.
    last: Option<(Instant, Instant)>,
    /// Since when every renewal has succeeded, without a pause of this process.
    unbroken: Option<Instant>,
    /// When the first of the renewals that fail now was asked for.
    failing: Option<Instant>,
    /// Since when peers say that the store answers them, while renewals fail here.
    peers_reach_it: Option<Instant>,
    cut_off: bool,
}

impl Lease {
    /// No session yet: nothing may be claimed.
    #[must_use]
    pub const fn new(timing: Timing) -> Self {
        Self { timing, last: None, unbroken: None, failing: None, peers_reach_it: None, cut_off: false }
    }

    /// A session was opened, or renewed: asked for then, answered now. Returns whether that ends a time
    /// without renewals.
    pub fn renewed(&mut self, asked: Instant, answered: Instant) -> bool {
        let before = self.last;
        // A renewal may take its deadline, and a timer may be late; more is a pause in between.
        let slow = answered.duration_since(asked) > self.timing.deadline + self.timing.period / 2;
        let paused = before.is_some_and(|(_, then)| asked.duration_since(then) > self.timing.pause);
        if self.failing.is_some() || self.unbroken.is_none() || slow || paused {
            self.unbroken = Some(answered);
        }
        self.last = Some((asked, answered));
        self.peers_reach_it = None;
        self.cut_off = false;
        self.failing.take().is_some()
    }

    /// A renewal failed or ran out of time. Returns whether that begins a time without renewals.
    pub const fn failed(&mut self, asked: Instant) -> bool {
        self.unbroken = None;
        if self.failing.is_some() {
            return false;
        }
        self.failing = Some(asked);
        true
    }

    /// The session is over, or was ended here: nothing may be claimed until another is open.
    pub fn over(&mut self) {
        *self = Self::new(self.timing);
    }

    /// Whether tasks may be claimed: the last renewal succeeded.
    #[must_use]
    pub const fn may_claim(&self) -> bool {
        self.last.is_some() && self.failing.is_none()
    }

    /// Whether renewals fail now.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Since when the node's own renewals have all succeeded. `None` if they do not now: nothing that is seen
    /// of others then is held against them.
    #[must_use]
    pub fn unbroken(&self, now: Instant) -> Option<Instant> {
        let (_, answered) = self.last?;
        // A renewal may be under way, but not for longer than it may take.
        let current = now.duration_since(answered) <= self.timing.period + self.timing.deadline;
        self.unbroken.filter(|_| current)
    }

    /// Whether the last renewal says that the store can be reached. If not, a ping may still.
    #[must_use]
    pub fn store_answers(&self, now: Instant) -> bool {
        self.failing.is_none()
            && self.last.is_some_and(|(_, answered)| now.duration_since(answered) <= self.timing.fresh)
    }

    /// The peers were asked whether the store answers them: it answers one at least (`Some(true)`), or none of
    /// those that said anything (`Some(false)`), or none said anything.
    pub fn heard(&mut self, at: Instant, reached: Option<bool>) {
        let Some(failing) = self.failing else { return };
        // A peer speaks of a renewal that may be as old as `fresh`: one from before the store failed here
        // proves nothing, or the end of the store itself would look as if it had left only this node.
        if let Some(reached) = reached
            && at.saturating_duration_since(failing) >= self.timing.fresh
        {
            self.peers_reach_it = reached.then(|| self.peers_reach_it.unwrap_or(at));
        }
    }

    /// Whether the node has just become cut off: the store answers others, and its own last renewal is 80% of
    /// the timeout ago. Says so once; a renewal ends it.
    ///
    /// Where the store comes back from an outage it answers some node first: the others get to renew before
    /// they believe that it left only them.
    pub fn is_newly_cut_off(&mut self, now: Instant) -> bool {
        let overdue = self.silence(now).is_some_and(|silence| silence >= self.timing.cancel_at);
        let tried = self.peers_reach_it.is_some_and(|at| now.duration_since(at) >= self.timing.period);
        let newly = self.failing.is_some() && tried && overdue && !self.cut_off;
        self.cut_off |= newly;
        newly
    }

    /// Whether it is cut off, and has said so.
    #[must_use]
    pub const fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    /// How long ago the last renewal was asked for that succeeded.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        self.last.map(|(asked, _)| now.duration_since(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        lease: Lease,
        start: Instant,
    }

    impl Case {
        fn new() -> Self {
            Self { lease: Lease::new(Timing::default()), start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn renewed(&mut self, asked: u64, answered: u64) -> bool {
            let (asked, answered) = (self.at(asked), self.at(answered));
            self.lease.renewed(asked, answered)
        }

        fn failed(&mut self, asked: u64) -> bool {
            let asked = self.at(asked);
            self.lease.failed(asked)
        }

        fn heard(&mut self, at: u64, reached: Option<bool>) {
            let at = self.at(at);
            self.lease.heard(at, reached);
        }

        fn cut_off(&mut self, now: u64) -> bool {
            let now = self.at(now);
            self.lease.is_newly_cut_off(now)
        }

        fn unbroken(&self, now: u64) -> Option<u64> {
            let since = self.lease.unbroken(self.at(now))?;
            Some(u64::try_from(since.duration_since(self.start).as_millis()).unwrap())
        }
    }

    #[test]
    fn a_node_that_cannot_renew_stops_claiming_at_once_and_starts_again_with_the_next_renewal() {
        let mut case = Case::new();
        assert!(!case.lease.may_claim(), "without a session");
        assert!(!case.renewed(0, 5));
        assert!(case.lease.may_claim());
        assert!(case.failed(1_000));
        assert!(!case.failed(1_300), "it began before");
        assert!(!case.lease.may_claim());
        assert!(case.renewed(1_600, 1_610), "it ends");
        assert!(case.lease.may_claim());
        case.lease.over();
        assert!(!case.lease.may_claim());
    }

    #[test]
    fn renewals_are_unbroken_since_the_last_failure_or_pause() {
        let mut case = Case::new();
        assert_eq!(case.unbroken(0), None);
        for second in 0..4 {
            case.renewed(second * 1_000, second * 1_000 + 10);
        }
        assert_eq!(case.unbroken(3_500), Some(10));
        case.failed(4_000);
        assert_eq!(case.unbroken(4_010), None);
        case.renewed(4_300, 4_310);
        case.renewed(5_300, 5_310);
        assert_eq!(case.unbroken(5_400), Some(4_310), "a failure breaks them");
        case.renewed(17_300, 17_310);
        assert_eq!(case.unbroken(17_400), Some(17_310), "a pause between two breaks them");
        case.renewed(18_300, 30_300);
        assert_eq!(case.unbroken(30_400), Some(30_300), "a pause within one breaks them");
        case.renewed(31_300, 33_300);
        assert_eq!(case.unbroken(33_400), Some(30_300), "a slow one does not");
        assert_eq!(case.unbroken(36_400), None, "none for longer than one may take");
    }

    #[test]
    fn the_store_answers_for_as_long_as_a_renewal_is_fresh() {
        let mut case = Case::new();
        assert!(!case.lease.store_answers(case.at(0)));
        case.renewed(0, 10);
        assert!(case.lease.store_answers(case.at(1_510)));
        assert!(!case.lease.store_answers(case.at(1_511)));
        case.renewed(1_000, 1_010);
        case.failed(1_100);
        assert!(!case.lease.store_answers(case.at(1_101)));
    }

    #[test]
    fn a_node_is_cut_off_at_four_fifths_of_the_timeout_if_a_peer_is_answered() {
        let mut case = Case::new();
        case.renewed(0, 10);
        case.failed(1_000);
        case.heard(2_600, Some(true));
        assert!(!case.cut_off(3_999));
        assert!(case.cut_off(4_000));
        assert!(case.lease.is_cut_off());
        assert!(!case.cut_off(4_100), "once");
        case.renewed(4_200, 4_210);
        assert!(!case.lease.is_cut_off(), "a renewal ends it");
        case.failed(5_200);
        assert!(!case.cut_off(20_000), "what peers said before is void");
    }

    #[test]
    fn an_outage_of_the_store_cuts_nobody_off() {
        // (when peers spoke, what they said), and whether that cuts off.
        type Row = (&'static [(u64, Option<bool>)], bool);
        let cases: [Row; 6] = [
            (&[], false),
            (&[(2_600, None), (3_100, None)], false),
            (&[(2_600, Some(false)), (3_600, Some(false))], false),
            // The peer's last renewal may have been before the store went away.
            (&[(2_400, Some(true))], false),
            (&[(2_400, Some(true)), (2_900, Some(false))], false),
            // Whoever does not answer takes nothing back.
            (&[(2_600, Some(true)), (3_100, None)], true),
        ];
        for (said, expected) in cases {
            let mut case = Case::new();
            case.renewed(0, 10);
            case.failed(1_000);
            for (at, reached) in said {
                case.heard(*at, *reached);
            }
            assert_eq!(case.cut_off(60_000), expected, "{said:?}");
        }
    }

    #[test]
    fn a_store_that_comes_back_is_renewed_at_before_its_peers_are_believed() {
        let mut case = Case::new();
        case.renewed(0, 10);
        case.failed(1_000);
        case.heard(3_000, Some(false));
        // After an outage of 9 s a peer is answered first.
        case.heard(9_500, Some(true));
        assert!(!case.cut_off(9_500));
        assert!(!case.cut_off(10_499), "its own next renewal is under way");
        case.heard(10_000, Some(true));
        assert!(case.cut_off(10_500));
    }

    #[test]
    fn what_peers_say_while_renewals_succeed_is_not_kept() {
        let mut case = Case::new();
        case.renewed(0, 10);
        case.heard(500, Some(true));
        case.failed(1_000);
        assert!(!case.cut_off(60_000));
    }
}
