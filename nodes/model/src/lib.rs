//! A model of the hand-off of a cluster, small enough to be explored completely.
//!
//! Two tasks, two nodes, a store with its row locks and snapshots, an outbox, a queue of a broker, and the repair.
//! What a task's state becomes is not modelled: the product's own `Lifecycle` decides. The rest of the protocol is
//! written down once more in `step`, in the steps in which it can be interrupted: a claim takes the lock of its
//! session's row, then those of its tasks, then it commits, then its node hears of it, and between any two of them
//! everything else may happen.
//!
//! A [`Scenario`] says what may go wrong and how often, so that the states are finite. What must hold, and the
//! names of it, are the constants here; each scenario must also reach what it is there for, or its test fails. A
//! state is *quiescent* when nothing is left to do but faults and wishes; `explore_rounds` looks whether duties
//! can go round for ever: if not, each run becomes quiescent once the faults end. [`Bug`]s are planted by the tests.
//!
//! Deliberately simpler than the product:
//! - Whatever the store has committed counts as acknowledged, so an admission whose answer was lost is no case of
//!   its own.
//! - Nobody looks for orphans: [`NO_ORPHAN`] says that there are none to find.
//! - A write of one row that holds no lock while it waits for anything (finish, cancel, give-back) is one step.
//! - Time is when a step comes: a lease, a backoff and a patience end at any moment. Only the repair's wait after
//!   its marker is longer than what was delivered before it takes, unless a scenario says otherwise.
//! - No start is written, so no loss counts on the limit for losses; that is the state machine's, with its own
//!   property tests.
//! - One lane, one repairer, no priorities, no locks of Redis: nothing correct depends on them.
//!
//! The crate is a leaf: nothing of the product uses it.

mod action;
mod alike;
mod bug;
mod model;
mod properties;
mod reached;
mod rounds;
mod scenario;
mod state;
mod step;

pub use action::Action;
pub use bug::Bug;
pub use model::HandOff;
pub use properties::{
    CANCELS_END, NO_ORPHAN, NONE_NEEDLESS, NONE_STALE, NONE_STRANDED, ON_ITS_WAY, ONE_RESULT,
};
pub use rounds::explore as explore_rounds;
pub use scenario::{Budget, Scenario};
pub use state::State;
