//! The relay and the broker: from the outbox into the queue, and what can be lost there.

use super::spend;
use crate::state::{Message, Number, PerTask, State, TASKS, row};
use crate::{Bug, HandOff};

/// Whether a publication of this row waits for its confirm.
fn is_open(state: &State, task: usize, number: Number) -> bool {
    state.published.iter().any(|numbers| numbers[task] == number)
}

fn carried(numbers: &PerTask<Number>) -> impl Iterator<Item = (usize, Number)> + '_ {
    numbers.iter().copied().enumerate().filter(|(_, number)| *number > 0)
}

/// A row is leased to one relay at a time, for longer than a confirm takes.
pub(super) fn publish(model: &HandOff, state: &State, numbers: PerTask<Number>) -> Option<State> {
    if carried(&numbers).any(|(task, number)| is_open(state, task, number)) {
        return None;
    }
    send(model, state, numbers)
}

pub(super) fn publish_again(model: &HandOff, state: &State, numbers: PerTask<Number>) -> Option<State> {
    if state.left.late == 0 || !carried(&numbers).all(|(task, number)| is_open(state, task, number)) {
        return None;
    }
    let mut next = send(model, state, numbers)?;
    spend(&mut next.left.late);
    Some(next)
}

fn send(model: &HandOff, state: &State, numbers: PerTask<Number>) -> Option<State> {
    let mut next = state.clone();
    match &mut next.queue {
        Some(queue) => {
            queue.push(Message::new(numbers));
            for (task, number) in carried(&numbers) {
                let task = &mut next.tasks[task];
                task.lost &= task.handoff != number;
            }
        }
        None if model.bug == Some(Bug::ReturnedIsConfirmed) => {}
        // It is returned, so nothing was published: the queue is declared, then it is tried again.
        None => return None,
    }
    if model.scenario.prompt {
        delete_rows(&mut next, &numbers);
    } else {
        next.published.push(numbers);
    }
    Some(next)
}

fn delete_rows(next: &mut State, numbers: &PerTask<Number>) {
    for (task, number) in carried(numbers) {
        next.tasks[task].rows &= !row(number);
    }
}

/// With the number the task will have.
pub(super) fn publish_early(state: &State, task: usize) -> Option<State> {
    if state.tasks[task].life.is_some() || is_open(state, task, 1) || state.travels(task, 1) {
        return None;
    }
    let mut next = state.clone();
    let mut numbers = [0; TASKS];
    numbers[task] = 1;
    next.queue.as_mut()?.push(Message::new(numbers));
    next.published.push(numbers);
    Some(next)
}

/// Deletes exactly the rows that were published.
pub(super) fn confirm(state: &State, i: usize) -> Option<State> {
    let mut next = state.clone();
    let numbers = next.published.remove(i);
    delete_rows(&mut next, &numbers);
    Some(next)
}

pub(super) fn lose_confirm(state: &State, i: usize) -> Option<State> {
    if state.left.lost_confirms == 0 {
        return None;
    }
    let mut next = state.clone();
    next.published.remove(i);
    spend(&mut next.left.lost_confirms);
    Some(next)
}

/// With it go the messages that are delivered: their acknowledgements mean nothing any more.
pub(super) fn lose_queue(state: &State) -> Option<State> {
    if state.left.lost_queues == 0 || state.queue.is_none() {
        return None;
    }
    let mut next = state.clone();
    spend(&mut next.left.lost_queues);
    for (i, task) in next.tasks.iter_mut().enumerate() {
        task.lost |= task.is_queued() && state.travels(i, task.handoff);
    }
    next.queue = None;
    next.claims.iter_mut().for_each(|claim| claim.message = None);
    Some(next)
}

/// Whoever finds the queue gone declares it, and tells the repair: a marker that was in it will not come.
pub(super) fn declare(state: &State) -> Option<State> {
    if state.queue.is_some() {
        return None;
    }
    let mut next = state.clone();
    next.queue = Some(Vec::new());
    next.marked = next.marked.filter(|marked| marked.passed);
    Some(next)
}

pub(super) fn redeliver(state: &State, node: usize) -> Option<State> {
    let i = state.claim_of(node)?;
    if state.left.redeliveries == 0 || state.claims[i].message.is_none() {
        return None;
    }
    let mut next = state.clone();
    spend(&mut next.left.redeliveries);
    let message = next.claims[i].message.take();
    next.requeue(message);
    Some(next)
}
