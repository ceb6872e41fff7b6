//! What each action does: where the product's protocol is written down once more.
//!
//! A step looks whether it is possible before it copies the state, so a step that is not costs little.

mod claim;
mod relay;
mod repair;
mod run;
mod session;

use crate::HandOff;
use crate::action::Action;
use crate::state::State;
use callboard_domain::{Command, State as Stands, Timestamp};

/// A time at which everything is due.
const LATER: Timestamp = Timestamp::from_micros(i64::MAX);

/// The state after an action; none if it is not possible, or changes nothing.
pub(crate) fn step(model: &HandOff, state: &State, action: Action) -> Option<State> {
    let mut next = match action {
        Action::Admit(task) => admit(model, state, task),
        Action::AdmitTaken(node, task) => claim::admit_taken(model, state, node, task),
        Action::AdmitDoubted(node, task) => claim::admit_doubted(model, state, node, task),
        Action::PublishEarly(task) => relay::publish_early(state, task),
        Action::Cancel(task) => cancel(state, task),
        Action::Release(task) => release(state, task),
        Action::Publish(numbers) => relay::publish(model, state, numbers),
        Action::PublishAgain(numbers) => relay::publish_again(model, state, numbers),
        Action::Confirm(i) => relay::confirm(state, i),
        Action::LoseConfirm(i) => relay::lose_confirm(state, i),
        Action::LoseQueue => relay::lose_queue(state),
        Action::Declare => relay::declare(state),
        Action::Redeliver(node) => relay::redeliver(state, node),
        Action::Take(node) => claim::take(model, state, node),
        Action::Lock(i) => claim::lock(model, state, i),
        Action::Commit(i) => claim::commit(model, state, i),
        Action::Abort(i) => claim::abort(state, i),
        Action::Answer(node) => claim::answer(state, node),
        Action::Cut(node) => claim::cut(state, node),
        Action::Succeed(node, task) => run::succeed(model, state, node, task),
        Action::SucceedUnheard(node, task) => run::succeed_unheard(model, state, node, task),
        Action::Fail(node, task) => run::fail(model, state, node, task),
        Action::Stop(node, task) => run::stop(model, state, node, task),
        Action::Tell(node, task) => run::tell(state, node, task),
        Action::Look(node) => run::look(state, node),
        Action::GiveBack(node) => run::give_back(state, node),
        Action::Straggle(task, i) => run::straggle(model, state, task, i),
        Action::Kill(node) => session::kill(state, node),
        Action::End(node) => session::end(model, state, node),
        Action::Accuse(node) => session::accuse(model, state, node),
        Action::Requeue(node) => session::requeue(state, node),
        Action::Revive(node) => session::revive(state, node),
        Action::Mark => repair::mark(state),
        Action::MarkEarly => repair::mark_early(state),
        Action::Pass => repair::pass(state),
        Action::Settle => repair::settle(model, state),
    }?;
    next.claims.sort_unstable();
    next.published.sort_unstable();
    Some(next)
}

/// Uses one of what is left of a fault.
fn spend(left: &mut u8) {
    *left = left.saturating_sub(1);
}

/// One after the other: which is first makes no difference.
fn is_next(model: &HandOff, state: &State, task: usize) -> bool {
    let turn = state.tasks.iter().take(task).all(|before| before.life.is_some());
    task < model.scenario.tasks && state.tasks[task].life.is_none() && turn
}

fn admit(model: &HandOff, state: &State, task: usize) -> Option<State> {
    if !is_next(model, state, task) {
        return None;
    }
    let mut next = state.clone();
    next.tasks[task].admit();
    Some(next)
}

fn cancel(state: &State, task: usize) -> Option<State> {
    if state.left.cancels == 0 || state.is_locked(task) {
        return None;
    }
    let mut next = state.clone();
    spend(&mut next.left.cancels);
    next.tasks[task].happen(Command::Cancel).then_some(next)
}

fn release(state: &State, task: usize) -> Option<State> {
    if state.tasks[task].stands() != Some(Stands::Scheduled) || state.is_locked(task) {
        return None;
    }
    let mut next = state.clone();
    next.tasks[task].happen(Command::Release { now: LATER }).then_some(next)
}
