use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How many sessions a node may end because connections to them were refused: within one timeout at most a
/// minority of the nodes, or one.
///
/// A broken network may refuse connections in the name of nodes that live. One that refuses all of them must
/// not end the cluster; those that are really dead are found silent a little later.
#[derive(Clone, Debug)]
pub struct Refusals {
    window: Duration,
    ended: VecDeque<Instant>,
    /// How many nodes were seen: the dead are still counted for a while.
    nodes: VecDeque<(Instant, usize)>,
}

impl Refusals {
    /// None ended yet. `window`: the session timeout.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self { window, ended: VecDeque::new(), nodes: VecDeque::new() }
    }

    /// So many nodes are live now, this one included.
    pub fn note_nodes(&mut self, now: Instant, nodes: usize) {
        self.forget(now);
        // Only what is larger than all that follows can be the largest.
        while self.nodes.back().is_some_and(|(_, before)| *before <= nodes) {
            self.nodes.pop_back();
        }
        self.nodes.push_back((now, nodes));
    }

    /// Takes the right to end one session now; `false` if there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        self.forget(now);
        let nodes = self.nodes.front().map_or(0, |(_, nodes)| *nodes);
        let most = (nodes.saturating_sub(1) / 2).max(1);
        if self.ended.len() >= most {
            return false;
        }
        self.ended.push_back(now);
        true
    }

    /// Gives the right taken at `taken` back: nothing was ended.
    pub fn give_back(&mut self, taken: Instant) {
        if let Some(at) = self.ended.iter().position(|at| *at == taken) {
            self.ended.remove(at);
        }
    }

    fn forget(&mut self, now: Instant) {
        let old = |at: Instant| now.duration_since(at) >= self.window;
        while self.ended.front().is_some_and(|at| old(*at)) {
            self.ended.pop_front();
        }
        // The last count stays, however old: it is the newest there is.
        while self.nodes.len() > 1 && self.nodes.front().is_some_and(|(at, _)| old(*at)) {
            self.nodes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minority_or_one_may_be_ended_within_a_timeout() {
        for (nodes, most) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3), (10, 4)] {
            let mut refusals = Refusals::new(Duration::from_secs(5));
            let start = Instant::now();
            refusals.note_nodes(start, nodes);
            let taken = (0..20).filter(|ms| refusals.take(start + Duration::from_millis(*ms))).count();
            assert_eq!(taken, most, "{nodes} nodes");
            assert!(!refusals.take(start + Duration::from_millis(4_999)));
            assert!(refusals.take(start + Duration::from_secs(5)), "{nodes} nodes, a timeout later");
        }
    }

    #[test]
    fn the_dead_of_this_timeout_still_count_as_nodes() {
        let mut refusals = Refusals::new(Duration::from_secs(5));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        refusals.note_nodes(at(0), 5);
        assert!(refusals.take(at(10)));
        refusals.note_nodes(at(1_000), 4);
        assert!(refusals.take(at(1_010)), "two of five");
        refusals.note_nodes(at(2_000), 3);
        assert!(!refusals.take(at(2_010)));
        refusals.note_nodes(at(7_500), 3);
        assert!(refusals.take(at(7_510)));
        assert!(!refusals.take(at(7_520)), "one of three");
    }

    #[test]
    fn a_right_that_was_not_used_is_given_back() {
        let mut refusals = Refusals::new(Duration::from_secs(5));
        let start = Instant::now();
        assert!(refusals.take(start));
        refusals.give_back(start);
        refusals.give_back(start);
        assert!(refusals.take(start));
        assert!(!refusals.take(start));
    }
}
