//! What waits in memory to be published, lane by lane: plain data.

use callboard_ports::handoff::Ready;
use callboard_ports::outbox::Lane;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The most ids that wait in memory, over all lanes. The outbox holds the rest.
const WAITING: usize = 20_000;
/// The most ids of one publish.
const BATCH: usize = 1_000;
/// Publishes of one lane under way at once: enough to hide how long a confirm takes.
const AT_ONCE: usize = 4;
/// From here on the outbox is not read for a lane: it would lease what waits here already.
const LOW: usize = 200;
/// The first and the longest pause of a lane whose queue refuses messages.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

#[derive(Default)]
struct Line {
    ready: VecDeque<Ready>,
    under_way: usize,
    refused: u32,
    until: Option<Instant>,
}

impl Line {
    fn pauses(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// What waits in memory.
#[derive(Default)]
pub(super) struct Lanes {
    lines: BTreeMap<Lane, Line>,
    waiting: usize,
    overflowed: bool,
    away: bool,
}

impl Lanes {
    /// Takes an id in, if there is room and the hand-off can be reached. Else the outbox has it.
    pub(super) fn offer(&mut self, ready: Ready) {
        if self.away || self.waiting >= WAITING {
            self.overflowed = true;
            return;
        }
        self.waiting += 1;
        self.lines.entry((ready.queue.clone(), ready.band)).or_default().ready.push_back(ready);
    }

    /// The next ids of one lane to publish now, of the lane with the fewest publishes under way. The lane has
    /// one more under way until it is [settled](Self::settle).
    pub(super) fn next(&mut self, now: Instant) -> Option<(Lane, Vec<Ready>)> {
        let may = |line: &Line| !line.ready.is_empty() && line.under_way < AT_ONCE && !line.pauses(now);
        let (lane, line) =
            self.lines.iter_mut().filter(|(_, line)| may(line)).min_by_key(|(_, line)| line.under_way)?;
        let count = line.ready.len().min(BATCH);
        let batch: Vec<_> = line.ready.drain(..count).collect();
        line.under_way += 1;
        self.waiting -= batch.len();
        Some((lane.clone(), batch))
    }

    /// A publish has ended. Where the queue refused something, the lane pauses; answers for how long.
    pub(super) fn settle(&mut self, lane: &Lane, refused: bool, now: Instant) -> Duration {
        let Some(line) = self.lines.get_mut(lane) else { return Duration::ZERO };
        line.under_way = line.under_way.saturating_sub(1);
        let mut pause = Duration::ZERO;
        if refused {
            pause = (BACKOFF.0 * 2_u32.pow(line.refused.min(10))).min(BACKOFF.1);
            line.refused += 1;
            line.until = Some(now + pause);
            // They have rows: whoever leases them next tries again.
            self.waiting -= line.ready.len();
            line.ready.clear();
            self.overflowed = true;
        } else if !line.pauses(now) {
            (line.refused, line.until) = (0, None);
        }
        if line.ready.is_empty() && line.under_way == 0 && line.until.is_none() {
            self.lines.remove(lane);
        }
        pause
    }

    /// The hand-off cannot be reached: what waits is left to the outbox, and what comes too.
    pub(super) fn leave(&mut self) {
        self.away = true;
        self.overflowed = true;
        self.waiting = 0;
        self.lines.values_mut().for_each(|line| line.ready.clear());
        self.lines.retain(|_, line| line.under_way > 0 || line.until.is_some());
    }

    /// The hand-off can be reached again.
    pub(super) fn come_back(&mut self) {
        self.away = false;
    }

    pub(super) fn is_away(&self) -> bool {
        self.away
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0 && self.lines.values().all(|line| line.under_way == 0)
    }

    /// The outbox may hold more than was taken in.
    pub(super) fn overflow(&mut self) {
        self.overflowed = true;
    }

    /// Whether the outbox has something that did not fit here, and there is room now. Tells it once.
    pub(super) fn wants_more(&mut self) -> bool {
        !self.away && self.waiting < LOW && std::mem::take(&mut self.overflowed)
    }

    /// The lanes not to lease, and how many rows of each other one.
    pub(super) fn room(&self, now: Instant) -> (Vec<Lane>, usize) {
        let busy = |line: &Line| line.ready.len() >= LOW || line.under_way >= AT_ONCE || line.pauses(now);
        let except = self.lines.iter().filter(|(_, line)| busy(line)).map(|(lane, _)| lane.clone()).collect();
        let lanes = self.lines.len().max(1);
        (except, (WAITING.saturating_sub(self.waiting) / lanes).clamp(10, BATCH))
    }

    /// When the next pause ends.
    pub(super) fn next_end(&self, now: Instant) -> Option<Instant> {
        self.lines.values().filter_map(|line| line.until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use callboard_domain::{Band, TaskId};

    fn ready(n: usize, queue: &str) -> Ready {
        let id = TaskId::from_bytes((n as u128).to_be_bytes());
        Ready { id, handoff: 1, queue: queue.into(), band: Band::Low, alone: false, not_before: None }
    }

    fn lane(queue: &str) -> Lane {
        (queue.into(), Band::Low)
    }

    #[test]
    fn a_lane_that_refuses_pauses_alone_and_longer_each_time() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.offer(ready(1, "full"));
        lanes.offer(ready(2, "free"));
        let (first, _) = lanes.next(now).unwrap();
        assert_eq!(first, lane("free"), "none is under way: in the order of their names");
        assert_eq!(lanes.next(now).unwrap().0, lane("full"));
        assert_eq!(lanes.settle(&lane("full"), true, now), BACKOFF.0);
        lanes.offer(ready(3, "full"));
        assert!(lanes.next(now).is_none(), "it pauses");
        assert_eq!(lanes.room(now).0, [lane("full")]);
        let later = now + BACKOFF.0;
        assert_eq!(lanes.next_end(now), Some(later));
        assert_eq!(lanes.next(later).unwrap().0, lane("full"));
        assert_eq!(lanes.settle(&lane("full"), true, later), BACKOFF.0 * 2);
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_outbox_and_fetched_when_there_is_room() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        (0..WAITING + 1).for_each(|n| lanes.offer(ready(n, "q")));
        assert_eq!(lanes.waiting(), WAITING);
        assert!(!lanes.wants_more(), "no room yet");
        while let Some((lane, batch)) = lanes.next(now) {
            assert!(batch.len() <= BATCH);
            lanes.settle(&lane, false, now);
        }
        assert!(lanes.is_empty());
        assert!(lanes.wants_more());
        assert!(!lanes.wants_more(), "told once");
    }

    #[test]
    fn while_the_handoff_is_away_nothing_is_kept() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.offer(ready(1, "q"));
        lanes.leave();
        lanes.offer(ready(2, "q"));
        assert!(lanes.is_empty() && lanes.next(now).is_none() && !lanes.wants_more());
        lanes.come_back();
        assert!(lanes.wants_more());
    }
}
