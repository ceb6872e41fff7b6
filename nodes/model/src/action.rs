//! What can happen next.

use crate::scenario::Scenario;
use crate::state::{Message, NODES, Number, PerTask, State, TASKS};
use crate::{Bug, HandOff};

/// One step: of the product, of its clients, or of fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A task is admitted: task and outbox row in one commit.
    Admit(usize),
    /// A task is admitted and claimed by a node, in one commit.
    AdmitTaken(usize, usize),
    /// The same, but the commit had no answer and was not made: asked after, the task is admitted alone.
    AdmitDoubted(usize, usize),
    /// A task is published before its admission commits: a bug.
    PublishEarly(usize),
    /// Somebody cancels a task.
    Cancel(usize),
    /// A task's time has come.
    Release(usize),

    /// Rows are published as one message: one of each task.
    Publish(PerTask<Number>),
    /// The same of rows whose confirm has not come yet.
    PublishAgain(PerTask<Number>),
    /// The confirm of a publication comes, however late, and its rows are deleted.
    Confirm(usize),
    /// The confirm of a publication will never come.
    LoseConfirm(usize),
    /// The queue is gone.
    LoseQueue,
    /// A node declares the queue anew.
    Declare,
    /// A node's channel closes: the message of its claim comes again.
    Redeliver(usize),

    /// A node takes the first message, and its claim holds the session's row.
    Take(usize),
    /// A claim holds the tasks' rows and has decided.
    Lock(usize),
    /// A claim commits.
    Commit(usize),
    /// The server ends a claim's transaction whose connection was cut.
    Abort(usize),
    /// A node hears that its claim has committed: it acknowledges and runs.
    Answer(usize),
    /// A node's connection is cut while its claim is under way.
    Cut(usize),

    /// An attempt succeeds and that is recorded.
    Succeed(usize, usize),
    /// The same, but its node hears no answer and will ask again.
    SucceedUnheard(usize, usize),
    /// An attempt fails and is tried again later.
    Fail(usize, usize),
    /// An attempt stops because a cancel was asked for.
    Stop(usize, usize),
    /// A node learns that a cancel was asked for: by a call, a renewal, or its own look.
    Tell(usize, usize),
    /// A node compares what it runs with what the store says it holds.
    Look(usize),
    /// A node gives back what it has found to have no runner.
    GiveBack(usize),
    /// The success of an attempt that its node has given up reaches the store.
    Straggle(usize, usize),

    /// A process is killed.
    Kill(usize),
    /// Somebody takes the session of a killed process FOR UPDATE, to end it.
    End(usize),
    /// The other node does so to one that lives.
    Accuse(usize),
    /// The session is ended and its tasks are queued again, with a new snapshot.
    Requeue(usize),
    /// A node finds its session over, gives up what it held under it, and opens another.
    Revive(usize),

    /// The repair notes the suspects and publishes a marker behind them.
    Mark,
    /// The same though nothing is lost.
    MarkEarly,
    /// The marker is consumed.
    Pass,
    /// The repair hands off again what is suspect still.
    Settle,
}

impl Action {
    /// Whether it is nobody's duty: a fault, or a client's wish. A state in which only such steps are left is
    /// quiescent.
    #[must_use]
    pub const fn is_optional(self) -> bool {
        matches!(
            self,
            Self::Admit(_)
                | Self::AdmitTaken(..)
                | Self::AdmitDoubted(..)
                | Self::PublishEarly(_)
                | Self::Cancel(_)
                | Self::PublishAgain(_)
                | Self::LoseConfirm(_)
                | Self::LoseQueue
                | Self::Redeliver(_)
                | Self::Cut(_)
                | Self::SucceedUnheard(..)
                | Self::Fail(..)
                | Self::Straggle(..)
                | Self::Kill(_)
                | Self::Accuse(_)
                | Self::MarkEarly
        )
    }
}

/// Every action that may be possible in a state. Which are, their steps decide.
pub(crate) fn candidates(model: &HandOff, state: &State, actions: &mut Vec<Action>) {
    let Scenario { repair, .. } = model.scenario;
    for (i, claim) in state.claims.iter().enumerate() {
        actions.extend([Action::Lock(i), Action::Commit(i)]);
        if !claim.attached {
            actions.push(Action::Abort(i));
        }
    }
    (0..state.published.len()).for_each(|i| actions.extend([Action::Confirm(i), Action::LoseConfirm(i)]));
    for node in 0..NODES {
        of_node(state, node, actions);
    }
    for task in 0..TASKS {
        of_task(model, state, task, actions);
    }
    publications(state, actions);
    actions.extend([Action::LoseQueue, Action::Declare]);
    if repair {
        actions.extend([Action::Mark, Action::MarkEarly, Action::Pass, Action::Settle]);
    }
}

fn of_node(state: &State, node: usize, actions: &mut Vec<Action>) {
    let takes =
        state.queue.as_ref().and_then(|queue| queue.first()).is_some_and(|m: &Message| !m.is_marker());
    if takes {
        actions.push(Action::Take(node));
    }
    if state.claim_of(node).is_some() {
        actions.extend([Action::Answer(node), Action::Cut(node), Action::Redeliver(node)]);
    }
    for task in 0..TASKS {
        if state.nodes[node].busy() > 0 {
            actions.extend([
                Action::Succeed(node, task),
                Action::SucceedUnheard(node, task),
                Action::Fail(node, task),
                Action::Stop(node, task),
                Action::Tell(node, task),
            ]);
        }
    }
    actions.extend([
        Action::Look(node),
        Action::GiveBack(node),
        Action::End(node),
        Action::Accuse(node),
        Action::Requeue(node),
        Action::Revive(node),
        Action::Kill(node),
    ]);
}

fn of_task(model: &HandOff, state: &State, task: usize, actions: &mut Vec<Action>) {
    actions.extend([Action::Admit(task), Action::Cancel(task), Action::Release(task)]);
    if model.scenario.direct {
        (0..NODES).for_each(|node| {
            actions.extend([Action::AdmitTaken(node, task), Action::AdmitDoubted(node, task)])
        });
    }
    (0..state.tasks[task].stragglers.len()).for_each(|i| actions.push(Action::Straggle(task, i)));
    if model.bug == Some(Bug::PublishBeforeCommit) {
        actions.push(Action::PublishEarly(task));
    }
}

/// Every row alone, and every row of one task with every row of the other.
fn publications(state: &State, actions: &mut Vec<Action>) {
    let both = [Action::Publish, Action::PublishAgain];
    for first in state.tasks[0].numbers() {
        actions.extend(both.map(|publish| publish([first, 0])));
        for second in state.tasks[1].numbers() {
            actions.extend(both.map(|publish| publish([first, second])));
        }
    }
    for second in state.tasks[1].numbers() {
        actions.extend(both.map(|publish| publish([0, second])));
    }
}
