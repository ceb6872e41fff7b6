//! Sessions: a process is killed, a session is ended, its tasks are queued again, its node comes back.

use super::claim::detach;
use super::spend;
use crate::state::{EPOCH, Entry, NODES, State};
use crate::{Bug, HandOff};
use callboard_domain::Command;

/// All it had in memory is gone; what it had sent may still arrive.
pub(super) fn kill(state: &State, node: usize) -> Option<State> {
    if state.left.kills == 0 || !state.nodes[node].up {
        return None;
    }
    let mut next = state.clone();
    spend(&mut next.left.kills);
    next.nodes[node].up = false;
    give_up(&mut next, node);
    next.nodes[node].entries.fill(Entry::Free);
    next.nodes[node].look = None;
    if let Some(i) = next.claim_of(node) {
        detach(&mut next, i);
    }
    Some(next)
}

/// What a node holds is given up: its results may be on their way.
fn give_up(next: &mut State, node: usize) {
    for (task, entry) in next.nodes[node].entries.iter_mut().enumerate() {
        match *entry {
            Entry::Held { session, attempt, .. } => {
                next.tasks[task].straggle(session, attempt);
                *entry = Entry::Free;
            }
            Entry::Doubtful { .. } => *entry = Entry::Free,
            Entry::Claiming { .. } | Entry::Free => {}
        }
    }
}

pub(super) fn end(model: &HandOff, state: &State, node: usize) -> Option<State> {
    if state.nodes[node].up {
        return None;
    }
    lock(model, state, node)
}

/// The accuser holds the row of its own live session meanwhile, so that two that accuse each other do not both
/// end.
pub(super) fn accuse(model: &HandOff, state: &State, node: usize) -> Option<State> {
    let accuser = &state.nodes[NODES - 1 - node];
    let may = accuser.up && accuser.live && !accuser.ending;
    if state.left.accusations == 0 || !state.nodes[node].up || !may {
        return None;
    }
    let mut next = lock(model, state, node)?;
    spend(&mut next.left.accusations);
    Some(next)
}

/// FOR UPDATE waits for the claims that hold the row FOR KEY SHARE, and keeps others from it.
fn lock(model: &HandOff, state: &State, node: usize) -> Option<State> {
    let of = &state.nodes[node];
    let session = state.session(node);
    let claimed = state.claims.iter().any(|claim| claim.is_open() && claim.session == session);
    if !of.live || of.ending || (claimed && model.bug != Some(Bug::EndInOneStatement)) {
        return None;
    }
    let mut next = state.clone();
    next.nodes[node].ending = true;
    Some(next)
}

/// The second statement, and the commit. It finds every claim that the first one waited for.
pub(super) fn requeue(state: &State, node: usize) -> Option<State> {
    if !state.nodes[node].ending {
        return None;
    }
    let session = state.session(node);
    let runs = |task: &usize| state.tasks[*task].held_by(session).is_some();
    let held: Vec<usize> = (0..state.tasks.len()).filter(runs).collect();
    if held.iter().any(|task| state.is_locked(*task)) {
        return None;
    }
    let mut next = state.clone();
    for task in held {
        next.tasks[task].happen(Command::Lose { session: session.id(), now: EPOCH, jitter: 0.0 });
    }
    next.nodes[node].live = false;
    next.nodes[node].ending = false;
    Some(next)
}

/// A renewal, or an answer to anything else, says that the session is over. A process that was killed begins
/// again in the same way.
pub(super) fn revive(state: &State, node: usize) -> Option<State> {
    if state.nodes[node].live {
        return None;
    }
    let mut next = state.clone();
    give_up(&mut next, node);
    for claim in next.claims.iter_mut().filter(|claim| claim.attached && claim.session.node == node) {
        claim.fenced = true;
    }
    let of = &mut next.nodes[node];
    (of.up, of.live) = (true, true);
    of.life += 1;
    Some(next)
}
