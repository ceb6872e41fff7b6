//! How many nodes share a limit while nobody can count it for all of them.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// For how long a node that is no longer seen still counts: it may be cut off from us and take its share.
const SPAN: Duration = Duration::from_secs(60);

/// The largest number of nodes of the last minute.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// When each number was last seen; a later entry is smaller than all before it.
    seen: VecDeque<(Instant, usize)>,
}

impl Crowd {
    /// So many nodes are seen now. This one is always among them.
    pub(super) fn see(&mut self, nodes: usize, now: Instant) {
        let nodes = nodes.max(1);
        while self.seen.back().is_some_and(|(_, smaller)| *smaller <= nodes) {
            self.seen.pop_back();
        }
        self.seen.push_back((now, nodes));
        self.forget(now);
    }

    /// The largest number of the last minute.
    pub(super) fn largest(&self) -> usize {
        self.seen.front().map_or(1, |(_, nodes)| *nodes)
    }

    fn forget(&mut self, now: Instant) {
        while self.seen.len() > 1 && self.seen.front().is_some_and(|(at, _)| now.duration_since(*at) > SPAN) {
            self.seen.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_number_counts_for_a_minute() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        assert_eq!(crowd.largest(), 1, "this node");
        for (second, nodes, largest) in
            [(0, 3, 3), (1, 5, 5), (2, 0, 5), (30, 2, 5), (61, 1, 5), (62, 1, 2), (91, 1, 1), (92, 7, 7)]
        {
            crowd.see(nodes, start + Duration::from_secs(second));
            assert_eq!(crowd.largest(), largest, "after {second} s");
        }
    }

    #[test]
    fn a_steady_number_is_one_entry() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        for second in 0..1_000 {
            crowd.see(3, start + Duration::from_secs(second));
        }
        assert_eq!(crowd.seen.len(), 1);
    }
}
