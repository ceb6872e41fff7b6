//! Which states are alike: they differ in names only, so what follows from one follows from the other.
//!
//! Hand-offs and attempts of a task are only ever compared with each other, so their numbers may be closed up; and
//! nodes with as many slots may change places.

use crate::state::{Entry, NODES, Node, PerTask, Session, State, TASKS};
use std::cmp::Ordering;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// The one state that stands for all that are alike.
pub(crate) fn representative(state: &State) -> State {
    let mut one = state.clone();
    close_up(&mut one);
    let [first, second] = one.nodes.each_ref().map(looks);
    match first.cmp(&second) {
        Ordering::Less => return one,
        Ordering::Greater => {
            swap_nodes(&mut one);
            return one;
        }
        Ordering::Equal => {}
    }
    let mut other = one.clone();
    swap_nodes(&mut other);
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    if hasher.hash_one(&other) < hasher.hash_one(&one) { other } else { one }
}

/// What a node is like, whichever it is: its row, and what it has of each task.
type Looks = ((u8, [bool; 3]), PerTask<(u8, u8, u32, bool)>, PerTask<u32>);

fn looks(node: &Node) -> Looks {
    let entries = node.entries.map(|entry| match entry {
        Entry::Free => (0, 0, 0, false),
        Entry::Claiming { handoff, cancel } => (1, handoff, 0, cancel),
        Entry::Doubtful { session } => (2, session.life, 0, false),
        Entry::Held { handoff, attempt, cancel, .. } => (3, handoff, attempt, cancel),
    });
    let give_back = node.look.map_or([0; TASKS], |look| look.give_back);
    ((node.life, [node.live, node.ending, node.up]), entries, give_back)
}

/// As [`representative`], for nodes that differ.
pub(crate) fn representative_of_unlike(state: &State) -> State {
    let mut one = state.clone();
    close_up(&mut one);
    one
}

/// Numbers in use, as bits; and what each becomes.
#[derive(Clone, Copy, Default)]
struct Numbers(u64);

impl Numbers {
    fn note(&mut self, number: u32) {
        self.0 |= 1 << (number % 64);
    }

    fn rank(self, number: u32) -> u32 {
        if number == 0 { 0 } else { (self.0 & !1 & ((2 << (number % 64)) - 1)).count_ones() }
    }
}

fn close_up(state: &mut State) {
    let (mut handoffs, mut attempts) = ([Numbers::default(); TASKS], [Numbers::default(); TASKS]);
    visit(
        state,
        &mut |task, number| {
            handoffs[task].note(u32::from(*number));
        },
        &mut |task, number| attempts[task].note(*number),
    );
    for (task, of) in state.tasks.iter().enumerate() {
        of.numbers().for_each(|number| handoffs[task].note(u32::from(number)));
    }
    for (task, of) in state.tasks.iter_mut().enumerate() {
        let rows = of.numbers().map(|number| handoffs[task].rank(u32::from(number)));
        of.rows = rows.fold(0, |rows, number| rows | 1 << number);
    }
    visit(
        state,
        &mut |task, number| {
            *number = u8::try_from(handoffs[task].rank(u32::from(*number))).unwrap_or(u8::MAX);
        },
        &mut |task, number| *number = attempts[task].rank(*number),
    );
}

/// Every hand-off number but those of rows, and every attempt.
fn visit(
    state: &mut State,
    handoff: &mut dyn FnMut(usize, &mut u8),
    attempt: &mut dyn FnMut(usize, &mut u32),
) {
    let mut of_each = |numbers: &mut PerTask<u8>| {
        numbers.iter_mut().enumerate().for_each(|(task, number)| handoff(task, number));
    };
    state.published.iter_mut().for_each(&mut of_each);
    state.queue.iter_mut().flatten().for_each(|message| of_each(&mut message.numbers));
    state.marked.iter_mut().for_each(|marked| of_each(&mut marked.suspects));
    for claim in &mut state.claims {
        of_each(&mut claim.take);
        claim.message.iter_mut().for_each(|message| of_each(&mut message.numbers));
        if let crate::state::Phase::Answered(claimed) = &mut claim.phase {
            claimed.iter_mut().enumerate().for_each(|(task, number)| attempt(task, number));
        }
    }
    for node in &mut state.nodes {
        for (task, entry) in node.entries.iter_mut().enumerate() {
            match entry {
                Entry::Free | Entry::Doubtful { .. } => {}
                Entry::Claiming { handoff: number, .. } => handoff(task, number),
                Entry::Held { handoff: number, attempt: of, .. } => {
                    handoff(task, number);
                    attempt(task, of);
                }
            }
        }
        if let Some(look) = &mut node.look {
            look.give_back.iter_mut().enumerate().for_each(|(task, number)| attempt(task, number));
        }
    }
    for (task, of) in state.tasks.iter_mut().enumerate() {
        handoff(task, &mut of.handoff);
        of.stragglers.iter_mut().for_each(|(_, number)| attempt(task, number));
        if let Some(life) = &mut of.life {
            attempt(task, life.attempt_mut());
        }
    }
}

fn swap_nodes(state: &mut State) {
    let swap = |session: &mut Session| session.node = NODES - 1 - session.node;
    state.nodes.swap(0, 1);
    for node in &mut state.nodes {
        for entry in &mut node.entries {
            if let Entry::Doubtful { session } | Entry::Held { session, .. } = entry {
                swap(session);
            }
        }
        node.look.iter_mut().for_each(|look| swap(&mut look.session));
    }
    state.claims.iter_mut().for_each(|claim| swap(&mut claim.session));
    state.claims.sort_unstable();
    for task in &mut state.tasks {
        task.stragglers.iter_mut().for_each(|(session, _)| swap(session));
        task.stragglers.sort_unstable();
        if let Some(life) = &mut task.life {
            life.swap_node();
        }
    }
}
