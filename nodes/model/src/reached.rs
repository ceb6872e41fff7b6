//! What each scenario must reach: else what holds in it proves nothing.

use crate::HandOff;
use crate::properties::is_quiescent;
use crate::scenario::Scenario;
use crate::state::{Claim, Entry, Phase, State, TASKS, Task};
use callboard_domain::State as Stands;
use stateright::Property;

type Condition = fn(&HandOff, &State) -> bool;

/// Those of a scenario, by what may go wrong in it.
pub(crate) fn sometimes(model: &HandOff) -> Vec<Property<HandOff>> {
    let Scenario { budget, slots, tasks, endless, direct, .. } = model.scenario;
    let ends = budget.accusations + budget.kills > 0;
    let both = tasks == TASKS && !endless;
    let some: [(bool, &'static str, Condition); 14] = [
        (both, "both tasks succeed and all is quiet", both_succeed),
        (tasks == TASKS && slots.contains(&1), "a message is taken in part", |_, s| {
            s.claims.iter().any(is_partial)
        }),
        (budget.cuts > 0, "a claim commits and its node does not hear of it", |_, s| any(s, commits_unheard)),
        (budget.cuts > 0, "a cut connection keeps a lock that another claim waits for", |_, s| {
            any(s, is_waited_for)
        }),
        (budget.late > 0, "a confirm comes after a later hand-off was written", |_, s| any(s, is_overtaken)),
        (budget.redeliveries + budget.late > 0, "a task is delivered that runs already", |_, s| {
            any(s, comes_twice)
        }),
        (ends && !endless, "what an ended session had succeeds after it", |_, s| any(s, succeeds_after)),
        (ends, "the end of an attempt comes too late", |_, s| any(s, is_stale)),
        (budget.accusations > 0, "a node comes back and claims again", claims_again),
        (budget.lost_queues > 0, "what the broker lost is repaired", |_, s| any(s, is_repaired)),
        (budget.cancels > 0, "a running task is cancelled", |_, s| any(s, is_stopped)),
        (direct, "a task that was never handed off succeeds", |_, s| any(s, never_handed_off)),
        (direct && ends, "a task that was claimed as it was admitted is lost", |_, s| {
            any(s, first_handed_off)
        }),
        (budget.failures > 0, "a task that failed succeeds", |_, s| any(s, succeeds_again)),
    ];
    let possible = some.into_iter().filter(|(possible, ..)| *possible);
    possible.map(|(_, name, condition)| Property::sometimes(name, condition)).collect()
}

fn any(state: &State, is: fn(&State, usize, &Task) -> bool) -> bool {
    state.tasks.iter().enumerate().any(|(i, task)| is(state, i, task))
}

fn both_succeed(model: &HandOff, state: &State) -> bool {
    state.tasks.iter().all(|task| task.stands() == Some(Stands::Succeeded)) && is_quiescent(model, state)
}

fn is_partial(claim: &Claim) -> bool {
    claim.rest != [false; TASKS] && claim.take != [0; TASKS]
}

fn commits_unheard(state: &State, i: usize, task: &Task) -> bool {
    state.nodes.iter().any(|node| match node.entries[i] {
        Entry::Doubtful { session } => task.held_by(session).is_some(),
        _ => false,
    })
}

fn is_waited_for(state: &State, i: usize, _: &Task) -> bool {
    let waits = |claim: &Claim| claim.phase == Phase::Session && claim.take[i] > 0;
    state.claims.iter().any(|claim| !claim.attached && claim.locks(i)) && state.claims.iter().any(waits)
}

fn is_overtaken(state: &State, i: usize, task: &Task) -> bool {
    let late = |number: u8| number > 0 && task.handoff > number && task.has_row(task.handoff);
    state.published.iter().any(|numbers| late(numbers[i]))
}

fn comes_twice(state: &State, i: usize, task: &Task) -> bool {
    let first = state.queue.as_ref().and_then(|queue| queue.first());
    task.stands() == Some(Stands::Running) && first.is_some_and(|message| message.numbers[i] > 0)
}

fn succeeds_after(_: &State, _: usize, task: &Task) -> bool {
    task.stands() == Some(Stands::Succeeded) && !task.stragglers.is_empty() && task.results == 1
}

fn is_stale(_: &State, _: usize, task: &Task) -> bool {
    task.stragglers.iter().any(|(session, attempt)| task.held_by(*session) != Some(*attempt))
}

fn claims_again(_: &HandOff, state: &State) -> bool {
    let again = |entry: &Entry| matches!(entry, Entry::Held { session, .. } if session.life > 1);
    state.nodes.iter().any(|node| node.entries.iter().any(again))
}

fn is_repaired(state: &State, i: usize, task: &Task) -> bool {
    let passed = state.marked.as_ref().filter(|marked| marked.passed);
    task.lost && passed.is_some_and(|marked| marked.suspects[i] == task.handoff)
}

fn is_stopped(_: &State, _: usize, task: &Task) -> bool {
    task.life.as_ref().is_some_and(|life| life.state == Stands::Cancelled && life.attempt > 0)
}

fn never_handed_off(_: &State, _: usize, task: &Task) -> bool {
    task.stands() == Some(Stands::Succeeded) && task.handoff == 0
}

fn first_handed_off(_: &State, _: usize, task: &Task) -> bool {
    task.handoff == 1 && task.is_queued() && task.life.as_ref().is_some_and(|life| life.attempt > 0)
}

fn succeeds_again(_: &State, _: usize, task: &Task) -> bool {
    task.life.as_ref().is_some_and(|life| life.state == Stands::Succeeded && life.failures > 0)
}
