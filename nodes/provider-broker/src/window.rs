//! Counts over the last so long, in constant space.

use std::time::Duration;
use tokio::time::Instant;

/// Into how many slots the span is divided; what is older is forgotten a slot at a time.
const SLOTS: u32 = 12;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// All.
    pub(crate) all: u64,
    /// Those that were marked.
    pub(crate) marked: u64,
}

/// Counts what happened in a span that ends now, to a twelfth of that span: what is as old as the span may
/// have been forgotten already, what is older has been.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    slot: Duration,
    slots: [Counts; SLOTS as usize],
    /// The slot that is counted into, and since when.
    head: usize,
    since: Instant,
}

impl Window {
    /// A window of that span, which must not be zero.
    pub(crate) fn new(span: Duration, now: Instant) -> Self {
        let slot = (span / SLOTS).max(Duration::from_nanos(1));
        Self { slot, slots: [Counts::default(); SLOTS as usize], head: 0, since: now }
    }

    /// Counts one.
    pub(crate) fn add(&mut self, marked: bool, now: Instant) {
        self.roll(now);
        if let Some(head) = self.slots.get_mut(self.head) {
            head.all += 1;
            head.marked += u64::from(marked);
        }
    }

    /// What was counted in the span that ends now.
    pub(crate) fn read(&mut self, now: Instant) -> Counts {
        self.roll(now);
        self.slots.iter().fold(Counts::default(), |sum, slot| Counts {
            all: sum.all + slot.all,
            marked: sum.marked + slot.marked,
        })
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.slots = [Counts::default(); SLOTS as usize];
    }

    /// Goes on to the slot of this moment. A moment before the present slot counts into it.
    fn roll(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_nanos() / self.slot.as_nanos();
        if passed >= u128::from(SLOTS) {
            self.clear();
            self.since = now;
            return;
        }
        for _ in 0..passed {
            self.since += self.slot;
            self.head = (self.head + 1) % self.slots.len();
            if let Some(head) = self.slots.get_mut(self.head) {
                *head = Counts::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_is_young_and_nothing_that_is_old(
            gaps in prop::collection::vec((0_u64..15_000, any::<bool>()), 1..200),
        ) {
            let span = Duration::from_secs(60);
            let start = Instant::now();
            let mut window = Window::new(span, start);
            let (mut now, mut all) = (start, Vec::new());
            for (gap, marked) in gaps {
                now += Duration::from_millis(gap);
                window.add(marked, now);
                all.push((now, marked));
                let younger = |age: Duration| {
                    let young = all.iter().filter(|(at, _)| now.duration_since(*at) < age);
                    young.fold(Counts::default(), |sum, (_, marked)| Counts {
                        all: sum.all + 1,
                        marked: sum.marked + u64::from(*marked),
                    })
                };
                let (least, most, read) = (younger(span - span / SLOTS), younger(span), window.read(now));
                prop_assert!(least.all <= read.all && read.all <= most.all, "{least:?} {read:?} {most:?}");
                prop_assert!(least.marked <= read.marked && read.marked <= most.marked);
            }
            prop_assert_eq!(window.read(now + span), Counts::default());
        }
    }
}
