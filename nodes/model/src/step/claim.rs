//! Claims: a node takes a message, its transaction locks, decides and commits, and the node hears of it, or not.

use super::{is_next, spend};
use crate::state::{Claim, Entry, Message, Phase, Session, State, TASKS};
use crate::{Bug, HandOff};
use callboard_domain::Command;

/// The worker's part up to the lock of its session's row. Under a session that is over there would be no claim,
/// only the news of it: [`super::session::revive`].
pub(super) fn take(model: &HandOff, state: &State, node: usize) -> Option<State> {
    let of = &state.nodes[node];
    let room = model.scenario.slots[node].saturating_sub(of.busy());
    // Who ends a session holds its row FOR UPDATE; a plain UPDATE would not keep a claim from it.
    let waits = of.ending && model.bug != Some(Bug::EndInOneStatement);
    if !of.up || !of.live || waits || state.claim_of(node).is_some() {
        return None;
    }
    // Without a free slot it does not consume: what it gave back would come again, for ever.
    if room == 0 && model.bug != Some(Bug::TakeWithoutRoom) {
        return None;
    }
    let first = state.queue.as_ref()?.first().filter(|message| !message.is_marker())?;
    let mut next = state.clone();
    let claim = begin(&mut next, state.session(node), *first, room);
    next.queue.as_mut()?.remove(0);
    if claim.take != [0; TASKS] || claim.rest != [false; TASKS] {
        let early = model.bug == Some(Bug::AckBeforeCommit);
        next.claims.push(Claim { message: claim.message.filter(|_| !early), ..claim });
    }
    Some(next)
}

/// Whether a node takes a task as it is admitted. Nobody else can see the task before the commit, and the session's
/// row is held until then: so all of it is one step.
fn takes_at_once(model: &HandOff, state: &State, node: usize, task: usize) -> bool {
    let of = &state.nodes[node];
    let is_held = of.live && !of.ending || model.bug == Some(Bug::TakeUnderAnySession);
    let room = model.scenario.slots[node] > of.busy();
    is_next(model, state, task) && of.up && is_held && room && state.claim_of(node).is_none()
}

/// A node's store admits a task and claims it for the node. The answer is on its way.
pub(super) fn admit_taken(model: &HandOff, state: &State, node: usize, task: usize) -> Option<State> {
    if !takes_at_once(model, state, node, task) {
        return None;
    }
    let (mut next, session) = (state.clone(), state.session(node));
    next.tasks[task].admit_claimed(session.id());
    next.nodes[node].entries[task] = Entry::Claiming { handoff: 0, cancel: false };
    let mut claimed = [0; TASKS];
    claimed[task] = 1;
    let (take, rest, phase) = ([0; TASKS], [false; TASKS], Phase::Answered(claimed));
    next.claims.push(Claim { session, attached: true, take, rest, phase, message: None, fenced: false });
    Some(next)
}

/// Whether the node can tell this from a commit that was made is left open: here it cannot.
pub(super) fn admit_doubted(model: &HandOff, state: &State, node: usize, task: usize) -> Option<State> {
    if state.left.cuts == 0 || !takes_at_once(model, state, node, task) {
        return None;
    }
    let mut next = state.clone();
    spend(&mut next.left.cuts);
    next.tasks[task].admit();
    next.nodes[node].entries[task] = Entry::Doubtful { session: state.session(node) };
    Some(next)
}

/// Sorts out a delivery, as `Claims::begin` does: what is held here is left out, what does not fit is given back.
fn begin(next: &mut State, session: Session, message: Message, room: usize) -> Claim {
    let (mut take, mut rest) = ([0; TASKS], [false; TASKS]);
    let mut taken = 0;
    for (task, number) in message.numbers.into_iter().enumerate().filter(|(_, number)| *number > 0) {
        let entry = &mut next.nodes[session.node].entries[task];
        match *entry {
            Entry::Claiming { .. } => continue,
            Entry::Held { handoff, .. } if handoff >= number => continue,
            _ if taken >= room => {
                rest[task] = true;
                continue;
            }
            Entry::Held { .. } => {}
            Entry::Doubtful { .. } | Entry::Free => {
                *entry = Entry::Claiming { handoff: number, cancel: false };
            }
        }
        take[task] = number;
        taken += 1;
    }
    let message = Some(message);
    Claim { session, attached: true, take, rest, phase: Phase::Session, message, fenced: false }
}

/// Rows are locked by id and waited for.
pub(super) fn lock(model: &HandOff, state: &State, i: usize) -> Option<State> {
    let claim = &state.claims[i];
    if !claim.attached || claim.phase != Phase::Session {
        return None;
    }
    let mut locked = [false; TASKS];
    for (task, locked) in locked.iter_mut().enumerate() {
        if claim.take[task] == 0 && !claim.rest[task] {
            continue;
        }
        if !state.is_locked(task) {
            // A task that is not there has no row.
            *locked = state.tasks[task].life.is_some();
        } else if model.bug != Some(Bug::SkipLocked) {
            return None;
        }
    }
    let mut next = state.clone();
    next.claims[i].phase = Phase::Tasks(locked);
    Some(next)
}

pub(super) fn commit(model: &HandOff, state: &State, i: usize) -> Option<State> {
    let Phase::Tasks(locked) = state.claims[i].phase else { return None };
    let mut next = state.clone();
    let claim = next.claims.remove(i);
    let mut claimed = [0; TASKS];
    for task in (0..TASKS).filter(|task| locked[*task]) {
        let of = &mut next.tasks[task];
        if claim.take[task] > 0 {
            if of.happen(Command::Claim { session: claim.session.id() }) {
                claimed[task] = of.life.as_ref().map_or(0, |life| life.attempt);
            }
        } else if of.is_queued() {
            if model.bug == Some(Bug::ReturnKeepsNumber) {
                of.rows |= crate::state::row(of.handoff);
            } else {
                of.hand_off();
            }
        }
    }
    if claim.attached {
        next.claims.push(Claim { phase: Phase::Answered(claimed), ..claim });
    }
    Some(next)
}

/// A connection that is cut is noticed in the end. Until then its transaction keeps its locks.
pub(super) fn abort(state: &State, i: usize) -> Option<State> {
    if state.claims[i].attached {
        return None;
    }
    let mut next = state.clone();
    next.claims.remove(i);
    Some(next)
}

pub(super) fn answer(state: &State, node: usize) -> Option<State> {
    let i = state.claim_of(node)?;
    let Phase::Answered(claimed) = state.claims[i].phase else { return None };
    let mut next = state.clone();
    // Its message is acknowledged: it is in no queue any more.
    let claim = next.claims.remove(i);
    for task in (0..TASKS).filter(|task| claim.concerns(*task)) {
        let (attempt, before) = (claimed[task], next.nodes[node].entries[task]);
        let (handoff, cancel) = match before {
            Entry::Claiming { handoff, cancel } => (handoff, cancel),
            _ => (claim.take[task], false),
        };
        let entry = match before {
            // Gone. What was held before stays.
            Entry::Held { .. } if attempt == 0 => before,
            _ if attempt == 0 => Entry::Free,
            // Given up while the claim was under way: it is found to have no runner.
            _ if claim.fenced => Entry::Free,
            _ => Entry::Held { session: claim.session, attempt, handoff, cancel },
        };
        if let Entry::Held { session, attempt: earlier, .. } = before
            && attempt > 0
        {
            next.tasks[task].straggle(session, earlier);
        }
        next.nodes[node].entries[task] = entry;
    }
    Some(next)
}

/// The node does not know what became of its claim. The message is dropped, so the broker delivers it again; the
/// transaction, if it has not ended, is left to the server.
pub(super) fn cut(state: &State, node: usize) -> Option<State> {
    let i = state.claim_of(node)?;
    if state.left.cuts == 0 {
        return None;
    }
    let mut next = state.clone();
    spend(&mut next.left.cuts);
    let session = next.claims[i].session;
    for task in (0..TASKS).filter(|task| state.claims[i].concerns(*task)) {
        let entry = &mut next.nodes[node].entries[task];
        if matches!(entry, Entry::Claiming { .. }) {
            *entry = Entry::Doubtful { session };
        }
    }
    detach(&mut next, i);
    Some(next)
}

/// Nobody waits for a claim any more.
pub(super) fn detach(next: &mut State, i: usize) {
    let message = next.claims[i].message.take();
    next.requeue(message);
    if next.claims[i].is_open() {
        next.claims[i].attached = false;
    } else {
        next.claims.remove(i);
    }
}
