//! Attempts: what they write, how a cancel reaches them, and what is held by nobody.

use super::spend;
use crate::state::{EPOCH, Entry, Look, Session, State, TASKS, Task};
use crate::{Bug, HandOff};
use callboard_domain::{Command, Outcome, RetryPolicy, SessionId, TaskError};

/// How many failed attempts a task is allowed.
const MAX_ATTEMPTS: u32 = 3;

/// What a node holds of a task: the session, the attempt, and whether a cancel was asked for.
fn held(state: &State, node: usize, task: usize) -> Option<(Session, u32, bool)> {
    match state.nodes[node].entries[task] {
        Entry::Held { session, attempt, cancel, .. } if !state.is_locked(task) => {
            Some((session, attempt, cancel))
        }
        _ => None,
    }
}

/// Writes how an attempt ended, fenced by session and attempt. Returns whether it was taken.
fn record(
    model: &HandOff,
    next: &mut State,
    task: usize,
    (session, attempt): (Session, u32),
    outcome: Outcome,
) -> bool {
    let of = &mut next.tasks[task];
    let holds = of.held_by(session) == Some(attempt);
    let taken = if model.bug == Some(Bug::NoFence) && outcome == Outcome::Succeeded {
        overwrite(of)
    } else {
        finish(of, (session.id(), attempt), outcome)
    };
    of.stale |= taken && !holds;
    taken
}

fn finish(of: &mut Task, (session, attempt): (SessionId, u32), outcome: Outcome) -> bool {
    of.happen(Command::Finish { session, attempt, outcome, max_attempts: MAX_ATTEMPTS, now: EPOCH })
}

/// Whoever holds the task, and whatever its state is.
fn overwrite(of: &mut Task) -> bool {
    let holder = of.life.as_ref().and_then(|life| Some((life.session?, life.attempt)));
    if let Some(holder) = holder {
        return finish(of, holder, Outcome::Succeeded);
    }
    of.results += 1;
    true
}

/// The answer is heard: whatever it is, the attempt is over for its node.
fn end(model: &HandOff, state: &State, node: usize, task: usize, outcome: Outcome) -> Option<State> {
    let (session, attempt, _) = held(state, node, task)?;
    let mut next = state.clone();
    record(model, &mut next, task, (session, attempt), outcome);
    next.nodes[node].entries[task] = Entry::Free;
    Some(next)
}

/// Whether a handler ends by itself.
fn ends(model: &HandOff, task: usize) -> bool {
    task > 0 || !model.scenario.endless
}

pub(super) fn succeed(model: &HandOff, state: &State, node: usize, task: usize) -> Option<State> {
    if !ends(model, task) {
        return None;
    }
    end(model, state, node, task, Outcome::Succeeded)
}

pub(super) fn succeed_unheard(model: &HandOff, state: &State, node: usize, task: usize) -> Option<State> {
    let (session, attempt, _) = held(state, node, task)?;
    if state.left.cuts == 0 || !ends(model, task) {
        return None;
    }
    let mut next = state.clone();
    spend(&mut next.left.cuts);
    record(model, &mut next, task, (session, attempt), Outcome::Succeeded).then_some(next)
}

/// Its node hears of it later, when [`succeed`] finds that the attempt is over. Until then it may be handed the next
/// one.
pub(super) fn fail(model: &HandOff, state: &State, node: usize, task: usize) -> Option<State> {
    let (session, attempt, _) = held(state, node, task)?;
    if state.left.failures == 0 {
        return None;
    }
    let error = TaskError::new("HANDLER_FAILED", "it failed", true);
    let policy = RetryPolicy::default();
    let outcome = Outcome::Failed { error, policy, retry_after: None, jitter: 1.0 };
    let mut next = state.clone();
    spend(&mut next.left.failures);
    record(model, &mut next, task, (session, attempt), outcome).then_some(next)
}

pub(super) fn stop(model: &HandOff, state: &State, node: usize, task: usize) -> Option<State> {
    let (.., cancel) = held(state, node, task)?;
    if !cancel {
        return None;
    }
    end(model, state, node, task, Outcome::Cancelled)
}

/// By the renewal of the session that runs it, if nothing is faster.
pub(super) fn tell(state: &State, node: usize, task: usize) -> Option<State> {
    let life = state.tasks[task].life.as_ref()?;
    let ours = life.session == Some(state.session(node).id());
    if !life.cancel_requested || !ours || !state.nodes[node].live {
        return None;
    }
    let mut next = state.clone();
    match &mut next.nodes[node].entries[task] {
        Entry::Held { cancel, .. } | Entry::Claiming { cancel, .. } if !*cancel => *cancel = true,
        _ => return None,
    }
    Some(next)
}

/// With no claim under way, what is held in the store and not here never gets a runner.
pub(super) fn look(state: &State, node: usize) -> Option<State> {
    let of = &state.nodes[node];
    if !of.up || of.look.is_some() || state.claim_of(node).is_some() {
        return None;
    }
    let session = state.session(node);
    let (mut give_back, mut doubts) = ([0; TASKS], [false; TASKS]);
    for task in 0..TASKS {
        doubts[task] = matches!(of.entries[task], Entry::Doubtful { .. });
        let held = state.tasks[task].held_by(session);
        give_back[task] = held.filter(|attempt| !of.holds(task, *attempt)).unwrap_or(0);
    }
    if give_back == [0; TASKS] && doubts == [false; TASKS] {
        return None;
    }
    let mut next = state.clone();
    next.nodes[node].look = Some(Look { session, give_back, doubts });
    if give_back == [0; TASKS] {
        resolve(&mut next, node);
    }
    Some(next)
}

/// Fenced: what has ended since it was read is refused.
pub(super) fn give_back(state: &State, node: usize) -> Option<State> {
    let look = state.nodes[node].look.as_ref()?;
    let (session, found) = (look.session.id(), look.give_back);
    if (0..TASKS).any(|task| found[task] > 0 && state.is_locked(task)) {
        return None;
    }
    let mut next = state.clone();
    for task in (0..TASKS).filter(|task| found[*task] > 0) {
        next.tasks[task].happen(Command::GiveBack { session, attempt: found[task] });
    }
    resolve(&mut next, node);
    Some(next)
}

/// What the look stood in doubt about is known.
fn resolve(next: &mut State, node: usize) {
    let of = &mut next.nodes[node];
    let Some(look) = of.look.take() else { return };
    for (entry, doubt) in of.entries.iter_mut().zip(look.doubts) {
        if doubt && matches!(entry, Entry::Doubtful { .. }) {
            *entry = Entry::Free;
        }
    }
}

/// A result that was on its way when its node died or gave it up.
pub(super) fn straggle(model: &HandOff, state: &State, task: usize, i: usize) -> Option<State> {
    if state.is_locked(task) {
        return None;
    }
    let mut next = state.clone();
    let of = next.tasks[task].stragglers.remove(i);
    record(model, &mut next, task, of, Outcome::Succeeded);
    Some(next)
}
