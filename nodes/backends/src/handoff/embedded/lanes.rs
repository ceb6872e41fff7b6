//! The lanes: plain data, no clock, no lock, no I/O.

use super::Stats;
use super::draw::Draw;
use callboard_domain::{TaskId, Timestamp};
use callboard_ports::handoff::{Queues, Ready, Want};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Past so many lanes' worth of ids in all, a lane holds [`CROWDED`] of its capacity.
const LANES_WORTH: usize = 20;
/// The share of its capacity that a lane holds while too many others are full.
const CROWDED: usize = 64;
/// Idle queues are forgotten once there are so many.
const QUEUES: usize = 64;
/// A refill reads over at most so many lanes' worth of tasks that do not fit, to those that may.
const REACH: usize = 4;

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is in a lane now.
    Taken,
    /// This hand-off of it, or a later one, is in a lane or a delivery already.
    Known,
    /// Its lane is at its bound: it is in the store alone.
    Full,
}

/// Which lanes a refill is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All, also those that are not known yet.
    All,
    /// Those that have overflowed and run low.
    Low,
}

/// What to read from the store for a refill.
pub(super) struct Plan {
    scope: Scope,
    /// Of which queues; empty means all.
    pub(super) queues: Vec<Arc<str>>,
    /// How many of each queue and band.
    pub(super) limit: usize,
}

/// Where in its lane a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    Waiting,
    Alone,
    Parked,
}

impl Line {
    fn of(ready: &Ready, now: &dyn Fn() -> Timestamp) -> Self {
        match ready.not_before {
            Some(due) if due > now() => Self::Parked,
            _ if ready.alone => Self::Alone,
            _ => Self::Waiting,
        }
    }
}

/// What the store's answer held of one lane.
#[derive(Default)]
struct Seen {
    rows: usize,
    unfit: usize,
    full: HashSet<Line>,
}

/// One band of one queue.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Ready>,
    /// Those that must be delivered by themselves.
    alone: VecDeque<Ready>,
    /// How many wait for their time, in [`Lanes::parked`].
    parked: usize,
    in_flight: usize,
    /// The store holds tasks of this lane that are not known here. Until a refill has caught up, what is
    /// offered stays there too: it must not overtake them.
    overflowed: bool,
    /// What was offered while a refill reads the store, which may not have seen it.
    late: Option<Late>,
    /// How many tasks of the last refill did not fit: the next one reads past them. They may be those that
    /// wait for their time or must be alone, and those behind them could be taken now.
    unfit: usize,
}

#[derive(Default)]
struct Late {
    tasks: Vec<Ready>,
    lost: bool,
}

impl Lane {
    fn known(&self) -> usize {
        self.waiting.len() + self.alone.len() + self.parked + self.in_flight
    }

    /// How far a refill reads: past all that is known or did not fit, so that a full answer holds something new.
    fn reach(&self, capacity: usize) -> usize {
        self.known() + self.unfit.min(REACH * capacity) + capacity
    }

    fn line(&mut self, alone: bool) -> &mut VecDeque<Ready> {
        if alone { &mut self.alone } else { &mut self.waiting }
    }

    fn has(&self, alone: bool) -> bool {
        if alone { !self.alone.is_empty() } else { !self.waiting.is_empty() }
    }

    fn runs_low(&self, capacity: usize) -> bool {
        self.overflowed && self.waiting.len() * 4 < capacity
    }
}

struct Queue {
    name: Arc<str>,
    lanes: [Lane; 3],
    /// The turns among those that may come together, and among those that must be alone.
    draws: [Draw; 2],
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|l| l.known() == 0 && !l.overflowed)
    }
}

/// A lane by its place: the queue's index and the band. Valid until [`Lanes::forget_idle_queues`].
type Slot = (usize, usize);

/// All lanes.
pub(super) struct Lanes {
    capacity: usize,
    queues: Vec<Queue>,
    index: HashMap<Arc<str>, usize>,
    /// The newest hand-off of every id in a lane or a delivery. An entry of a lane with another number is
    /// stale, and skipped when its turn comes.
    known: HashMap<TaskId, u64>,
    /// Those whose time has not come, by it and by the order they came in.
    parked: BTreeMap<(Timestamp, u64), Ready>,
    parked_count: u64,
    /// Which queue has the next turn.
    turn: usize,
    forget_at: usize,
}

impl Lanes {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            queues: Vec::new(),
            index: HashMap::new(),
            known: HashMap::new(),
            parked: BTreeMap::new(),
            parked_count: 0,
            turn: 0,
            forget_at: QUEUES,
        }
    }

    /// Takes in a task that was queued.
    pub(super) fn offer(&mut self, ready: &Ready, now: &dyn Fn() -> Timestamp) -> Offer {
        if self.is_known(ready) {
            return Offer::Known;
        }
        if self.queues.len() >= self.forget_at && !self.index.contains_key(&ready.queue) {
            self.forget_idle_queues();
        }
        let (slot, capacity) = (self.slot(ready), self.lane_capacity());
        let lane = self.lane(slot);
        if !lane.overflowed {
            return self.place(slot, ready, Line::of(ready, now));
        }
        if let Some(late) = &mut lane.late {
            if late.tasks.len() < capacity {
                late.tasks.push(ready.clone());
            } else {
                late.lost = true;
            }
        }
        Offer::Full
    }

    /// Takes out what a consumer of these queues wants.
    pub(super) fn take(&mut self, queues: &Queues, want: Want) -> Vec<Ready> {
        if want.tasks == 0 {
            return Vec::new();
        }
        let mut turns = self.turns(queues);
        if want.alone {
            let suspect = turns.iter().find_map(|queue| self.pop(*queue, true));
            if let Some(ready) = suspect {
                return vec![ready];
            }
        }
        let (mut tasks, mut at) = (Vec::new(), 0);
        while tasks.len() < want.tasks && !turns.is_empty() {
            at %= turns.len();
            match self.pop(turns[at], false) {
                Some(ready) => {
                    tasks.push(ready);
                    at += 1;
                }
                None => {
                    turns.remove(at);
                }
            }
        }
        tasks
    }

    /// Ends a delivery: its tasks are forgotten, or wait again before all others.
    pub(super) fn settle(&mut self, tasks: Vec<Ready>, acked: bool) {
        for ready in tasks.into_iter().rev() {
            let slot = self.slot(&ready);
            let lane = &mut self.queues[slot.0].lanes[slot.1];
            lane.in_flight = lane.in_flight.saturating_sub(1);
            match self.known.get(&ready.id) {
                // A later hand-off of it came meanwhile and stands for itself.
                Some(newest) if *newest > ready.handoff => {}
                _ if acked => {
                    self.known.remove(&ready.id);
                }
                _ => {
                    self.known.insert(ready.id, ready.handoff);
                    lane.line(ready.alone).push_front(ready);
                }
            }
        }
    }

    /// Whether nothing waits that may be taken, here or in the store alone.
    pub(super) fn are_dry(&self) -> bool {
        let is_dry = |lane: &Lane| lane.waiting.is_empty() && lane.alone.is_empty() && !lane.overflowed;
        self.queues.iter().flat_map(|queue| &queue.lanes).all(is_dry)
    }

    /// Whether any task waits for its time.
    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Moves the tasks whose time has come into their lanes, and tells when the next one's comes.
    pub(super) fn release(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some(entry) = self.parked.first_entry() {
            let due = entry.key().0;
            if due > now {
                return Some(due);
            }
            let ready = entry.remove();
            let slot = self.slot(&ready);
            self.lane(slot).parked -= 1;
            if self.known.get(&ready.id) == Some(&ready.handoff) {
                self.lane(slot).line(ready.alone).push_back(ready);
            }
        }
        None
    }

    /// Whether a lane that has more in the store should be read from there.
    pub(super) fn runs_low(&self) -> bool {
        let capacity = self.lane_capacity();
        self.lanes().any(|lane| lane.runs_low(capacity))
    }

    /// Begins a refill. What is offered to its lanes from now on is kept aside until it ends with
    /// [`merge`](Self::merge) or [`abandon`](Self::abandon).
    pub(super) fn plan(&mut self, scope: Scope) -> Plan {
        let capacity = self.lane_capacity();
        let (mut queues, mut limit) = (Vec::new(), capacity);
        for queue in &mut self.queues {
            let mut wanted = false;
            for lane in &mut queue.lanes {
                let refills = scope == Scope::All || lane.runs_low(capacity);
                lane.late = (refills && lane.overflowed).then(Late::default);
                if refills {
                    wanted = true;
                    limit = limit.max(lane.reach(capacity));
                }
            }
            if wanted && scope == Scope::Low {
                queues.push(queue.name.clone());
            }
        }
        Plan { scope, queues, limit }
    }

    /// Ends a refill with what the store answered, oldest first, and returns how many were new.
    pub(super) fn merge(&mut self, plan: &Plan, rows: &[Ready], now: &dyn Fn() -> Timestamp) -> usize {
        let mut added = 0;
        let mut seen: HashMap<Slot, Seen> = HashMap::new();
        for ready in rows {
            let slot = self.slot(ready);
            if plan.scope == Scope::Low && self.lane(slot).late.is_none() {
                continue;
            }
            let seen = seen.entry(slot).or_default();
            seen.rows += 1;
            if self.is_known(ready) {
                continue;
            }
            let line = Line::of(ready, now);
            // Past the first that does not fit, a later one must not slip in before it.
            if seen.full.contains(&line) || self.place(slot, ready, line) == Offer::Full {
                seen.full.insert(line);
                seen.unfit += 1;
            } else {
                added += 1;
            }
        }
        for queue in 0..self.queues.len() {
            for band in 0..3 {
                let slot = (queue, band);
                let seen = seen.remove(&slot).unwrap_or_default();
                added += self.catch_up(slot, &seen, plan.limit, now);
            }
        }
        added
    }

    /// Ends a refill that the store did not answer: its lanes stay as they were.
    pub(super) fn abandon(&mut self) -> usize {
        for lane in self.queues.iter_mut().flat_map(|q| &mut q.lanes) {
            lane.late = None;
        }
        0
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for lane in self.lanes() {
            stats.waiting += lane.waiting.len() + lane.alone.len();
            stats.parked += lane.parked;
            stats.in_flight += lane.in_flight;
            stats.overflowed += usize::from(lane.overflowed);
        }
        stats
    }

    /// Ends the refill of one lane.
    fn catch_up(&mut self, slot: Slot, seen: &Seen, limit: usize, now: &dyn Fn() -> Timestamp) -> usize {
        let lane = self.lane(slot);
        // Whether the answer held all of the lane, and it all fitted.
        let whole = seen.rows < limit && seen.unfit == 0;
        let Some(late) = lane.late.take() else {
            lane.overflowed |= !whole;
            return 0;
        };
        lane.unfit = seen.unfit;
        if !whole || late.lost {
            return 0;
        }
        lane.overflowed = false;
        // One that does not fit marks the lane as overflowed again, and those after it stay in the store.
        late.tasks.iter().filter(|ready| self.offer(ready, now) == Offer::Taken).count()
    }

    fn is_known(&self, ready: &Ready) -> bool {
        self.known.get(&ready.id).is_some_and(|newest| *newest >= ready.handoff)
    }

    fn place(&mut self, slot: Slot, ready: &Ready, line: Line) -> Offer {
        let capacity = self.lane_capacity();
        let lane = &mut self.queues[slot.0].lanes[slot.1];
        let held = match line {
            Line::Waiting => lane.waiting.len(),
            Line::Alone => lane.alone.len(),
            Line::Parked => lane.parked,
        };
        if held >= capacity {
            lane.overflowed = true;
            return Offer::Full;
        }
        if line == Line::Parked {
            lane.parked += 1;
            self.parked_count += 1;
            let due = ready.not_before.unwrap_or_default();
            self.parked.insert((due, self.parked_count), ready.clone());
        } else {
            lane.line(ready.alone).push_back(ready.clone());
        }
        self.known.insert(ready.id, ready.handoff);
        Offer::Taken
    }

    fn pop(&mut self, queue: usize, alone: bool) -> Option<Ready> {
        loop {
            let Queue { lanes, draws, .. } = &mut self.queues[queue];
            let has = lanes.each_ref().map(|lane| lane.has(alone));
            let band = draws[usize::from(alone)].next(has)?;
            let lane = &mut lanes[usize::from(band.index())];
            let ready = lane.line(alone).pop_front()?;
            if self.known.get(&ready.id) == Some(&ready.handoff) {
                lane.in_flight += 1;
                self.turn = queue + 1;
                return Some(ready);
            }
        }
    }

    /// The queues that have something for a consumer, in the order of their turns.
    fn turns(&self, queues: &Queues) -> Vec<usize> {
        let has = |i: &usize| self.queues[*i].lanes.iter().any(|lane| lane.has(false) || lane.has(true));
        let mut turns: Vec<usize> = match queues {
            Queues::All => (0..self.queues.len()).filter(has).collect(),
            Queues::Only(names) => {
                names.iter().filter_map(|n| self.index.get(n).copied()).filter(has).collect()
            }
        };
        turns.sort_unstable_by_key(|i| (*i < self.turn, *i));
        turns.dedup();
        turns
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.queues.iter().flat_map(|q| &q.lanes)
    }

    fn lane(&mut self, (queue, band): Slot) -> &mut Lane {
        &mut self.queues[queue].lanes[band]
    }

    fn lane_capacity(&self) -> usize {
        let crowded = self.known.len() >= LANES_WORTH * self.capacity;
        if crowded { (self.capacity / CROWDED).max(1) } else { self.capacity }
    }

    fn slot(&mut self, ready: &Ready) -> Slot {
        let queue = self.index.get(&ready.queue).copied().unwrap_or_else(|| {
            let name = ready.queue.clone();
            self.index.insert(name.clone(), self.queues.len());
            self.queues.push(Queue { name, lanes: Default::default(), draws: Default::default() });
            self.queues.len() - 1
        });
        (queue, usize::from(ready.band.index()))
    }

    /// Whoever submits chooses the names of queues: those that hold nothing must not stay for ever.
    fn forget_idle_queues(&mut self) {
        self.queues.retain(|queue| !queue.is_idle());
        self.index = self.queues.iter().enumerate().map(|(i, q)| (q.name.clone(), i)).collect();
        self.forget_at = QUEUES.max(2 * self.queues.len());
    }
}

#[cfg(test)]
mod tests;
