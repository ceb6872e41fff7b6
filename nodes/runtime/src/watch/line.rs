//! The order of one task's events, whoever tells of them.

use callboard_domain::Event;
use std::collections::BTreeMap;

/// How many events may wait for one before them.
const AHEAD: usize = 64;

/// What was passed on of one watched task, and what waits to be.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The newest seq that was passed on, or was known to who watches. Without one, the first event begins.
    last: Option<u64>,
    /// Events that came before their time.
    ahead: BTreeMap<u64, Event>,
    /// Whether anything was passed on.
    passed: bool,
    ended: bool,
}

impl Line {
    /// Takes an event, and gives what can be passed on now: nothing for one that was told before, or before
    /// its time. What does not fit in front of a gap is forgotten: reading the gap brings it too.
    pub(super) fn take(&mut self, event: &Event, ready: &mut Vec<Event>) {
        match self.last {
            Some(last) if event.seq <= last => return,
            Some(last) if event.seq > last + 1 => {
                if self.ahead.len() < AHEAD {
                    self.ahead.insert(event.seq, event.clone());
                }
                return;
            }
            _ => self.pass(event.clone(), ready),
        }
        self.catch_up(ready);
    }

    /// Events up to a seq are known to who watches; of several, the one who knows least decides. It changes
    /// nothing once something was passed on: who came before that has it, who comes after knows it.
    pub(super) fn known(&mut self, seq: u64) {
        if !self.passed {
            self.last = Some(self.last.map_or(seq, |last| last.min(seq)));
        }
    }

    /// Where to read on from the store: nowhere once the task has ended.
    pub(super) fn read_from(&self) -> Option<u64> {
        if self.ended { None } else { self.last }
    }

    /// Whether an event is missing.
    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    fn pass(&mut self, event: Event, ready: &mut Vec<Event>) {
        self.last = Some(event.seq);
        self.passed = true;
        self.ended |= event.state.is_terminal();
        ready.push(event);
    }

    fn catch_up(&mut self, ready: &mut Vec<Event>) {
        while let Some((seq, event)) = self.ahead.pop_first() {
            match self.last {
                Some(last) if seq > last + 1 => {
                    self.ahead.insert(seq, event);
                    return;
                }
                Some(last) if seq <= last => {}
                _ => self.pass(event, ready),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::event;
    use super::*;
    use callboard_domain::State;

    fn take(line: &mut Line, seqs: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut ready = Vec::new();
        for seq in seqs {
            line.take(&event(1, seq), &mut ready);
        }
        ready.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn events_are_passed_on_once_and_in_order_whatever_order_they_come_in() {
        let mut line = Line::default();
        line.known(2);
        assert!(take(&mut line, [1, 2]).is_empty());
        assert!(take(&mut line, [5, 4, 5]).is_empty());
        assert!(line.has_gap());
        assert_eq!(take(&mut line, [3]), [3, 4, 5]);
        assert!(!line.has_gap());
        assert_eq!(take(&mut line, [4, 3, 6, 6]), [6]);
        assert_eq!(line.read_from(), Some(6));
    }

    #[test]
    fn the_first_event_begins_where_nothing_is_known() {
        let mut line = Line::default();
        assert_eq!(line.read_from(), None);
        assert_eq!(take(&mut line, [7, 6, 8]), [7, 8]);
        line.known(3);
        assert_eq!(line.read_from(), Some(8));
    }

    #[test]
    fn of_several_who_watch_the_one_who_knows_least_misses_nothing() {
        let mut line = Line::default();
        line.known(5);
        line.known(3);
        line.known(4);
        assert_eq!(line.read_from(), Some(3));
        assert_eq!(take(&mut line, [4, 5]), [4, 5]);
        line.known(1);
        assert_eq!(line.read_from(), Some(5));
    }

    #[test]
    fn what_waits_behind_a_gap_is_bounded_and_the_read_brings_the_rest() {
        let mut line = Line::default();
        line.known(1);
        assert!(take(&mut line, 3..1_000).is_empty());
        assert_eq!(line.ahead.len(), AHEAD);
        assert_eq!(take(&mut line, 2..1_000), (2..1_000).collect::<Vec<_>>());
        assert!(!line.has_gap());
    }

    #[test]
    fn a_task_that_has_ended_is_read_no_more() {
        let mut line = Line::default();
        line.known(1);
        line.take(&Event { state: State::Succeeded, ..event(1, 2) }, &mut Vec::new());
        assert_eq!(line.read_from(), None);
    }
}
