//! What must always hold.

use crate::HandOff;
use crate::action::{Action, candidates};
use crate::state::{State, TASKS, Task};
use crate::step::step;
use callboard_domain::State as Stands;
use stateright::Property;

/// In a state in which nothing is left to do but faults, every task that was admitted has ended.
pub const NONE_STRANDED: &str = "no task is stranded when all is quiet";
/// In such a state, so has every task whose cancel was asked for.
pub const CANCELS_END: &str = "every cancel ends";
/// At most one result of a task is recorded.
pub const ONE_RESULT: &str = "a result is recorded once";
/// No end of an attempt is recorded that does not hold the task.
pub const NONE_STALE: &str = "no stale attempt is recorded";
/// No task is RUNNING under a session that has ended: who looks for orphans finds none.
pub const NO_ORPHAN: &str = "nothing runs under a session that is over";
/// What is QUEUED has a row in the outbox, a message on its way, or was lost by the broker.
pub const ON_ITS_WAY: &str = "what is queued is on its way";
/// The repair hands off nothing that the broker has not lost, as long as its wait is long enough.
pub const NONE_NEEDLESS: &str = "only what the broker lost is repaired";

/// All of them.
pub(crate) fn always() -> Vec<Property<HandOff>> {
    vec![
        Property::always(NONE_STRANDED, |model: &HandOff, state: &State| {
            (0..TASKS).all(|task| is_settled(model, state, task)) || !is_quiescent(model, state)
        }),
        Property::always(CANCELS_END, |model: &HandOff, state: &State| {
            let waits = |task: &Task| {
                task.life.as_ref().is_some_and(|life| life.cancel_requested && !life.state.is_terminal())
            };
            !state.tasks.iter().any(waits) || !is_quiescent(model, state)
        }),
        Property::always(ONE_RESULT, |_: &HandOff, state: &State| {
            state.tasks.iter().all(|task| task.results <= 1)
        }),
        Property::always(NONE_STALE, |_: &HandOff, state: &State| state.tasks.iter().all(|task| !task.stale)),
        Property::always(NO_ORPHAN, |_: &HandOff, state: &State| {
            state.tasks.iter().all(|task| task.stands() != Some(Stands::Running) || has_owner(state, task))
        }),
        Property::always(ON_ITS_WAY, |_: &HandOff, state: &State| {
            (0..TASKS).all(|task| is_on_its_way(state, task))
        }),
        Property::always(NONE_NEEDLESS, |_: &HandOff, state: &State| !state.needless),
    ]
}

/// Whether nothing is left to do but what is nobody's duty.
pub(crate) fn is_quiescent(model: &HandOff, state: &State) -> bool {
    let mut actions = Vec::new();
    candidates(model, state, &mut actions);
    let mut duties = actions.into_iter().filter(|action: &Action| !action.is_optional());
    !duties.any(|action| step(model, state, action).is_some())
}

/// Whether a task has ended, or runs as it should until it is cancelled, or is not there.
fn is_settled(model: &HandOff, state: &State, task: usize) -> bool {
    let of = &state.tasks[task];
    let Some(life) = &of.life else { return true };
    let endless = model.scenario.endless && task == 0 && !life.cancel_requested;
    life.state.is_terminal()
        || (endless && state.nodes.iter().any(|node| node.live && node.up && node.holds(task, life.attempt)))
}

/// Whether the session that holds a task lives.
fn has_owner(state: &State, task: &Task) -> bool {
    (0..state.nodes.len()).any(|node| {
        let session = state.session(node);
        task.held_by(session).is_some() && state.is_live(session)
    })
}

fn is_on_its_way(state: &State, task: usize) -> bool {
    let of = &state.tasks[task];
    !of.is_queued() || of.lost || of.has_row(of.handoff) || state.travels(task, of.handoff)
}
