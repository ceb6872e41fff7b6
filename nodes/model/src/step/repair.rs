//! The repair: suspects, the marker behind them, and what is still suspect when it has passed.

use super::spend;
use crate::HandOff;
use crate::state::{Marked, Message, Number, PerTask, State, TASKS};

/// The hand-offs of tasks that are QUEUED without a row.
fn suspects(state: &State) -> PerTask<Number> {
    let mut suspects = [0; TASKS];
    for (task, suspect) in state.tasks.iter().zip(&mut suspects) {
        if task.is_queued() && !task.has_row(task.handoff) {
            *suspect = task.handoff;
        }
    }
    suspects
}

/// It looks every few seconds. Here it must look where something is missing; [`mark_early`] is any other look.
pub(super) fn mark(state: &State) -> Option<State> {
    let suspects = suspects(state);
    let missing = |task: usize| suspects[task] > 0 && !state.travels(task, suspects[task]);
    if !(0..TASKS).any(missing) {
        return None;
    }
    note(state, suspects)
}

pub(super) fn mark_early(state: &State) -> Option<State> {
    let suspects = suspects(state);
    if state.left.looks == 0 || suspects == [0; TASKS] {
        return None;
    }
    let mut next = note(state, suspects)?;
    spend(&mut next.left.looks);
    Some(next)
}

/// Noted first, then marked: the marker comes behind all of them.
fn note(state: &State, suspects: PerTask<Number>) -> Option<State> {
    if state.marked.is_some() {
        return None;
    }
    let mut next = state.clone();
    next.queue.as_mut()?.push(Message::MARKER);
    next.marked = Some(Marked { suspects, passed: false });
    Some(next)
}

pub(super) fn pass(state: &State) -> Option<State> {
    state.queue.as_ref()?.first().filter(|message| message.is_marker())?;
    let mut next = state.clone();
    next.queue.as_mut()?.remove(0);
    if let Some(marked) = &mut next.marked {
        marked.passed = true;
    }
    Some(next)
}

/// What is QUEUED at the same number without a row is handed off again.
pub(super) fn settle(model: &HandOff, state: &State) -> Option<State> {
    let marked = state.marked.as_ref().filter(|marked| marked.passed)?;
    // What was delivered before the marker is settled by then, and so is what came back since.
    let unsettled = state.claims.iter().any(|claim| claim.message.is_some())
        || state.queue.iter().flatten().any(|message| message.again);
    if model.scenario.patient && unsettled {
        return None;
    }
    let noted = marked.suspects;
    if (0..TASKS).any(|task| noted[task] > 0 && state.is_locked(task)) {
        return None;
    }
    let mut next = state.clone();
    next.marked = None;
    for (task, now) in suspects(state).into_iter().enumerate() {
        if now > 0 && now == noted[task] {
            next.needless |= model.scenario.patient && !state.tasks[task].lost;
            next.tasks[task].hand_off();
        }
    }
    Some(next)
}
