//! What a consumer has been sent and has not handed on yet: plain data.

use super::message::Body;
use callboard_domain::{Band, Timestamp};
use callboard_ports::handoff::{Ready, Want};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How far a band that was empty for a moment may catch up, in its own turns.
const CATCH_UP: u64 = 32;
/// The virtual time of one task of weight 1.
const STRIDE: u64 = 16;

/// A message: what it says, and what settles it.
pub(super) struct Message<H> {
    pub(super) body: Body,
    pub(super) hold: H,
}

impl<H> Message<H> {
    fn lane(&self) -> Option<(Arc<str>, Band)> {
        match &self.body {
            Body::Tasks(tasks) => tasks.first().map(|r| (r.queue.clone(), r.band)),
            Body::Marker(marker) => Some((marker.queue.clone(), marker.band)),
        }
    }

    /// Its tasks: a marker has none.
    pub(super) fn tasks(&self) -> &[Ready] {
        match &self.body {
            Body::Tasks(tasks) => tasks,
            Body::Marker(_) => &[],
        }
    }

    fn is_alone(&self) -> bool {
        self.tasks().first().is_some_and(|r| r.alone)
    }

    fn due(&self) -> Option<Timestamp> {
        self.tasks().first().and_then(|r| r.not_before)
    }
}

struct Lane<H> {
    waiting: VecDeque<Message<H>>,
    /// The virtual time of its next turn.
    pass: u64,
}

impl<H> Default for Lane<H> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), pass: 0 }
    }
}

impl<H> Lane<H> {
    /// The first message that may be handed on now.
    fn first(&self, alone: bool, now: Timestamp) -> Option<usize> {
        let fits = |m: &Message<H>| {
            !m.tasks().is_empty() && (alone || !m.is_alone()) && m.due().is_none_or(|due| due <= now)
        };
        self.waiting.iter().position(fits)
    }
}

struct Queue<H> {
    lanes: [Lane<H>; 3],
    now: u64,
}

impl<H> Default for Queue<H> {
    fn default() -> Self {
        Self { lanes: Default::default(), now: 0 }
    }
}

/// The messages of all queues of a consumer.
pub(super) struct Buffer<H> {
    queues: BTreeMap<Arc<str>, Queue<H>>,
    last: Option<Arc<str>>,
}

impl<H> Default for Buffer<H> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), last: None }
    }
}

impl<H> Buffer<H> {
    pub(super) fn push(&mut self, message: Message<H>) {
        let Some((name, band)) = message.lane() else { return };
        let band = usize::from(band.index());
        let queue = self.queues.entry(name).or_default();
        let lane = &mut queue.lanes[band];
        if lane.waiting.is_empty() {
            let turn = STRIDE / u64::from(Band::ALL[band].weight());
            lane.pass = lane.pass.max(queue.now.saturating_sub(CATCH_UP * turn));
        }
        lane.waiting.push_back(message);
    }

    /// Messages for a worker: as many tasks as it wants, more only if one message holds more; a task that must
    /// be alone by itself.
    pub(super) fn take(&mut self, want: Want, now: Timestamp) -> Vec<Message<H>> {
        let (mut taken, mut count) = (Vec::new(), 0);
        while count < want.tasks {
            let alone = want.alone && taken.is_empty();
            let room = if taken.is_empty() { usize::MAX } else { want.tasks - count };
            let Some(message) = self.pop(alone, now, room) else { break };
            count += message.tasks().len();
            let ends = message.is_alone();
            taken.push(message);
            if ends {
                break;
            }
        }
        taken
    }

    fn pop(&mut self, alone: bool, now: Timestamp, room: usize) -> Option<Message<H>> {
        let ready = |q: &Queue<H>| q.lanes.iter().any(|l| l.first(alone, now).is_some());
        let names: Vec<_> = self.queues.iter().filter(|(_, q)| ready(q)).map(|(n, _)| n.clone()).collect();
        let next = names.iter().find(|n| self.last.as_ref().is_none_or(|last| *n > last));
        let name = next.or(names.first())?.clone();
        let queue = self.queues.get_mut(&name)?;
        let firsts = queue.lanes.each_ref().map(|l| l.first(alone, now));
        let band = (0..3).filter(|b| firsts[*b].is_some()).min_by_key(|b| (queue.lanes[*b].pass, 3 - b))?;
        let lane = &mut queue.lanes[band];
        let at = firsts[band]?;
        if lane.waiting.get(at)?.tasks().len() > room {
            return None;
        }
        let message = lane.waiting.remove(at)?;
        queue.now = queue.now.max(lane.pass);
        let cost = STRIDE / u64::from(Band::ALL[band].weight());
        lane.pass += cost * message.tasks().len() as u64;
        self.last = Some(name);
        Some(message)
    }

    /// Takes out the markers that nothing waits in front of any more.
    pub(super) fn passed(&mut self) -> Vec<Message<H>> {
        let lanes = self.queues.values_mut().flat_map(|q| &mut q.lanes);
        let is_marker = |m: &Message<H>| m.tasks().is_empty();
        let fronts = lanes.flat_map(|l| {
            let count = l.waiting.iter().take_while(|m| is_marker(m)).count();
            l.waiting.drain(..count).collect::<Vec<_>>()
        });
        fronts.collect()
    }

    /// When the next task's time comes, if one waits for it.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let all = self.queues.values().flat_map(|q| &q.lanes).flat_map(|l| &l.waiting);
        all.filter_map(Message::due).filter(|due| *due > now).min()
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<Message<H>> {
        let queues = std::mem::take(&mut self.queues);
        queues.into_values().flat_map(|q| q.lanes).flat_map(|l| l.waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::rabbitmq::message::Marker;
    use callboard_domain::TaskId;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);
    const ANY: Want = Want { tasks: 1, alone: true };

    fn task(n: u8, band: Band, alone: bool) -> Message<u8> {
        let id = TaskId::from_bytes([n; 16]);
        let ready = Ready { id, handoff: 1, queue: "q".into(), band, alone, not_before: None };
        Message { body: Body::Tasks(vec![ready]), hold: n }
    }

    fn marker(n: u8) -> Message<u8> {
        let marker = Marker { number: n.into(), queue: "q".into(), band: Band::Low };
        Message { body: Body::Marker(marker), hold: n }
    }

    fn holds(messages: &[Message<u8>]) -> Vec<u8> {
        messages.iter().map(|m| m.hold).collect()
    }

    #[test]
    fn a_marker_waits_for_what_was_published_before_it() {
        let mut buffer = Buffer::default();
        for message in [task(1, Band::Low, false), marker(2), task(3, Band::Low, true), marker(4)] {
            buffer.push(message);
        }
        assert_eq!(holds(&buffer.passed()), [] as [u8; 0]);
        assert_eq!(holds(&buffer.take(ANY, NOW)), [1]);
        assert_eq!(holds(&buffer.passed()), [2]);
        let together = Want { alone: false, ..ANY };
        assert_eq!(holds(&buffer.take(together, NOW)), [] as [u8; 0], "the next must be alone");
        assert_eq!(holds(&buffer.passed()), [] as [u8; 0], "and holds the marker back");
        assert_eq!(holds(&buffer.take(ANY, NOW)), [3]);
        assert_eq!(holds(&buffer.passed()), [4]);
    }

    #[test]
    fn what_is_given_back_keeps_the_order_of_its_lane() {
        let mut buffer = Buffer::default();
        (1..=3).for_each(|n| buffer.push(task(n, Band::High, false)));
        buffer.push(marker(4));
        assert_eq!(holds(&buffer.drain()), [4, 1, 2, 3]);
    }
}
