//! What a consumer has been sent and has not handed on yet: plain data.

use super::message::Body;
use callboard_domain::{Band, Timestamp, TraceContext};
use callboard_ports::handoff::{Ready, Want};
use callboard_ports::outbox::Lane;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How far a band that was empty for a moment may catch up, in its own turns.
const CATCH_UP: u64 = 16;
/// The virtual time of one task of weight 1.
const STRIDE: u64 = 16;

/// How long a lane may take to open; how long one that should have more may take to send it.
const OPEN: Duration = Duration::from_millis(100);
const MORE: Duration = Duration::from_millis(40);

/// A message: what it says, what settles it, and by which opening of its lane it came.
pub(super) struct Message<H> {
    pub(super) body: Body,
    pub(super) hold: H,
    pub(super) opening: u64,
    /// The span it was sent in.
    pub(super) sent: Option<TraceContext>,
}

impl<H> Message<H> {
    /// Whose it is. Every message has a lane.
    pub(super) fn lane(&self) -> Option<Lane> {
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

struct Line<H> {
    waiting: VecDeque<Message<H>>,
    /// The virtual time of its next turn.
    pass: u64,
    /// Whether it is consumed.
    open: bool,
    /// Which opening of the lane this is about, and how many messages its broker sends ahead.
    opening: u64,
    window: usize,
    /// How many of them are not settled yet.
    unsettled: usize,
    /// How many messages of those that waited when it was opened have not come yet, and when that was.
    behind: usize,
    since: Option<Instant>,
    /// When as many as are sent ahead were here last, if they ever were: then there may be more.
    full: Option<Instant>,
    /// Until when it is not taken for empty though nothing waits: its broker has more, and is about to send it.
    expected: Option<Instant>,
}

impl<H> Default for Line<H> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            pass: 0,
            open: false,
            opening: 0,
            window: 0,
            unsettled: 0,
            behind: 0,
            since: None,
            full: None,
            expected: None,
        }
    }
}

impl<H> Line<H> {
    /// If there should be more, it comes soon.
    fn expect(&mut self, at: Instant) {
        let lately = |then: Option<Instant>| then.is_some_and(|then| at < then + MORE);
        if self.unsettled >= self.window {
            self.full = Some(at);
        }
        // With room for more, what waited would have come since.
        let has_more = lately(self.full) || (self.behind > 0 && lately(self.since));
        self.expected = has_more.then(|| at + MORE);
    }

    /// The first message that may be handed on now.
    fn first(&self, alone: bool, now: Timestamp) -> Option<usize> {
        let fits = |m: &Message<H>| {
            !m.tasks().is_empty() && (alone || !m.is_alone()) && m.due().is_none_or(|due| due <= now)
        };
        self.waiting.iter().position(fits)
    }
}

struct Queue<H> {
    lines: [Line<H>; 3],
    now: u64,
}

impl<H> Default for Queue<H> {
    fn default() -> Self {
        Self { lines: Default::default(), now: 0 }
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
    fn line(&mut self, (queue, band): &Lane) -> &mut Line<H> {
        &mut self.queues.entry(queue.clone()).or_default().lines[usize::from(band.index())]
    }

    /// A lane is about to be consumed. Nobody knows what it has.
    pub(super) fn opening(&mut self, lane: &Lane, at: Instant) {
        let line = self.line(lane);
        (line.open, line.expected) = (false, Some(at + OPEN));
    }

    /// A lane is consumed from now on; its broker sends `window` messages ahead, of `count` that wait there.
    pub(super) fn opened(&mut self, lane: &Lane, opening: u64, window: usize, count: usize, at: Instant) {
        let line = self.line(lane);
        (line.open, line.opening, line.window, line.unsettled) = (true, opening, window, 0);
        (line.behind, line.since, line.full) = (count, Some(at), None);
        line.expect(at);
    }

    /// A lane is not consumed any more, or cannot be.
    pub(super) fn closed(&mut self, lane: &Lane) {
        let line = self.line(lane);
        (line.open, line.expected) = (false, None);
    }

    /// A message was acknowledged: if as many came as may be sent ahead, the next is on its way.
    pub(super) fn acknowledged(&mut self, lane: &Lane, opening: u64, at: Instant) {
        let line = self.line(lane);
        if line.opening == opening && line.unsettled > 0 {
            line.expect(at);
            line.unsettled -= 1;
        }
    }

    pub(super) fn push(&mut self, message: Message<H>, at: Instant) {
        let Some((name, band)) = message.lane() else { return };
        let band = usize::from(band.index());
        let queue = self.queues.entry(name).or_default();
        let line = &mut queue.lines[band];
        if line.waiting.is_empty() {
            let turn = STRIDE / u64::from(Band::ALL[band].weight());
            line.pass = line.pass.max(queue.now.saturating_sub(CATCH_UP * turn));
        }
        if line.opening == message.opening {
            line.unsettled += 1;
            line.behind = line.behind.saturating_sub(1);
            line.expect(at);
        }
        line.waiting.push_back(message);
    }

    /// Messages for a worker: as many tasks as it wants, more only if one message holds more; a task that must
    /// be alone by itself.
    pub(super) fn take(&mut self, want: Want, now: Timestamp, at: Instant) -> Vec<Message<H>> {
        for line in self.queues.values_mut().flat_map(|q| &mut q.lines) {
            if line.waiting.is_empty() && line.expected.is_some_and(|until| until <= at) {
                (line.expected, line.behind, line.full) = (None, 0, None);
            }
        }
        let (mut taken, mut count) = (Vec::new(), 0);
        while count < want.tasks {
            let alone = want.alone && taken.is_empty();
            let room = if taken.is_empty() { usize::MAX } else { want.tasks - count };
            let Some(message) = self.pop(alone, now, at, room) else { break };
            count += message.tasks().len();
            let ends = message.is_alone();
            taken.push(message);
            if ends {
                break;
            }
        }
        taken
    }

    /// The next message: of the next queue that has one, and of the band whose turn it is there. A band that is
    /// about to be sent more keeps its turn, for a moment.
    fn pop(&mut self, alone: bool, now: Timestamp, at: Instant, room: usize) -> Option<Message<H>> {
        let ready = |q: &Queue<H>| q.lines.iter().any(|l| l.first(alone, now).is_some());
        let names: Vec<_> = self.queues.iter().filter(|(_, q)| ready(q)).map(|(n, _)| n.clone()).collect();
        let first = names.iter().position(|n| self.last.as_ref().is_none_or(|last| n > last)).unwrap_or(0);
        let name = names.get(first)?.clone();
        let queue = self.queues.get(&name)?;
        let firsts = queue.lines.each_ref().map(|l| l.first(alone, now));
        let expects = |band: usize| queue.lines[band].expected.is_some_and(|until| at < until);
        let band = (0..3)
            .filter(|b| firsts[*b].is_some() || expects(*b))
            .min_by_key(|b| (queue.lines[*b].pass, 3 - b))?;
        let place = firsts[band]?;
        let queue = self.queues.get_mut(&name)?;
        let line = &mut queue.lines[band];
        if line.waiting.get(place)?.tasks().len() > room {
            return None;
        }
        let message = line.waiting.remove(place)?;
        queue.now = queue.now.max(line.pass);
        let cost = STRIDE / u64::from(Band::ALL[band].weight());
        line.pass += cost * message.tasks().len() as u64;
        self.last = Some(name);
        Some(message)
    }

    /// Takes out the markers that nothing waits in front of any more.
    pub(super) fn passed(&mut self) -> Vec<Message<H>> {
        let lines = self.queues.values_mut().flat_map(|q| &mut q.lines);
        let is_marker = |m: &Message<H>| m.tasks().is_empty();
        let fronts = lines.flat_map(|l| {
            let count = l.waiting.iter().take_while(|m| is_marker(m)).count();
            l.waiting.drain(..count).collect::<Vec<_>>()
        });
        fronts.collect()
    }

    /// Whether nothing waits, here or in the queues: all that are known are consumed, and none has more.
    pub(super) fn is_dry(&self, at: Instant) -> bool {
        let is_dry = |line: &Line<H>| {
            line.open && line.waiting.is_empty() && line.expected.is_none_or(|until| until <= at)
        };
        !self.queues.is_empty() && self.queues.values().flat_map(|q| &q.lines).all(is_dry)
    }

    /// When the next task's time comes, if one waits for it.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let all = self.queues.values().flat_map(|q| &q.lines).flat_map(|l| &l.waiting);
        all.filter_map(Message::due).filter(|due| *due > now).min()
    }

    /// When a lane that nothing came from is taken for empty, if one is waited for.
    pub(super) fn next_expected(&self, at: Instant) -> Option<Instant> {
        let all = self.queues.values().flat_map(|q| &q.lines);
        all.filter_map(|line| line.expected).filter(|until| *until > at).min()
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> Vec<Message<H>> {
        let queues = std::mem::take(&mut self.queues);
        queues.into_values().flat_map(|q| q.lines).flat_map(|l| l.waiting).collect()
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
        Message { body: Body::Tasks(vec![ready]), hold: n, opening: 1, sent: None }
    }

    fn marker(n: u8) -> Message<u8> {
        let marker = Marker { number: n.into(), queue: "q".into(), band: Band::Low };
        Message { body: Body::Marker(marker), hold: n, opening: 1, sent: None }
    }

    fn holds(messages: &[Message<u8>]) -> Vec<u8> {
        messages.iter().map(|m| m.hold).collect()
    }

    #[test]
    fn a_marker_waits_for_what_was_published_before_it() {
        let mut buffer = Buffer::default();
        for message in [task(1, Band::Low, false), marker(2), task(3, Band::Low, true), marker(4)] {
            buffer.push(message, Instant::now());
        }
        assert_eq!(holds(&buffer.passed()), [] as [u8; 0]);
        assert_eq!(holds(&buffer.take(ANY, NOW, Instant::now())), [1]);
        assert_eq!(holds(&buffer.passed()), [2]);
        let together = Want { alone: false, ..ANY };
        assert_eq!(
            holds(&buffer.take(together, NOW, Instant::now())),
            [] as [u8; 0],
            "the next must be alone"
        );
        assert_eq!(holds(&buffer.passed()), [] as [u8; 0], "and holds the marker back");
        assert_eq!(holds(&buffer.take(ANY, NOW, Instant::now())), [3]);
        assert_eq!(holds(&buffer.passed()), [4]);
    }

    #[test]
    fn what_is_given_back_keeps_the_order_of_its_lane() {
        let mut buffer = Buffer::default();
        (1..=3).for_each(|n| buffer.push(task(n, Band::High, false), Instant::now()));
        buffer.push(marker(4), Instant::now());
        assert_eq!(holds(&buffer.drain()), [4, 1, 2, 3]);
    }

    #[test]
    fn a_band_whose_broker_has_more_keeps_its_turn_for_a_moment() {
        let (mut buffer, at) = (Buffer::default(), Instant::now());
        let [low, high] = [Band::Low, Band::High].map(|band| (Arc::from("q"), band));
        buffer.opened(&low, 1, 2, 5, at);
        buffer.opened(&high, 1, 2, 2, at);
        buffer.push(task(1, Band::Low, false), at);
        assert_eq!(holds(&buffer.take(ANY, NOW, at)), [] as [u8; 0], "the high ones are on their way");
        assert_eq!(buffer.next_expected(at), Some(at + MORE));
        buffer.push(task(2, Band::High, false), at);
        buffer.push(task(3, Band::High, false), at);
        let all = Want { tasks: 3, alone: true };
        assert_eq!(holds(&buffer.take(all, NOW, at)), [2, 1, 3]);
        // All that may be sent ahead was taken. Once it is acknowledged, more comes, or nothing is there.
        buffer.acknowledged(&high, 1, at);
        buffer.acknowledged(&high, 1, at);
        buffer.push(task(4, Band::Low, false), at);
        assert_eq!(holds(&buffer.take(ANY, NOW, at)), [] as [u8; 0]);
        assert_eq!(holds(&buffer.take(ANY, NOW, at + MORE)), [4]);
    }

    #[test]
    fn it_is_dry_once_every_lane_is_consumed_and_none_has_or_expects_anything() {
        let (mut buffer, at) = (Buffer::default(), Instant::now());
        let lanes = Band::ALL.map(|band| (Arc::from("q"), band));
        assert!(!buffer.is_dry(at), "nothing is known");
        buffer.opening(&lanes[0], at);
        assert!(!buffer.is_dry(at + OPEN), "it is not consumed yet");
        lanes.iter().for_each(|lane| buffer.opened(lane, 1, 2, 0, at));
        assert!(buffer.is_dry(at));
        buffer.push(task(1, Band::Low, false), at);
        assert!(!buffer.is_dry(at), "a message waits");
        buffer.take(ANY, NOW, at);
        assert!(buffer.is_dry(at));
        buffer.push(task(2, Band::Low, false), at);
        buffer.push(task(3, Band::Low, false), at);
        buffer.take(Want { tasks: 2, ..ANY }, NOW, at);
        assert!(!buffer.is_dry(at) && buffer.is_dry(at + MORE), "as many came as are sent ahead");
        buffer.closed(&lanes[2]);
        assert!(!buffer.is_dry(at + MORE), "what waits there is not known any more");
    }

    #[test]
    fn a_lane_that_has_had_room_for_more_has_no_more_however_much_comes() {
        let (mut buffer, at) = (Buffer::default(), Instant::now());
        let lanes = Band::ALL.map(|band| (Arc::from("q"), band));
        // Of the five that waited when it was opened, somebody else has got four.
        lanes.iter().for_each(|lane| buffer.opened(lane, 1, 2, 5, at));
        buffer.push(task(1, Band::Low, false), at);
        assert!(!buffer.take(ANY, NOW, at + MORE).is_empty());
        for n in 2..9 {
            let at = at + MORE * u32::from(n);
            buffer.acknowledged(&lanes[0], 1, at);
            assert!(buffer.is_dry(at), "{n}");
            buffer.push(task(n, Band::Low, false), at);
            assert_eq!(holds(&buffer.take(ANY, NOW, at)), [n]);
        }
    }

    #[test]
    fn a_band_that_could_have_been_sent_more_is_empty() {
        let (mut buffer, at) = (Buffer::default(), Instant::now());
        let [low, high] = [Band::Low, Band::High].map(|band| (Arc::from("q"), band));
        buffer.opened(&low, 1, 2, 5, at);
        buffer.opened(&high, 1, 2, 0, at);
        buffer.push(task(1, Band::Low, false), at);
        buffer.push(task(2, Band::High, false), at);
        assert_eq!(holds(&buffer.take(ANY, NOW, at)), [2]);
        buffer.acknowledged(&high, 1, at);
        assert_eq!(holds(&buffer.take(ANY, NOW, at)), [1], "one of two was out: there is no other");
        // Of an opening that is over nothing is known.
        buffer.push(task(3, Band::High, false), at);
        buffer.opened(&high, 2, 1, 0, at);
        buffer.push(task(4, Band::Low, false), at);
        assert_eq!(holds(&buffer.take(ANY, NOW, at)), [3]);
        buffer.acknowledged(&high, 1, at);
        assert_eq!(holds(&buffer.take(ANY, NOW, at)), [4]);
    }
}
